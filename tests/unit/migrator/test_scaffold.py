"""`groundwork migrate new`: the files that it creates."""

import errno
from pathlib import Path

import pytest

from db.migrator import SourceError, UnknownMigration, new_migration, read_source


def test_a_new_migration_gets_the_next_number(tmp_path: Path) -> None:
    (tmp_path / "0041_a.up.sql").write_text("SELECT 1")
    paths = new_migration(tmp_path, "Users email")
    assert [path.name for path in paths] == ["0042_users_email.up.sql", "0042_users_email.down.sql"]
    assert [m.version for m in read_source(tmp_path)] == [41, 42]


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
