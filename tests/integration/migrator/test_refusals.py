"""Failing migrations: the error messages, and that nothing is left behind."""

from __future__ import annotations

from pathlib import Path

import pytest

from db.migrator import (
    DirtyMigration,
    LedgerMismatch,
    MigrationError,
    ScriptFailed,
    SourceError,
    Unreachable,
    apply_pending,
    read_source,
    revert,
    status,
)
from ops.errors import Exit
from tests.conftest import Connection, Database
from tests.integration.migrator.conftest import Run, Write, applied_versions, tables
from tests.promises import promise


@promise("a failed statement is reported with file, line and SQLSTATE")
@pytest.mark.parametrize(
    ("sql", "line", "sqlstate", "statement"),
    [
        pytest.param(
            "CREATE TABLE a (id int);\n\nCREATE TABEL b ();\n", 3, "42601", "CREATE TABEL b ()", id="syntax"
        ),
        pytest.param(
            "CREATE TABLE a (id int);\nINSERT INTO a\nSELECT 1,\n  nothing;",
            4,
            "42703",
            "INSERT INTO a",
            id="name",
        ),
        pytest.param(
            "CREATE TABLE a (id int);\n-- again\nCREATE TABLE a (id int);\nSELECT 1;",
            3,
            "42P07",
            "CREATE TABLE a (id int)",
            id="without a position",
        ),
        pytest.param(
            "CREATE TABLE ü (id int);\nSELECT 'ü' ||\n$$ü$$ || x;", 3, "42703", "SELECT 'ü' ||", id="umlauts"
        ),
        pytest.param(
            "SELECT 1;\nSELECT 'never closed;\n", 2, "42601", "SELECT 'never closed;", id="open quote"
        ),
        pytest.param(
            "CREATE TABLE a (id int);\n/* never closed\n", 2, "42601", "/* never closed", id="open comment"
        ),
        pytest.param(
            "CREATE TABLE a (id int PRIMARY KEY,\n up int REFERENCES a DEFERRABLE INITIALLY DEFERRED);\n"
            "INSERT INTO a VALUES (1, 2);\n",
            3,
            "23503",
            "COMMIT",
            id="deferred constraint",
        ),
    ],
)
def test_a_failed_migration_names_file_line_and_statement(
    empty_database: Database,
    folder: Path,
    write: Write,
    owner: Connection,
    sql: str,
    line: int,
    sqlstate: str,
    statement: str,
) -> None:
    write("1_first.sql", "CREATE TABLE stays ()")
    write("2_broken.sql", sql)
    with pytest.raises(ScriptFailed) as caught:
        apply_pending(empty_database.url("migrator"), read_source(folder))
    error = caught.value
    assert (error.path.name, error.line, error.sqlstate) == ("2_broken.sql", line, sqlstate)
    assert error.statement.startswith(statement)
    assert f"2_broken.sql:{line}:" in str(error)
    assert "\n" not in str(error)
    assert applied_versions(owner) == [1]
    assert tables(owner) == {"stays"}


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("CREATE TABLE a ();\nREVOKE ALL ON _sqlx_migrations FROM owner;", r"privileges of that table"),
        ("SET TRANSACTION READ ONLY;", r"makes the transaction read-only"),
        ("BEGIN READ ONLY;\nSELECT 1;\nCOMMIT;", r"makes the transaction read-only"),
        ("DROP TABLE _sqlx_migrations;", r"drops, renames or moves that table"),
        (
            "ALTER TABLE _sqlx_migrations RENAME TO old;\nCREATE TABLE a ();",
            r"drops, renames or moves that table",
        ),
    ],
    ids=["privileges", "read only", "begin read only", "drop", "rename"],
)
def test_a_file_after_which_its_row_cannot_be_written_is_named_with_what_it_does(
    empty_database: Database, folder: Path, write: Write, owner: Connection, sql: str, said: str
) -> None:
    write("1_a.sql", sql)
    with pytest.raises(ScriptFailed, match=said) as caught:
        apply_pending(empty_database.url("migrator"), read_source(folder))
    assert str(caught.value).startswith("1_a.sql: its statements ran, but its row in ")
    assert str(caught.value).endswith("this migration was rolled back")
    assert (applied_versions(owner), tables(owner)) == ([], set())


def test_a_file_that_ends_as_another_role_is_named(
    empty_database: Database, folder: Path, write: Write, owner: Connection
) -> None:
    role = f"other_{empty_database.name}"
    empty_database.psql(f"CREATE ROLE {role}; GRANT {role} TO migrator")
    write("1_a.sql", f"CREATE TABLE a ();\nSET ROLE {role};")
    try:
        with pytest.raises(
            ScriptFailed, match=r"^1_a\.sql: its statements ran.*end the file with RESET ROLE"
        ):
            apply_pending(empty_database.url("migrator"), read_source(folder))
        assert (applied_versions(owner), tables(owner)) == ([], set())
        write("1_a.sql", f"CREATE TABLE a ();\nSET ROLE {role};\nRESET ROLE;")
        assert len(apply_pending(empty_database.url("migrator"), read_source(folder))) == 1
    finally:
        empty_database.psql(f"DROP ROLE {role}")


@pytest.mark.parametrize(
    "sql",
    [
        "SET ROLE NONE; SELECT pg_terminate_backend(pg_backend_pid())",
        "CREATE TABLE a (); SET ROLE NONE;\nDO $$BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); END$$",
    ],
    ids=["statement", "block"],
)
def test_a_file_that_ends_its_own_session_is_named(
    empty_database: Database, folder: Path, write: Write, owner: Connection, sql: str
) -> None:
    write("1_a.sql", sql)
    with pytest.raises(
        Unreachable, match=r"^1_a\.sql: the connection was lost.*pg_terminate_backend"
    ) as caught:
        apply_pending(empty_database.url("migrator"), read_source(folder))
    assert "password" not in str(caught.value)
    assert applied_versions(owner) == []


def test_a_role_without_rights_on_the_ledger_is_not_the_files_fault(
    empty_database: Database, folder: Path, write: Write, owner: Connection
) -> None:
    write("1_a.sql", "SELECT 1")
    apply_pending(empty_database.url("migrator"), ())
    owner.execute("REVOKE UPDATE, DELETE, INSERT, TRUNCATE ON _sqlx_migrations FROM owner")
    with pytest.raises(MigrationError, match="permission denied for table _sqlx_migrations") as caught:
        apply_pending(empty_database.url("migrator"), read_source(folder))
    assert not isinstance(caught.value, ScriptFailed)


def test_a_corrected_migration_is_applied_by_the_next_run(
    empty_database: Database, folder: Path, write: Write
) -> None:
    write("1_a.sql", "CREATE TABLE a (; ")
    with pytest.raises(ScriptFailed):
        apply_pending(empty_database.url("migrator"), read_source(folder))
    write("1_a.sql", "CREATE TABLE a ();")
    assert len(apply_pending(empty_database.url("migrator"), read_source(folder))) == 1


def test_a_failed_down_script_leaves_the_migration_applied(
    empty_database: Database, folder: Path, write: Write, owner: Connection
) -> None:
    write("1_a.up.sql", "CREATE TABLE a ()")
    write("1_a.down.sql", "DROP TABLE a;\nDROP TABLE b;")
    apply_pending(empty_database.url("migrator"), read_source(folder))
    with pytest.raises(ScriptFailed, match=r"1_a\.down\.sql:2:"):
        revert(empty_database.url("migrator"), read_source(folder))
    assert applied_versions(owner) == [1]
    assert tables(owner) == {"a"}


@promise("a migration that was edited after it was applied is refused before anything runs")
@pytest.mark.parametrize("run", [apply_pending, revert])
def test_an_edited_migration_is_refused_before_anything_runs(
    empty_database: Database, folder: Path, write: Write, owner: Connection, run: object
) -> None:
    write("2_a.up.sql", "CREATE TABLE a ()")
    write("2_a.down.sql", "DROP TABLE a")
    apply_pending(empty_database.url("migrator"), read_source(folder))
    write("2_a.up.sql", "CREATE TABLE a () ")
    write("1_pending.sql", "CREATE TABLE b ()")
    assert callable(run)
    with pytest.raises(LedgerMismatch, match=r"2_a\.up\.sql was edited after it was applied") as caught:
        run(empty_database.url("migrator"), read_source(folder))
    assert caught.value.version == 2
    assert tables(owner) == {"a"}


def test_an_edited_down_file_is_not_a_mismatch(empty_database: Database, folder: Path, write: Write) -> None:
    write("1_a.up.sql", "CREATE TABLE a ()")
    write("1_a.down.sql", "DROP TABLE wrong")
    apply_pending(empty_database.url("migrator"), read_source(folder))
    write("1_a.down.sql", "DROP TABLE a")
    assert len(revert(empty_database.url("migrator"), read_source(folder))) == 1


def test_an_applied_migration_without_its_file_is_refused(
    empty_database: Database, folder: Path, write: Write, owner: Connection
) -> None:
    path = write("1_a.sql", "CREATE TABLE a ()")
    apply_pending(empty_database.url("migrator"), read_source(folder))
    path.unlink()
    write("2_b.sql", "CREATE TABLE b ()")
    with pytest.raises(LedgerMismatch, match=r"migration 1 \(a\) is applied but has no file"):
        apply_pending(empty_database.url("migrator"), read_source(folder))
    assert tables(owner) == {"a"}


def test_a_dirty_row_stops_everything(
    empty_database: Database, folder: Path, write: Write, owner: Connection
) -> None:
    write("1_a.sql", "CREATE TABLE a ()")
    apply_pending(empty_database.url("migrator"), read_source(folder))
    owner.execute("UPDATE _sqlx_migrations SET success = FALSE")
    write("2_b.sql", "CREATE TABLE b ()")
    with pytest.raises(DirtyMigration, match=r"1_a\.sql started but did not finish"):
        apply_pending(empty_database.url("migrator"), read_source(folder))
    assert tables(owner) == {"a"}
    (problem,) = status(empty_database.url("migrator"), read_source(folder)).problems
    assert isinstance(problem, DirtyMigration)


COMMANDS = (
    ("up",), ("up", "--dry-run"), ("down", "--yes"), ("status",), ("plan",), ("verify",), ("rehearse",),
    ("lint",), ("baseline", "2"), ("repair",), ("repair", "--forget", "1", "--yes"), ("new", "more"),
)  # fmt: skip


@promise("a file with a NUL byte is refused before anything runs")
@pytest.mark.parametrize(
    "script",
    [
        pytest.param(b"-- Delete one row.\nDELETE FROM t \0WHERE id = 1;", id="before a condition"),
        pytest.param(b"SELECT 1;\nDELETE FROM t -- one row \0\n WHERE id = 1;", id="in a comment"),
        pytest.param(
            "DELETE\nFROM t WHERE id = 1;".encode("utf-16-le"), id="UTF-16 without a byte order mark"
        ),
    ],
)
@pytest.mark.parametrize("suffix", ["up", "down"])
def test_a_file_with_a_nul_byte_is_refused_by_every_command(
    run: Run, write: Write, folder: Path, owner: Connection, script: bytes, suffix: str
) -> None:
    write("1_a.sql", "CREATE TABLE t AS SELECT generate_series(1, 3) AS id;")
    run("up")
    write("2_b.up.sql", "SELECT 1;")
    (folder / f"2_b.{suffix}.sql").write_bytes(script)
    line = script.decode().partition("\0")[0].count("\n") + 1
    for command in COMMANDS:
        outcome = run(*command)
        assert outcome.code == Exit.ERROR, command
        assert outcome.error.startswith(f"2_b.{suffix}.sql:{line}: contains a NUL byte"), command
    assert owner.execute("SELECT count(*) FROM t").fetchone() == (3,)
    assert applied_versions(owner) == [1]


@promise("a file with a NUL byte is refused before anything runs", control=True)
def test_the_driver_cuts_a_statement_off_at_a_nul_byte(owner: Connection) -> None:
    owner.execute("CREATE TABLE t AS SELECT generate_series(1, 3) AS id")
    owner.execute(b"DELETE FROM t \0WHERE id = 1")
    assert owner.execute("SELECT count(*) FROM t").fetchone() == (0,)


@promise("COPY with the rows in the file is refused by name before anything runs")
def test_copy_from_stdin_is_refused_before_anything_runs(
    empty_database: Database, folder: Path, write: Write, owner: Connection
) -> None:
    write("1_a.sql", "CREATE TABLE a (id int)")
    write("2_b.sql", "SELECT 1;\nCOPY a FROM STDIN;\n1\n\\.\n")
    with pytest.raises(SourceError, match=r"2_b\.sql:2: `COPY a FROM STDIN` needs a client .*INSERT"):
        apply_pending(empty_database.url("migrator"), read_source(folder))
    assert tables(owner) == set()


def test_a_role_without_create_permission_gets_an_error(
    empty_database: Database, folder: Path, write: Write
) -> None:
    write("1_a.sql", "CREATE TABLE a ()")
    with pytest.raises(MigrationError, match="permission denied for schema groundwork") as caught:
        apply_pending(empty_database.url("app"), read_source(folder))
    assert caught.value.sqlstate == "42501"


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://migrator:hunter2@localhost:1/groundwork",
        "postgresql://migrator:hunter2@no-such-host.invalid/groundwork",
    ],
)
def test_a_database_that_cannot_be_reached_is_named_without_the_password(url: str) -> None:
    with pytest.raises(Unreachable) as caught:
        status(url, ())
    assert "hunter2" not in str(caught.value)


@promise("no message quotes a connection string or password")
def test_a_url_that_cannot_be_parsed_is_not_quoted() -> None:
    with pytest.raises(MigrationError, match="cannot be parsed") as caught:
        status("postgres//migrator:hunter2@", ())
    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_wrong_password_is_unreachable(empty_database: Database) -> None:
    url = empty_database.url("migrator").replace("migrator:", "migrator:not", 1)
    with pytest.raises(Unreachable, match="password authentication failed"):
        status(url, ())
