"""`groundwork migrate new`: the files that it creates."""

import errno
from datetime import UTC, datetime
from pathlib import Path

import pytest

from db.migrator import SourceError, UnknownMigration, new_migration, read_source


def test_a_new_migration_gets_the_next_number(tmp_path: Path) -> None:
    (tmp_path / "0041_a.up.sql").write_text("SELECT 1")
    paths = new_migration(tmp_path, "Users email")
    assert [path.name for path in paths] == ["0042_users_email.up.sql", "0042_users_email.down.sql"]
    assert [m.version for m in read_source(tmp_path)] == [41, 42]


def test_a_down_file_without_an_up_file_uses_up_its_number(tmp_path: Path) -> None:
    (tmp_path / "0001_a.up.sql").write_text("SELECT 1")
    (tmp_path / "0002_old.down.sql").write_text("SELECT 1")
    assert [path.name for path in new_migration(tmp_path, "b")] == ["0003_b.up.sql", "0003_b.down.sql"]


def test_a_name_that_is_too_long_for_a_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnknownMigration, match="has 201 characters; use at most 200"):
        new_migration(tmp_path, "a" * 201)
    assert list(tmp_path.iterdir()) == []
    assert len(new_migration(tmp_path, "a" * 200)) == 2


@pytest.mark.parametrize("newest", ["20240131120000", "+20240131120000"])
def test_a_folder_with_timestamps_gets_the_current_one(tmp_path: Path, newest: str) -> None:
    (tmp_path / f"{newest}_a.sql").write_text("SELECT 1")
    before = datetime.now(UTC).strftime("%Y%m%d%H%M%S")
    up, down = new_migration(tmp_path, "b")
    version = up.name.removesuffix("_b.up.sql")
    assert before <= version <= datetime.now(UTC).strftime("%Y%m%d%H%M%S")
    assert down.name == f"{version}_b.down.sql"


@pytest.mark.parametrize(
    ("newest", "expected"),
    [
        # A clock was ahead, and the next second is in the next year.
        ("29991231235959", "30000101000000"),
        # Not a moment, although it has as many digits.
        ("20240131126100", "20240131126101"),
        ("0009", "0010"),
        ("20240131", "20240132"),
    ],
)
def test_the_next_version_follows_the_kind_of_the_newest(tmp_path: Path, newest: str, expected: str) -> None:
    (tmp_path / f"{newest}_a.sql").write_text("SELECT 1")
    assert new_migration(tmp_path, "b")[0].name == f"{expected}_b.up.sql"


def test_two_files_within_a_second_get_different_timestamps(tmp_path: Path) -> None:
    versions = {new_migration(tmp_path, f"n{n}", versioning="timestamp")[0].name[:14] for n in range(3)}
    assert len(versions) == 3


def test_the_settings_of_a_project_override_the_inferred_kind(tmp_path: Path) -> None:
    (tmp_path / "20240131120000_a.sql").write_text("SELECT 1")
    assert new_migration(tmp_path, "b", versioning="sequential")[0].name == "20240131120001_b.up.sql"
    (path,) = new_migration(tmp_path, "c", versioning="sequential", is_reversible=False)
    assert path.name == "20240131120002_c.sql"
    assert [m.down is None for m in read_source(tmp_path)] == [True, False, True]


def test_a_new_migration_may_run_outside_a_transaction(tmp_path: Path) -> None:
    new_migration(tmp_path, "index", no_transaction=True)
    (migration,) = read_source(tmp_path)
    assert migration.up.no_transaction
    assert migration.down is not None
    assert migration.down.no_transaction


@pytest.mark.parametrize("name", ["", "../up", "ünter", "a__b", "a.b"])
def test_a_name_that_would_not_make_a_file_name_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UnknownMigration, match="not a valid name for a migration"):
        new_migration(tmp_path, name)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, target: str) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "hardlink_to", full)
    with pytest.raises(SourceError, match=r"cannot write .*0001_a\.up\.sql: No space left on device"):
        new_migration(tmp_path, "a")
    assert list(tmp_path.iterdir()) == []
