"""Statements outside a transaction while another session works on the same index or partition."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest

from db.migrator import (
    Event,
    LockHeld,
    LockLimits,
    ScriptFailed,
    apply_pending,
    lock_watch,
    read_source,
    resumption,
    step,
)
from db.migrator.connection import open_connection
from db.migrator.lock_wait import bound_lock_waits
from db.migrator.resumption import drop_leftovers
from db.migrator.script import split_statements
from tests.cases import in_case
from tests.conftest import Connection, Database
from tests.integration.migrator.conftest import Write, applied_versions, building
from tests.promises import promise

IMPATIENT = LockLimits(migrator_lock_seconds=0.3)
CREATE = "CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS t_a_idx ON t (a)"
DETACH = "ALTER TABLE t DETACH PARTITION t_1 CONCURRENTLY"


def make_invalid_index(owner: Connection) -> None:
    owner.execute("CREATE TABLE t (a int)")
    owner.execute("INSERT INTO t VALUES (1), (1)")
    with pytest.raises(psycopg.errors.UniqueViolation):
        owner.execute(CREATE.encode())
    owner.execute("TRUNCATE t")


def indexes(owner: Connection) -> list[tuple[object, ...]]:
    return owner.execute(
        "SELECT relname, indisvalid FROM pg_index JOIN pg_class ON oid = indexrelid WHERE indrelid = 't'::regclass"
    ).fetchall()


@promise("an index that another session is building is not dropped")
def test_an_index_that_another_session_has_made_valid_in_the_meantime_is_kept(
    empty_database: Database, owner: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_invalid_index(owner)
    (statement,) = split_statements(CREATE)
    lock = "LOCK TABLE ONLY"
    with open_connection(empty_database.url("migrator")) as connection:
        execute = connection.execute

        def rebuild_before_the_lock(query: object, *arguments: object) -> object:
            if lock in str(query):
                owner.execute("REINDEX INDEX CONCURRENTLY t_a_idx")
            return execute(query, *arguments)  # type: ignore[call-overload]

        monkeypatch.setattr(connection, "execute", rebuild_before_the_lock)
        assert drop_leftovers(connection, statement) == ()
    assert indexes(owner) == [("t_a_idx", True)]


@promise("an index that another session is building is not dropped", control=True)
def test_an_index_on_which_no_session_works_is_dropped(empty_database: Database, owner: Connection) -> None:
    make_invalid_index(owner)
    with open_connection(empty_database.url("migrator")) as connection:
        assert drop_leftovers(connection, split_statements(CREATE)[0]) == ("t_a_idx",)
    assert indexes(owner) == []


@promise("an index that another session is building is not dropped")
def test_an_index_that_another_session_begins_to_rebuild_is_not_dropped(
    empty_database: Database, owner: Connection
) -> None:
    make_invalid_index(owner)
    with building(empty_database, "REINDEX INDEX CONCURRENTLY t_a_idx"):
        with open_connection(empty_database.url("migrator")) as connection:
            bound_lock_waits(connection, 0.05)
            with pytest.raises(psycopg.errors.LockNotAvailable):
                drop_leftovers(connection, split_statements(CREATE)[0])
    assert ("t_a_idx", True) in indexes(owner)


def test_an_invalid_index_that_if_not_exists_accepted_is_created_again(
    empty_database: Database,
    folder: Path,
    write: Write,
    owner: Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    make_invalid_index(owner)
    write("1_index.sql", f"-- no-transaction\n{CREATE}")
    calls: list[str] = []

    def too_early(*arguments: object) -> tuple[str, ...]:
        calls.append("drop")
        return () if len(calls) == 1 else drop_leftovers(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(step, "drop_leftovers", too_early)
    apply_pending(empty_database.url("migrator"), read_source(folder))
    assert (indexes(owner), len(calls)) == ([("t_a_idx", True)], 2)


@pytest.mark.parametrize("definition", ["t (a)", "ONLY t USING btree (a)", '"t" (a)'])
def test_a_failed_index_without_a_name_leaves_nothing_behind(
    empty_database: Database, folder: Path, write: Write, owner: Connection, definition: str
) -> None:
    make_invalid_index(owner)
    owner.execute("INSERT INTO t VALUES (1), (1)")
    write("1_index.sql", f"-- no-transaction\nCREATE UNIQUE INDEX CONCURRENTLY ON {definition}")
    with pytest.raises(ScriptFailed, match="23505"):
        apply_pending(empty_database.url("migrator"), read_source(folder))
    # The other one is not known to be a leftover.
    assert indexes(owner) == [("t_a_idx", False)]
    assert applied_versions(owner) == []


def test_a_failed_index_on_a_materialized_view_leaves_nothing_behind(
    empty_database: Database, folder: Path, write: Write, owner: Connection
) -> None:
    owner.execute('CREATE MATERIALIZED VIEW "My view" AS SELECT 1 AS a FROM generate_series(1, 2)')
    write("1_index.sql", '-- no-transaction\nCREATE UNIQUE INDEX CONCURRENTLY v_idx ON "My view" (a)')
    with pytest.raises(ScriptFailed, match=r"1_index\.sql:2: .*23505"):
        apply_pending(empty_database.url("migrator"), read_source(folder))
    assert owner.execute("SELECT FROM pg_class WHERE relname = 'v_idx'").fetchall() == []
    assert owner.execute("SELECT count(*) FROM _sqlx_migrations").fetchone() == (0,)


def test_a_failed_removal_of_an_index_does_not_hide_why_the_index_failed(
    empty_database: Database,
    folder: Path,
    write: Write,
    owner: Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    owner.execute("CREATE TABLE t AS SELECT 1 AS a FROM generate_series(1, 2)")
    write("1_index.sql", f"-- no-transaction\n{CREATE}")
    with monkeypatch.context() as patched:
        patched.setattr(
            resumption, "_drop_invalid", lambda connection, oid: connection.execute("SELECT 1 / 0")
        )
        with pytest.raises(ScriptFailed, match=r"23505.*left could not be removed \(division by zero\)"):
            apply_pending(empty_database.url("migrator"), read_source(folder))
    assert indexes(owner) == [("t_a_idx", False)]
    # The advice of the message: run it again, which removes the index, and then correct the file.
    with pytest.raises(ScriptFailed, match="23505"):
        apply_pending(empty_database.url("migrator"), read_source(folder))
    assert indexes(owner) == []
    write("1_index.sql", f"-- no-transaction\n{CREATE.replace('UNIQUE ', '')}")
    apply_pending(empty_database.url("migrator"), read_source(folder))
    assert indexes(owner) == [("t_a_idx", True)]


REINDEX = "REINDEX TABLE CONCURRENTLY t_1"


def interrupt_rebuild(database: Database, owner: Connection) -> None:
    """Leave the copies of a partition's indexes, and of its TOAST table's index."""
    owner.execute("CREATE TABLE t (a int, b text) PARTITION BY LIST (a)")
    owner.execute("CREATE TABLE t_1 PARTITION OF t FOR VALUES IN (7)")
    owner.execute("CREATE INDEX t_idx ON t (a)")
    with pytest.raises(psycopg.errors.AdminShutdown), building(database, REINDEX) as pid:
        database.psql(f"SELECT pg_terminate_backend({pid})")


def copies(owner: Connection) -> list[str]:
    rows = owner.execute(
        "SELECT relname FROM pg_index JOIN pg_class ON oid = indexrelid WHERE NOT indisvalid ORDER BY relname"
    )
    return [str(name) for (name,) in rows]


def test_the_copies_that_an_interrupted_reindex_left_are_dropped_in_all_that_it_rebuilds(
    empty_database: Database, owner: Connection
) -> None:
    interrupt_rebuild(empty_database, owner)
    toast, copy = copies(owner)
    assert (toast[:9], copy) == ("pg_toast_", "t_1_a_idx_ccnew")
    cases: dict[str, tuple[str, ...]] = {
        "SCHEMA CONCURRENTLY groundwork": (copy,),
        "DATABASE": (copy,),
        "DATABASE CONCURRENTLY": (copy,),
        "TABLE CONCURRENTLY t": (copy,),
        "TABLE groundwork.t_1": (copy,),
        "INDEX CONCURRENTLY t_idx": (copy,),
        "INDEX t_1_a_idx": (copy,),
        "SCHEMA CONCURRENTLY public": (),
        "TABLE CONCURRENTLY _sqlx_migrations": (),
        "INDEX no_index": (),
        "SYSTEM": (),
    }
    with open_connection(empty_database.url("migrator")) as connection:
        for words, expected in cases.items():
            with in_case(words), connection.transaction(force_rollback=True):
                (statement,) = split_statements(f"REINDEX (VERBOSE) {words}")
                assert drop_leftovers(connection, statement) == expected


@pytest.mark.parametrize("as_superuser", [False, True])
def test_a_copy_that_the_role_may_not_drop_is_reported(
    empty_database: Database, folder: Path, write: Write, owner: Connection, as_superuser: bool
) -> None:
    interrupt_rebuild(empty_database, owner)
    toast, _ = copies(owner)
    write("1_a.sql", "-- no-transaction\nREINDEX SCHEMA CONCURRENTLY groundwork")
    url = empty_database.url("migrator")
    if as_superuser:
        empty_database.psql("ALTER ROLE owner SUPERUSER")
    try:
        events: list[Event] = []
        apply_pending(url, read_source(folder), on_event=events.append)
    finally:
        empty_database.psql("ALTER ROLE owner NOSUPERUSER")
    assert copies(owner) == ([] if as_superuser else [toast])
    warnings = [event.detail for event in events if event.kind == "warning"]
    assert len(warnings) == len(copies(owner))
    for warning in warnings:
        assert warning.startswith("warning: 1_a.sql: an interrupted REINDEX left ")
        assert warning.endswith(f'run `DROP INDEX "pg_toast"."{toast}"` as a superuser')


@pytest.fixture
def partitioned(owner: Connection, write: Write) -> None:
    owner.execute("CREATE TABLE t (a int) PARTITION BY RANGE (a)")
    owner.execute("CREATE TABLE t_1 PARTITION OF t FOR VALUES FROM (0) TO (10)")
    write("1_detach.sql", f"-- no-transaction\n{DETACH}")


def attached(owner: Connection) -> list[tuple[object, ...]]:
    return owner.execute("SELECT inhrelid::regclass::text, inhdetachpending FROM pg_inherits").fetchall()


@promise("a partition that another session is detaching is left to it, and an interrupted detach is finished")
@pytest.mark.parametrize("as_superuser", [False, True])
@pytest.mark.usefixtures("partitioned")
def test_a_partition_that_another_session_is_detaching_is_refused_with_its_pid(
    empty_database: Database, folder: Path, owner: Connection, as_superuser: bool
) -> None:
    with building(empty_database, DETACH, as_superuser=as_superuser) as pid:
        assert attached(owner) == [("t_1", True)]
        with pytest.raises(LockHeld, match=rf"partition t_1 is being detached by .* process {pid}"):
            apply_pending(empty_database.url("migrator"), read_source(folder), limits=IMPATIENT)
        assert attached(owner) == [("t_1", True)]
        assert owner.execute("SELECT count(*) FROM _sqlx_migrations").fetchone() == (0,)
    assert attached(owner) == []


@promise("a partition that another session is detaching is left to it, and an interrupted detach is finished")
@pytest.mark.parametrize("is_ours", [False, True])
@pytest.mark.usefixtures("partitioned")
def test_a_detach_that_was_interrupted_is_finished(
    empty_database: Database, folder: Path, owner: Connection, is_ours: bool
) -> None:
    url = empty_database.url("migrator")
    with pytest.raises(psycopg.errors.AdminShutdown), building(empty_database, DETACH) as pid:
        empty_database.psql(f"SELECT pg_terminate_backend({pid})")
    # The negative control: the statement itself does not finish it.
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState):
        owner.execute(DETACH.encode())
    if is_ours:
        apply_pending(url, ())
        (migration,) = read_source(folder)
        owner.execute(
            "INSERT INTO _sqlx_migrations VALUES (1, 'detach', now(), false, %s, -1)", [migration.checksum]
        )
    apply_pending(url, read_source(folder))
    assert (attached(owner), applied_versions(owner)) == ([], [1])


@promise(
    "a partition that another session is detaching is left to it, and an interrupted detach is finished",
    control=True,
)
@pytest.mark.usefixtures("partitioned")
def test_a_partition_that_is_not_attached_is_an_error(
    empty_database: Database, folder: Path, owner: Connection
) -> None:
    owner.execute("ALTER TABLE t DETACH PARTITION t_1")
    with pytest.raises(ScriptFailed, match="is not a partition"):
        apply_pending(empty_database.url("migrator"), read_source(folder))
    assert applied_versions(owner) == []


@pytest.mark.parametrize("reads", ["t_1", "t"])
@pytest.mark.usefixtures("partitioned")
def test_a_detach_blocks_readers_no_longer_than_the_limit_and_names_the_session_it_waits_for(
    empty_database: Database, folder: Path, owner: Connection, reads: str
) -> None:
    """A reader of the partition stays idle in its transaction. Other readers of the partition must not wait for it."""
    url = empty_database.url("migrator")
    seconds: list[float] = []
    owner.execute("SET statement_timeout = '5s'")
    limits = LockLimits(table_lock_seconds=0.1, attempts=4, longest_pause_seconds=0.1)
    with ThreadPoolExecutor(1) as pool, psycopg.connect(url) as idle:
        idle.execute(f"SELECT FROM {reads}".encode())
        run = pool.submit(apply_pending, url, read_source(folder), limits=limits)
        while not run.done():
            started = time.monotonic()
            owner.execute("SELECT FROM t_1")
            seconds.append(time.monotonic() - started)
            time.sleep(0.01)
        # A pending detach no longer waits for a transaction that has read the parent and keeps no snapshot.
        if reads == "t_1":
            with pytest.raises(LockHeld, match=rf"process {idle.info.backend_pid}\b.*\(on t_1\)"):
                run.result()
            assert applied_versions(owner) == []
    assert max(seconds) < 2
    apply_pending(url, read_source(folder))
    assert (attached(owner), applied_versions(owner)) == ([], [1])


@pytest.mark.parametrize(
    ("statement", "blocking"),
    [
        ("CREATE INDEX CONCURRENTLY i ON t (a)", "LOCK TABLE t IN ACCESS EXCLUSIVE MODE"),
        ("CREATE UNIQUE INDEX CONCURRENTLY i ON t (a)", "INSERT INTO t VALUES (1)"),
        ("DROP INDEX CONCURRENTLY existing", "INSERT INTO t VALUES (1)"),
        ("REINDEX TABLE CONCURRENTLY t", "INSERT INTO t VALUES (1)"),
    ],
)
def test_the_session_that_a_concurrent_statement_waits_for_is_named_once(
    empty_database: Database,
    folder: Path,
    write: Write,
    owner: Connection,
    monkeypatch: pytest.MonkeyPatch,
    statement: str,
    blocking: str,
) -> None:
    monkeypatch.setattr(lock_watch, "_FIRST_LOOK_SECONDS", 0.1)
    owner.execute("CREATE TABLE t (a int)")
    owner.execute("CREATE INDEX existing ON t (a)")
    write("1_a.sql", f"-- no-transaction\n{statement}")
    url = empty_database.url("migrator")
    waits: list[str] = []
    thread = threading.current_thread()
    with psycopg.connect(url, application_name="a colleague") as older:
        older.execute(blocking.encode())

        def on_event(event: Event) -> None:
            assert threading.current_thread() is thread
            if event.kind == "waiting":
                waits.append(event.detail)
                # Long enough for a second look, which must not report the same again.
                threading.Timer(1.0, older.rollback).start()

        assert len(apply_pending(url, read_source(folder), on_event=on_event)) == 1
        pid = older.info.backend_pid
    assert [f"server process {pid}, role migrator, application 'a colleague'" in wait for wait in waits] == [
        True
    ]
    assert applied_versions(owner) == [1]


def test_a_concurrent_statement_whose_waiting_is_interrupted_is_cancelled(
    empty_database: Database,
    folder: Path,
    write: Write,
    owner: Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lock_watch, "_FIRST_LOOK_SECONDS", 0.1)
    owner.execute("CREATE TABLE t (a int)")
    write("1_a.sql", f"-- no-transaction\n{CREATE}")
    url = empty_database.url("migrator")

    def interrupt(event: Event) -> None:
        if event.kind == "waiting":
            raise KeyboardInterrupt

    with psycopg.connect(url) as older:
        older.execute("INSERT INTO t VALUES (7)")
        with pytest.raises(KeyboardInterrupt):
            apply_pending(url, read_source(folder), on_event=interrupt)
        assert indexes(owner) == [("t_a_idx", False)]
    apply_pending(url, read_source(folder))
    assert indexes(owner) == [("t_a_idx", True)]


def test_a_concurrent_statement_runs_without_a_free_connection_for_the_watching(
    empty_database: Database,
    folder: Path,
    write: Write,
    owner: Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lock_watch, "_FIRST_LOOK_SECONDS", 0.1)
    looks: list[str] = []

    def refuse(conninfo: str) -> None:
        looks.append(conninfo)
        raise psycopg.OperationalError("too many connections for role")

    monkeypatch.setattr(lock_watch, "open_observer", refuse)
    owner.execute("CREATE TABLE t (a int)")
    write("1_a.sql", f"-- no-transaction\n{CREATE}")
    url = empty_database.url("migrator")
    with psycopg.connect(url) as older:
        older.execute("INSERT INTO t VALUES (7)")
        timer = threading.Timer(1.0, older.rollback)
        timer.start()
        assert len(apply_pending(url, read_source(folder))) == 1
        timer.join()
    assert looks
