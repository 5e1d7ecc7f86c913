"""Scripts with transactions of their own, several statements, or very many rows; and the one session they run in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psycopg
import pytest

from db.migrator import (
    DirtyMigration,
    Event,
    LockHeld,
    LockLimits,
    ScriptFailed,
    Unreachable,
    apply_pending,
    connection,
    read_source,
    revert,
    status,
)
from db.migrator.lock import lock_key
from tests.conftest import Connection, Database
from tests.containers import wait_until
from tests.integration.migrator.conftest import Run, Write, applied_versions, tables
from tests.integration.migrator.sqlx_folders import FOLDERS
from tests.promises import promise

UNREMARKABLE = {"modes", "a down file of a simple one"}


@promise("what sqlx-cli applies is applied, with a warning if it is risky")
@pytest.mark.parametrize("name", FOLDERS)
def test_a_folder_that_sqlx_applies_is_applied(
    run: Run, write: Write, owner: Connection, folder: Path, name: str
) -> None:
    files, expected = FOLDERS[name]
    for file, sql in files.items():
        write(file, sql)
    outcome = run("up")
    assert (outcome.code, tables(owner)) == (0, expected)
    assert ("warning: " in outcome.error) == (name not in UNREMARKABLE)
    assert applied_versions(owner) == [m.version for m in read_source(folder)]
    assert run("status").code == 0


def test_modes_and_the_settings_before_them_have_their_effect(
    empty_database: Database, folder: Path, write: Write, owner: Connection
) -> None:
    seen = "SELECT current_setting('transaction_isolation') AS isolation, current_setting('work_mem') AS work_mem"
    write(
        "1_a.sql",
        f"""
        SET LOCAL work_mem = '7MB'; BEGIN ISOLATION LEVEL SERIALIZABLE; CREATE TABLE a AS {seen}; COMMIT;
        SET work_mem = '8MB'; START TRANSACTION ISOLATION LEVEL REPEATABLE READ; CREATE TABLE b AS {seen}; COMMIT;
        """,
    )
    apply_pending(empty_database.url("migrator"), read_source(folder))
    rows = owner.execute("SELECT * FROM a UNION ALL SELECT * FROM b").fetchall()
    assert rows == [("serializable", "7MB"), ("repeatable read", "8MB")]


def test_a_role_that_is_set_before_modes_needs_no_access_to_the_ledger(
    empty_database: Database, folder: Path, write: Write, owner: Connection
) -> None:
    role = f"other_{empty_database.name}"
    empty_database.psql(f"CREATE ROLE {role}; GRANT {role} TO migrator")
    write(
        "1_a.sql",
        f"SET LOCAL ROLE {role}; SET TRANSACTION ISOLATION LEVEL SERIALIZABLE; SELECT 1; RESET ROLE",
    )
    try:
        apply_pending(empty_database.url("migrator"), read_source(folder))
    finally:
        empty_database.psql(f"DROP ROLE {role}")
    assert applied_versions(owner) == [1]


@promise("a migration with transactions of its own is dirty if a later one fails")
def test_a_migration_whose_later_transaction_fails_is_dirty(
    empty_database: Database, folder: Path, write: Write, owner: Connection
) -> None:
    url = empty_database.url("migrator")
    write("1_a.up.sql", "CREATE TABLE a ();\nCOMMIT;\nCREATE TABLE b ();\nCREATE TABEL c ();")
    with pytest.raises(ScriptFailed, match=r"1_a\.up\.sql:4: .*repair --mark-applied 1") as caught:
        apply_pending(url, read_source(folder))
    assert caught.value.sqlstate == "42601"
    assert tables(owner) == {"a"}
    assert owner.execute("SELECT version, success FROM _sqlx_migrations").fetchall() == [(1, False)]
    with pytest.raises(DirtyMigration):
        apply_pending(url, read_source(folder))
    # Going back, the row stays applied until the last transaction has removed it.
    owner.execute("DELETE FROM _sqlx_migrations")
    write("1_a.up.sql", "SELECT 1")
    write("1_a.down.sql", "SELECT 1; COMMIT; DROP TABLE a")
    apply_pending(url, read_source(folder))
    revert(url, read_source(folder))
    assert (tables(owner), applied_versions(owner)) == (set(), [])


@promise("a migration with transactions of its own is dirty if a later one fails", control=True)
@pytest.mark.parametrize("direction", ["up", "down"])
def test_a_migration_whose_first_transaction_fails_is_not_dirty(
    empty_database: Database, folder: Path, write: Write, owner: Connection, direction: str
) -> None:
    url = empty_database.url("migrator")
    script = "CREATE TABLE a ();\nCREATE TABEL b ();\nCOMMIT;\nCREATE TABLE c ();"
    write("1_a.up.sql", script if direction == "up" else "SELECT 1")
    write("1_a.down.sql", script)
    if direction == "down":
        apply_pending(url, read_source(folder))
    call = apply_pending if direction == "up" else revert
    with pytest.raises(ScriptFailed, match=rf"1_a\.{direction}\.sql:2: .*the ledger is unchanged"):
        call(url, read_source(folder))
    assert (tables(owner), applied_versions(owner)) == (set(), [] if direction == "up" else [1])


@promise("a migration with transactions of its own is dirty if a later one fails")
def test_a_migration_that_is_interrupted_between_its_transactions_is_dirty(
    empty_database: Database, folder: Path, write: Write, owner: Connection
) -> None:
    write("1_a.sql", "CREATE TABLE a (); COMMIT; CREATE TABLE b ()")

    def interrupt(event: Event) -> None:
        if event.detail == "CREATE TABLE b ()":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        apply_pending(empty_database.url("migrator"), read_source(folder), on_event=interrupt)
    assert tables(owner) == {"a"}
    assert [r.version for r in status(empty_database.url("migrator"), read_source(folder)).interrupted] == [1]


@promise("a migration with transactions of its own is dirty if a later one fails")
@pytest.mark.parametrize("direction", ["up", "down"])
@pytest.mark.parametrize("is_committed", [True, False])
def test_a_migration_that_is_interrupted_in_its_first_commit_is_dirty(
    empty_database: Database,
    folder: Path,
    write: Write,
    owner: Connection,
    monkeypatch: pytest.MonkeyPatch,
    direction: str,
    is_committed: bool,
) -> None:
    """psycopg waits for the server's answer before it raises, so the COMMIT may have succeeded.

    The control is an interrupt before the COMMIT: nothing has happened, so the same command starts again.
    """
    url = empty_database.url("migrator")
    script = "CREATE TABLE a (); COMMIT; CREATE TABLE b ()"
    write("1_a.up.sql", script if direction == "up" else "SELECT 1")
    write("1_a.down.sql", script)
    if direction == "down":
        apply_pending(url, read_source(folder))
    call = apply_pending if direction == "up" else revert
    execute = psycopg.Connection.execute
    interrupted = b"SET CONSTRAINTS ALL IMMEDIATE" if is_committed else b"CREATE TABLE a"

    def execute_and_interrupt(self: Any, query: Any, *arguments: Any, **options: Any) -> Any:
        done = execute(self, query, *arguments, **options)
        if isinstance(query, bytes) and interrupted in query:
            raise KeyboardInterrupt
        return done

    with monkeypatch.context() as patched:
        patched.setattr(psycopg.Connection, "execute", execute_and_interrupt)
        with pytest.raises(KeyboardInterrupt):
            call(url, read_source(folder))
    assert (tables(owner) == {"a"}) is is_committed
    dirty = [row.version for row in status(url, read_source(folder)).interrupted]
    assert dirty == ([1] if is_committed else [])
    if not is_committed:
        call(url, read_source(folder))
        assert tables(owner) == {"a", "b"}


BATCHES = """
    FOR n IN 1..3 LOOP
        PERFORM FROM counts WHERE id = n FOR UPDATE NOWAIT;
        UPDATE counts SET done = done + 1 WHERE id = n;
        COMMIT;
    END LOOP;
"""
PROCEDURE = f"CREATE PROCEDURE count_all() LANGUAGE plpgsql AS $$BEGIN {BATCHES} END$$"


@promise("a statement whose outcome cannot be determined stays dirty")
@pytest.mark.parametrize("is_locked", [True, False], ids=["lock", "error"])
@pytest.mark.parametrize(
    ("direction", "statement"), [("up", f"DO $$BEGIN {BATCHES} END$$"), ("down", "CALL count_all()")]
)
def test_a_statement_that_commits_and_then_fails_is_dirty_and_not_retried(
    empty_database: Database,
    folder: Path,
    write: Write,
    owner: Connection,
    direction: str,
    statement: str,
    is_locked: bool,
) -> None:
    url = empty_database.url("migrator")
    owner.execute("CREATE TABLE counts (id int, done int CHECK (done < 8))")
    owner.execute("INSERT INTO counts VALUES (1, 0), (2, 0), (3, %s)", [0 if is_locked else 7])
    owner.execute(PROCEDURE.encode())
    write("1_a.up.sql", f"-- no-transaction\n{statement}" if direction == "up" else "SELECT 1")
    write("1_a.down.sql", f"-- no-transaction\n{statement}")
    if direction == "down":
        apply_pending(url, read_source(folder))
    call = apply_pending if direction == "up" else revert
    kinds: list[str] = []
    limits = LockLimits(table_lock_seconds=0.02, attempts=3, longest_pause_seconds=0.01)
    with psycopg.connect(url) as other:
        if is_locked:
            other.execute("SELECT FROM counts WHERE id = 3 FOR UPDATE")
        done, undone = ("--mark-applied", "--forget") if direction == "up" else ("--forget", "--mark-applied")
        advice = (
            rf"finish it by hand and run `\S+ migrate repair {done} 1`, or undo it .* repair {undone} 1`$"
        )
        with pytest.raises(ScriptFailed, match=advice) as caught:
            call(url, read_source(folder), limits=limits, on_event=lambda event: kinds.append(event.kind))
    assert caught.value.sqlstate == ("55P03" if is_locked else "23514")
    assert "retry" not in kinds
    assert owner.execute("SELECT done FROM counts WHERE id < 3").fetchall() == [(1,), (1,)]
    assert owner.execute("SELECT success FROM _sqlx_migrations").fetchall() == [(False,)]
    with pytest.raises(DirtyMigration):
        call(url, read_source(folder))


@pytest.mark.parametrize(
    ("seconds", "single", "total"), [(0.2, "200ms", "6s"), (2e6, "2000000s", "2147483647ms")]
)
def test_a_statement_that_commits_waits_for_a_lock_as_long_as_all_attempts(
    empty_database: Database,
    folder: Path,
    write: Write,
    owner: Connection,
    seconds: float,
    single: str,
    total: str,
) -> None:
    owner.execute("CREATE TABLE seen (setting text)")
    setting = "INSERT INTO seen SELECT current_setting('lock_timeout')"
    write("1_a.sql", f"-- no-transaction\nDO $$BEGIN COMMIT; {setting}; END$$")
    write("2_b.sql", f"-- no-transaction\nDO $$BEGIN {setting}; END$$")
    limits = LockLimits(table_lock_seconds=seconds, attempts=30)
    apply_pending(empty_database.url("migrator"), read_source(folder), limits=limits)
    assert owner.execute("SELECT setting FROM seen").fetchall() == [(total,), (single,)]


def test_a_locked_table_of_a_later_transaction_is_retried_without_the_earlier_ones(
    empty_database: Database, folder: Path, write: Write, owner: Connection
) -> None:
    owner.execute("CREATE TABLE busy (id int)")
    write("1_a.sql", "CREATE TABLE a (); COMMIT; ALTER TABLE busy ADD COLUMN more int")
    kinds: list[str] = []
    with psycopg.connect(empty_database.url("migrator")) as reader:
        reader.execute("SELECT * FROM busy")

        def on_event(event: Event) -> None:
            kinds.append(event.kind)
            if event.kind == "retry":
                reader.rollback()

        limits = LockLimits(table_lock_seconds=0.05)
        apply_pending(empty_database.url("migrator"), read_source(folder), limits=limits, on_event=on_event)
    assert kinds == ["begin", "warning", "statement", "statement", "retry", "statement", "done"]
    assert (tables(owner), applied_versions(owner)) == ({"a", "busy"}, [1])


@pytest.mark.parametrize(
    "sql",
    [
        "SET ROLE {0}; CREATE TABLE {0}.a (); CREATE TABLE {0}.b (); RESET ROLE",
        "SET ROLE {0}; SET search_path = {0}; CREATE TABLE a (); INSERT INTO one VALUES (2); CREATE TABLE b ();"
        " RESET ROLE",
        "SET ROLE {0}; CREATE TABLE {0}.a (); COMMIT; CREATE TABLE {0}.b (); SELECT 1; RESET ROLE",
    ],
    ids=["role", "search_path", "transactions"],
)
def test_a_file_may_work_as_a_role_that_cannot_use_the_ledgers_schema(
    empty_database: Database, folder: Path, write: Write, owner: Connection, sql: str
) -> None:
    role = f"other_{empty_database.name}"
    empty_database.psql(
        f"CREATE ROLE {role}; GRANT {role} TO migrator, owner; CREATE SCHEMA {role} AUTHORIZATION {role};"
        f" CREATE TABLE {role}.one (id int); ALTER TABLE {role}.one OWNER TO {role}"
    )
    write("1_a.sql", sql.format(role))
    try:
        apply_pending(empty_database.url("migrator"), read_source(folder))
        made = owner.execute("SELECT tablename FROM pg_tables WHERE schemaname = %s", [role]).fetchall()
        assert (sorted(made), applied_versions(owner)) == ([("a",), ("b",), ("one",)], [1])
    finally:
        empty_database.psql(f"DROP SCHEMA {role} CASCADE; DROP ROLE {role}")


def test_a_later_transaction_that_is_retried_keeps_what_the_earlier_ones_set(
    empty_database: Database, folder: Path, write: Write, owner: Connection
) -> None:
    owner.execute("CREATE TABLE busy (id int)")
    write(
        "1_a.sql",
        "SET work_mem = '77kB'; COMMIT; ALTER TABLE busy ADD COLUMN more int;"
        " CREATE TABLE seen AS SELECT current_setting('work_mem')",
    )
    with psycopg.connect(empty_database.url("migrator")) as reader:
        reader.execute("SELECT * FROM busy")
        apply_pending(
            empty_database.url("migrator"),
            read_source(folder),
            limits=LockLimits(table_lock_seconds=0.05),
            on_event=lambda event: reader.rollback() if event.kind == "retry" else None,
        )
    assert owner.execute("SELECT * FROM seen").fetchall() == [("77kB",)]


ROWS = "".join(f"INSERT INTO t VALUES ({n});\n" for n in range(3, 20))


@promise("a failed statement is reported with file, line and SQLSTATE")
@pytest.mark.parametrize(
    ("wrong", "sqlstate"),
    [
        ("INSERT INTO t VALUES (3);", "23505"),
        ("INSERT INTO t VALUES (nothing);", "42703"),
        ("INSERT INTO t VALEUS (1);", "42601"),
        ("UPDATE t SET id = 1 / 0;", "22012"),
    ],
)
def test_one_of_many_statements_that_are_sent_together_is_reported_with_its_line(
    empty_database: Database, folder: Path, write: Write, owner: Connection, wrong: str, sqlstate: str
) -> None:
    write("1_a.sql", f"CREATE TABLE t (id int PRIMARY KEY);\n{ROWS}\n{wrong}\n{ROWS}")
    with pytest.raises(ScriptFailed) as caught:
        apply_pending(empty_database.url("migrator"), read_source(folder))
    assert (caught.value.line, caught.value.sqlstate) == (20, sqlstate)
    assert caught.value.statement == wrong.rstrip(";")
    assert (tables(owner), applied_versions(owner)) == (set(), [])


def test_statements_that_are_sent_together_are_one_event(
    empty_database: Database, folder: Path, write: Write, owner: Connection
) -> None:
    write("1_a.sql", f"CREATE TABLE t (id int PRIMARY KEY);\n{ROWS}")
    told: list[str] = []
    apply_pending(
        empty_database.url("migrator"),
        read_source(folder),
        on_event=lambda event: told.append(event.detail) if event.kind == "statement" else None,
    )
    assert told == ["CREATE TABLE t (id int PRIMARY KEY)", "INSERT INTO t VALUES (3);... (and 16 more)"]
    assert owner.execute("SELECT count(*), sum(id) FROM t").fetchone() == (17, sum(range(3, 20)))


def test_one_of_many_statements_that_waits_for_a_lock_is_retried(
    empty_database: Database, folder: Path, write: Write, owner: Connection
) -> None:
    owner.execute("CREATE TABLE t (id int PRIMARY KEY)")
    write("1_a.sql", ROWS)
    with psycopg.connect(empty_database.url("migrator")) as other:
        other.execute("INSERT INTO t VALUES (9)")
        apply_pending(
            empty_database.url("migrator"),
            read_source(folder),
            limits=LockLimits(table_lock_seconds=0.05),
            on_event=lambda event: other.rollback() if event.kind == "retry" else None,
        )
    assert owner.execute("SELECT count(*) FROM t").fetchone() == (17,)


# Each leaves something in the session that a transaction's end does not undo.
LEFT_IN_THE_SESSION = """
    SET work_mem = '77kB'; SET search_path = pg_catalog; SET ROLE NONE; SET client_min_messages = error;
    PREPARE left_over AS SELECT 1; LISTEN left_over;
    DECLARE left_over CURSOR WITH HOLD FOR SELECT 1; SET timezone = 'Asia/Tokyo'; RESET ROLE
"""


@promise("a migration leaves nothing in the session of the next")
def test_what_one_migration_leaves_in_its_session_does_not_reach_the_next(
    empty_database: Database, folder: Path, write: Write, owner: Connection
) -> None:
    seen = (
        "CREATE TABLE {} AS SELECT current_setting('work_mem') AS work_mem, current_user::text AS role,"
        " current_setting('search_path') AS path, current_setting('timezone') AS zone,"
        " current_setting('client_min_messages') AS messages,"
        " (SELECT count(*) FROM pg_prepared_statements) AS prepared, (SELECT count(*) FROM pg_cursors) AS cursors,"
        " (SELECT count(*) FROM pg_listening_channels()) AS channels"
    )
    write("1_a.sql", seen.format("before"))
    write("2_b.sql", LEFT_IN_THE_SESSION)
    write("3_c.sql", seen.format("after"))
    apply_pending(empty_database.url("migrator"), read_source(folder))
    before = owner.execute("SELECT * FROM before").fetchall()
    assert before[0][:2] != ("77kB", "migrator")
    assert owner.execute("SELECT * FROM after").fetchall() == before


def test_a_migration_that_releases_the_lock_gets_it_back(
    empty_database: Database, folder: Path, write: Write, owner: Connection
) -> None:
    write("1_a.sql", "SELECT pg_advisory_unlock_all()")
    write("2_b.sql", "CREATE TABLE locks AS SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'")
    apply_pending(empty_database.url("migrator"), read_source(folder))
    assert owner.execute("SELECT * FROM locks").fetchone() == (1,)


def test_a_migration_whose_lock_another_migrator_takes_is_named(
    empty_database: Database, folder: Path, write: Write, owner: Connection
) -> None:
    write("1_a.sql", "SELECT pg_advisory_unlock_all();\nCREATE TABLE a ()")

    def take_the_lock(event: Event) -> None:
        if event.detail.startswith("CREATE TABLE"):
            owner.execute("SELECT pg_advisory_lock(%s)", [lock_key(empty_database.name)])

    with pytest.raises(LockHeld, match=r"^1_a\.sql: the file released the migrator's lock"):
        apply_pending(empty_database.url("migrator"), read_source(folder), on_event=take_the_lock)


@promise("a run of migrations needs one connection")
def test_a_run_needs_one_connection(
    empty_database: Database, folder: Path, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "_SLOT_SECONDS", 10.0)
    write("1_a.up.sql", "CREATE TABLE a (id int); INSERT INTO a VALUES (1)")
    write("1_a.down.sql", "DROP TABLE a")
    write("2_b.up.sql", "-- no-transaction\nCREATE INDEX CONCURRENTLY a_idx ON a (id)")
    write("2_b.down.sql", "-- no-transaction\nDROP INDEX CONCURRENTLY a_idx")
    write("3_c.up.sql", "-- no-transaction\nVACUUM a")
    write("3_c.down.sql", "SELECT 1; COMMIT; SELECT 2")
    empty_database.psql(f"ALTER DATABASE {empty_database.name} CONNECTION LIMIT 1")
    url, migrations = empty_database.url("migrator"), read_source(folder)
    assert len(apply_pending(url, migrations)) == 3
    assert len(revert(url, migrations, target=0)) == 3


@promise("a run of migrations needs one connection", control=True)
def test_a_database_without_a_free_connection_is_reported_with_its_limit(
    empty_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "_SLOT_SECONDS", 0.0)
    url = empty_database.url("migrator")
    psql, name = empty_database.server.psql, empty_database.name
    psql(f"ALTER DATABASE {name} CONNECTION LIMIT 1")
    # The server may still be ending the session that prepared the database.
    wait_until(lambda: not psql(f"SELECT pid FROM pg_stat_activity WHERE datname = '{name}'").strip())
    with psycopg.connect(url), pytest.raises(Unreachable, match="CONNECTION LIMIT of the database") as caught:
        apply_pending(url, ())
    assert caught.value.sqlstate == "53300"
