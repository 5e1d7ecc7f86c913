"""Reading the folder of migrations, by sqlx's rules."""

import errno
import os
from pathlib import Path

import pytest

from db.migrator import MIGRATIONS_FOLDER, SourceError, UnknownMigration, read_source
from tests.promises import promise

# `printf '' | sha384sum`
SHA384_OF_NOTHING = (
    "38b060a751ac96384cd9327eb1b1e36a21fdb71114be07434c0cc7bf63f6e1da274edebfe76f65fbd51ad2f14898b95b"
)
# printf '%s' 'SELECT 1;\r\n' with a real CR and LF, through sha384sum
SHA384_OF_CRLF = (
    "17397e2e60835e677161a3f8f86849089bb0b9ac29484fca0511f769d62d8c2e143ab512c903b43a60a01ad7452c86c6"
)


def write(folder: Path, **files: str | bytes) -> None:
    for name, content in files.items():
        raw = content if isinstance(content, bytes) else content.encode()
        (folder / name).write_bytes(raw)


def test_an_empty_file_has_sqlxs_checksum_of_empty_text(tmp_path: Path) -> None:
    write(tmp_path, **{"1_a.sql": ""})
    assert read_source(tmp_path)[0].checksum.hex() == SHA384_OF_NOTHING


def test_the_checksum_is_of_the_raw_bytes(tmp_path: Path) -> None:
    write(tmp_path, **{"1_a.up.sql": b"SELECT 1;\r\n", "1_a.down.sql": b"SELECT 2;"})
    assert read_source(tmp_path)[0].checksum.hex() == SHA384_OF_CRLF


@pytest.mark.parametrize(
    ("name", "version", "description"),
    [
        ("0007_users_email.up.sql", 7, "users email"),
        ("7_users.sql", 7, "users"),
        ("+7_users.sql", 7, "users"),
        ("-7_users.sql", -7, "users"),
        ("20240131120000_a__b.sql", 20240131120000, "a  b"),
        ("9223372036854775807_last.sql", 2**63 - 1, "last"),
        ("1_twice.sql.sql", 1, "twice"),
        ("1_a.b.up.sql", 1, "a.b"),
        ("1_.sql", 1, ""),
    ],
)
def test_a_file_name_contains_version_and_description(
    tmp_path: Path, name: str, version: int, description: str
) -> None:
    write(tmp_path, **{name: "SELECT 1"})
    (migration,) = read_source(tmp_path)
    assert (migration.version, migration.description) == (version, description)


@pytest.mark.parametrize("name", ["README.md", "notes.sql", "1_notes.txt", "1_a.SQL", ".sql"])
def test_other_files_are_ignored(tmp_path: Path, name: str) -> None:
    write(tmp_path, **{name: "SELECT 1"})
    assert read_source(tmp_path) == ()


def test_subfolders_are_not_read(tmp_path: Path) -> None:
    (tmp_path / "1_old.sql").mkdir()
    (tmp_path / "more").mkdir()
    write(tmp_path / "more", **{"2_b.sql": "SELECT 1"})
    assert read_source(tmp_path) == ()


@pytest.mark.parametrize(
    "name", ["a_b.sql", "_b.sql", "1 _b.sql", "1.0_b.sql", "+_b.sql", "٣_b.sql", "9223372036854775808_b.sql"]
)
def test_a_version_that_is_not_a_64_bit_number_is_refused_by_name(tmp_path: Path, name: str) -> None:
    write(tmp_path, **{name: "SELECT 1"})
    with pytest.raises(SourceError, match="does not begin with a version") as caught:
        read_source(tmp_path)
    assert name in str(caught.value)


def test_a_number_that_only_python_accepts_is_refused(tmp_path: Path) -> None:
    # int("１") is 1. The name must be split at its first underscore, so "1_0" has version 1.
    write(tmp_path, **{"１_b.sql": "SELECT 1"})
    with pytest.raises(SourceError):
        read_source(tmp_path)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("1_a.up.sql", "1_b.up.sql"),
        ("1_a.up.sql", "01_a.up.sql"),
        ("1_a.sql", "1_a.up.sql"),
        ("1_a.down.sql", "1_b.down.sql"),
    ],
)
def test_two_files_with_one_version_and_kind_are_refused_naming_both(
    tmp_path: Path, first: str, second: str
) -> None:
    write(tmp_path, **{first: "SELECT 1", second: "SELECT 1"})
    with pytest.raises(SourceError) as caught:
        read_source(tmp_path)
    assert first in str(caught.value)
    assert second in str(caught.value)


def test_a_down_file_without_its_up_file_is_ignored_with_a_warning(tmp_path: Path) -> None:
    write(tmp_path, **{"1_a.up.sql": "SELECT 1", "2_b.down.sql": "SELECT 1"})
    warnings: list[str] = []
    assert [m.version for m in read_source(tmp_path, warn=warnings.append)] == [1]
    assert warnings == ["2_b.down.sql has no up file, so it is ignored; add 2_b.up.sql or remove it"]


def test_a_simple_migration_may_have_a_down_file(tmp_path: Path) -> None:
    write(tmp_path, **{"1_a.sql": "SELECT 1", "1_a.down.sql": "SELECT 2"})
    (migration,) = read_source(tmp_path)
    assert (migration.name, migration.up.sql) == ("1_a", "SELECT 1")
    assert migration.down is not None
    assert migration.down.sql == "SELECT 2"


def test_versions_are_ordered_as_numbers(tmp_path: Path) -> None:
    write(tmp_path, **{"10_c.sql": "", "9_b.sql": "", "-1_a.sql": ""})
    assert [m.version for m in read_source(tmp_path)] == [-1, 9, 10]


@pytest.mark.parametrize(
    ("text", "is_outside"),
    [
        ("-- no-transaction\nVACUUM", True),
        ("-- no-transaction, because of the index\nVACUUM", True),
        ("-- No-Transaction\nSELECT 1", False),
        ("\n-- no-transaction\nSELECT 1", False),
        ("\ufeff-- no-transaction\nSELECT 1", False),
        ("--no-transaction\nSELECT 1", False),
    ],
)
def test_the_no_transaction_header_must_start_at_the_first_byte(
    tmp_path: Path, text: str, is_outside: bool
) -> None:
    write(tmp_path, **{"1_a.sql": text})
    assert read_source(tmp_path)[0].up.no_transaction is is_outside


@pytest.mark.parametrize(
    "statement",
    ["VACUUM", "create index concurrently i ON t (a)", "DROP DATABASE d", "REINDEX TABLE CONCURRENTLY t"],
)
def test_a_no_transaction_script_of_several_statements_may_have_none_that_runs_alone(
    tmp_path: Path, statement: str
) -> None:
    write(tmp_path, **{"1_a.sql": f"-- no-transaction\nSELECT 1;\n\n{statement};\n"})
    with pytest.raises(SourceError, match=r"1_a\.sql:4: .* only statement of a no-transaction migration"):
        read_source(tmp_path)[0].up.check()


def test_a_no_transaction_script_of_several_other_statements_runs_in_a_transaction(tmp_path: Path) -> None:
    sql = "-- no-transaction\nALTER TYPE e ADD VALUE 'b';\nREFRESH MATERIALIZED VIEW CONCURRENTLY v;\n"
    write(tmp_path, **{"1_a.sql": sql})
    script = read_source(tmp_path)[0].up
    script.check()
    assert (script.runs_alone, script.is_atomic) == (False, True)


@pytest.mark.parametrize(
    "statement", ["PREPARE TRANSACTION 'a'", "COMMIT PREPARED 'a'", "rollback  prepared 'a'"]
)
def test_a_script_with_a_two_phase_commit_is_refused(tmp_path: Path, statement: str) -> None:
    write(tmp_path, **{"1_a.sql": f"SELECT 1;\n{statement};\n"})
    with pytest.raises(SourceError, match=r"1_a\.sql:2: .*two-phase"):
        read_source(tmp_path)[0].up.check()


@promise("COPY with the rows in the file is refused by name before anything runs")
@pytest.mark.parametrize(
    ("statement", "fix"),
    [
        ("COPY t (a) FROM stdin", "INSERT"),
        ("copy t from /* here */ STDIN WITH (FORMAT csv)", "INSERT"),
        ("COPY (SELECT 1) TO STDOUT", "remove it"),
    ],
)
def test_a_copy_through_the_client_is_refused(tmp_path: Path, statement: str, fix: str) -> None:
    write(tmp_path, **{"1_a.sql": f"SELECT 1;\n{statement};\n1\n\\.\n"})
    with pytest.raises(SourceError, match=rf"1_a\.sql:2: `{statement.split()[0]} .*{fix}"):
        read_source(tmp_path)[0].up.check()


@promise("COPY with the rows in the file is refused by name before anything runs", control=True)
@pytest.mark.parametrize(
    "statement", ["COPY t FROM '/tmp/stdin'", "COPY \"stdin\" TO PROGRAM 'cat'", "SELECT 'COPY t FROM stdin'"]
)
def test_a_copy_on_the_server_is_not_refused(tmp_path: Path, statement: str) -> None:
    write(tmp_path, **{"1_a.sql": statement})
    read_source(tmp_path)[0].up.check()


@pytest.mark.parametrize(
    "statement", ["SAVEPOINT a", "ROLLBACK TO a", "ROLLBACK TRANSACTION TO SAVEPOINT a", "DO $$ BEGIN END $$"]
)
def test_a_script_may_use_savepoints_and_blocks(tmp_path: Path, statement: str) -> None:
    write(tmp_path, **{"1_a.sql": f"SELECT 1;\n{statement};\n"})
    read_source(tmp_path)[0].up.check()


def test_a_concurrent_index_without_a_name_is_warned_about(tmp_path: Path) -> None:
    write(tmp_path, **{"1_a.sql": "-- no-transaction\nCREATE INDEX CONCURRENTLY ON t (a)"})
    (problem,) = read_source(tmp_path)[0].up.problems
    assert (problem.line, problem.rule, problem.is_fatal) == (2, "nameless-index", False)


def test_a_concurrent_index_with_a_quoted_name_is_accepted(tmp_path: Path) -> None:
    write(tmp_path, **{"1_a.sql": '-- no-transaction\nCREATE INDEX CONCURRENTLY "i" ON t (a)'})
    assert read_source(tmp_path)[0].up.problems == ()


def test_a_file_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    write(tmp_path, **{"1_a.sql": b"SELECT '\xe4'"})
    with pytest.raises(SourceError, match=r"1_a\.sql is not UTF-8"):
        read_source(tmp_path)


def test_a_missing_folder_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(UnknownMigration, match="no-such-folder"):
        read_source(tmp_path / "no-such-folder")


def test_a_file_that_cannot_be_read_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "1_a.sql").touch()
    monkeypatch.setattr(Path, "read_bytes", _refused)
    with pytest.raises(SourceError, match=r"cannot read .*1_a\.sql: Permission denied"):
        read_source(tmp_path)


def _refused(path: Path) -> bytes:
    raise PermissionError(errno.EACCES, "Permission denied", str(path))


def test_the_repositorys_migrations_have_no_gap_and_are_reversible() -> None:
    migrations = read_source(MIGRATIONS_FOLDER)
    assert [m.version for m in migrations] == list(range(1, len(migrations) + 1))
    assert [m.name for m in migrations if m.down is None] == []


@pytest.mark.parametrize(
    ("name", "target", "reason"),
    [
        ("2_b.sql", "gone.sql", "No such file or directory"),
        ("1_a.down.sql", "../gone/1_a.down.sql", "No such file or directory"),
        ("2_b.up.sql", "2_b.up.sql", "Too many levels of symbolic links"),
        ("2_b.up.sql", "1_a.up.sql/b", "Not a directory"),
    ],
)
def test_a_link_that_cannot_be_followed_is_refused_by_name(
    tmp_path: Path, name: str, target: str, reason: str
) -> None:
    write(tmp_path, **{"1_a.up.sql": "SELECT 1"})
    (tmp_path / name).symlink_to(target)
    with pytest.raises(SourceError, match=f"^{name} is a link to {target}, which cannot be read: {reason}; "):
        read_source(tmp_path)


def test_links_to_files_are_read_and_to_folders_are_ignored(tmp_path: Path) -> None:
    (tmp_path / "real.sql").write_text("SELECT 1")
    (tmp_path / "1_a.sql").symlink_to("real.sql")
    (tmp_path / "2_b.sql").symlink_to(".")
    (tmp_path / "README.md").symlink_to("gone.md")
    assert [each.version for each in read_source(tmp_path)] == [1]


def test_a_name_that_is_not_utf8_has_a_description_that_can_be_stored(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"1_\xff\xe9.up.sql")).write_text("SELECT 1")
    (tmp_path / os.fsdecode("2_\u00e9t\u00e9.sql".encode())).write_text("SELECT 1")
    assert [m.description for m in read_source(tmp_path)] == ["\ufffd\ufffd", "\u00e9t\u00e9"]
