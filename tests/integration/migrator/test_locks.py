"""Locks: one migrator at a time, and retries while other sessions lock a table."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest

from db.migrator import (
    LockHeld,
    LockLimits,
    ScriptFailed,
    SecondLedger,
    apply_pending,
    ledger,
    read_source,
    revert,
)
from db.migrator.ledger import Ledger
from db.migrator.lock import lock_key
from db.migrator.lock_wait import bound_lock_waits, shown_setting
from db.migrator.runner import read_status
from tests.cases import in_case
from tests.conftest import Connection, Database
from tests.containers import wait_until
from tests.integration.migrator.conftest import Spawn, Write, applied_versions, tables
from tests.promises import promise

IMPATIENT = LockLimits(
    migrator_lock_seconds=0.4, table_lock_seconds=0.1, attempts=3, longest_pause_seconds=0.1
)


def test_the_holder_of_the_lock_is_named(
    empty_database: Database, folder: Path, write: Write, owner: Connection
) -> None:
    write("1_a.sql", "CREATE TABLE a ()")
    url = empty_database.url("migrator")
    with psycopg.connect(url, autocommit=True, application_name="a colleague") as other:
        other.execute("SELECT pg_advisory_lock(%s)", [lock_key(empty_database.name)])
        told: list[str] = []
        with pytest.raises(LockHeld) as caught:
            apply_pending(
                url,
                read_source(folder),
                limits=IMPATIENT,
                on_event=lambda event: told.append(event.detail),
            )
        assert f"server process {other.info.backend_pid}" in str(caught.value)
        assert "role migrator, application 'a colleague'" in str(caught.value)
        assert len(told) == 1
        assert "a colleague" in told[0]
    assert tables(owner) == set()


def test_a_locked_ledger_is_reported_by_each_command_that_reads_it(
    empty_database: Database, folder: Path, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("1_a.sql", "CREATE TABLE a ()")
    url = empty_database.url("migrator")
    apply_pending(url, read_source(folder))
    monkeypatch.setattr(ledger, "_READ_MILLISECONDS", 100)
    with psycopg.connect(url) as other, psycopg.connect(url, autocommit=True) as own:
        found = Ledger.find(own)
        assert found is not None
        other.execute(f"LOCK TABLE {found.name} IN ACCESS EXCLUSIVE MODE".encode())
        for read in (
            lambda: read_status(own, read_source(folder)),
            lambda: apply_pending(url, read_source(folder)),
            lambda: revert(url, read_source(folder), count=1),
        ):
            with pytest.raises(LockHeld, match=r"has locked the ledger .*_sqlx_migrations") as caught:
                read()
            assert f"server process {other.info.backend_pid}, role migrator" in str(caught.value)
            assert f"`SELECT pg_terminate_backend({other.info.backend_pid})`" in str(caught.value)
        monkeypatch.undo()
        # As `doctor` reads it: the wait ends before the server cancels the query.
        with psycopg.connect(url, autocommit=True, options="-c statement_timeout=400ms") as hurried:
            with pytest.raises(LockHeld, match="has locked the ledger"):
                read_status(hurried, read_source(folder))
        other.rollback()
        assert len(found.rows(own)) == 1
        # The limit ends with the read.
        assert own.execute("SHOW lock_timeout").fetchone() == ("0",)


def test_a_locked_ledger_beside_another_one_is_not_waited_for(
    empty_database: Database, owner: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = empty_database.url("migrator")
    apply_pending(url, ())
    empty_database.psql("CREATE SCHEMA other AUTHORIZATION owner;\n")
    owner.execute("CREATE TABLE other._sqlx_migrations (LIKE _sqlx_migrations)")
    monkeypatch.setattr(ledger, "_READ_MILLISECONDS", 100)
    with psycopg.connect(url) as holder, psycopg.connect(url, autocommit=True) as own:
        holder.execute("LOCK TABLE other._sqlx_migrations IN ACCESS EXCLUSIVE MODE")
        own.execute("SELECT set_config('search_path', current_setting('search_path') || ', other', false)")
        with pytest.raises(SecondLedger, match=r'"other"\."_sqlx_migrations" \(locked by another session\)'):
            Ledger.find(own)


def test_the_lock_is_waited_for(empty_database: Database, folder: Path, write: Write) -> None:
    write("1_a.sql", "CREATE TABLE a ()")
    url = empty_database.url("migrator")
    with (
        psycopg.connect(url, autocommit=True) as other,
        ThreadPoolExecutor(1) as pool,
    ):
        other.execute("SELECT pg_advisory_lock(%s)", [lock_key(empty_database.name)])
        run = pool.submit(apply_pending, url, read_source(folder))
        time.sleep(0.5)
        assert not run.done()
        other.execute("SELECT pg_advisory_unlock_all()")
        assert len(run.result(timeout=10)) == 1


def test_a_lock_of_another_database_is_not_waited_for(
    empty_database: Database, folder: Path, write: Write
) -> None:
    write("1_a.sql", "CREATE TABLE a ()")
    url = empty_database.url("migrator")
    with psycopg.connect(url, autocommit=True) as other:
        other.execute("SELECT pg_advisory_lock(%s)", [lock_key("another")])
        assert len(apply_pending(url, read_source(folder), limits=IMPATIENT)) == 1


@pytest.mark.parametrize("sql", ["CREATE TABLE a ()", "CREATE TABEL a ()"])
def test_the_lock_is_free_again_after_a_success_and_after_a_failure(
    empty_database: Database, folder: Path, write: Write, owner: Connection, sql: str
) -> None:
    write("1_a.sql", sql)
    try:
        apply_pending(empty_database.url("migrator"), read_source(folder))
    except ScriptFailed:
        assert "TABEL" in sql
    key = lock_key(empty_database.name)
    assert owner.execute("SELECT pg_try_advisory_lock(%s)", [key]).fetchone() == (True,)


def test_a_migration_of_a_locked_table_is_retried(
    empty_database: Database, folder: Path, write: Write, owner: Connection
) -> None:
    owner.execute("CREATE TABLE busy (id int)")
    write("1_a.sql", "CREATE TABLE a ();\nALTER TABLE busy ADD COLUMN more int;")
    url = empty_database.url("migrator")
    retried = threading.Event()
    limits = LockLimits(table_lock_seconds=0.2, longest_pause_seconds=0.3)
    with psycopg.connect(url) as reader, ThreadPoolExecutor(1) as pool:
        reader.execute("SELECT * FROM busy")
        run = pool.submit(
            apply_pending,
            url,
            read_source(folder),
            limits=limits,
            on_event=lambda event: retried.set() if event.kind == "retry" else None,
        )
        assert retried.wait(10)
        reader.rollback()
        assert len(run.result(timeout=20)) == 1
    assert applied_versions(owner) == [1]


def test_readers_behind_a_waiting_migration_wait_no_longer_than_its_limit(
    empty_database: Database, folder: Path, write: Write, owner: Connection
) -> None:
    owner.execute("CREATE TABLE busy (id int)")
    write("1_a.sql", "ALTER TABLE busy ADD COLUMN more int;")

    def seconds_of_a_read(table_lock_seconds: float) -> float:
        limits = LockLimits(table_lock_seconds=table_lock_seconds, attempts=1)
        url = empty_database.url("migrator")
        with (
            psycopg.connect(url) as holder,
            psycopg.connect(url) as reader,
            ThreadPoolExecutor(1) as pool,
        ):
            holder.execute("SELECT * FROM busy")
            run = pool.submit(apply_pending, url, read_source(folder), limits=limits)
            wait_until(lambda: _waiting_for(owner, "busy") or run.done(), 60)
            started = time.monotonic()
            reader.execute("SELECT * FROM busy")
            seconds = time.monotonic() - started
            holder.rollback()
            run.exception(timeout=20)
        return seconds

    # The control is a limit that is much longer: the same read waits as long.
    assert seconds_of_a_read(0.2) < seconds_of_a_read(8.0) / 2


@pytest.mark.parametrize(
    ("before", "shortest", "longest"),
    [
        # The limit of 2 s minus the 0.5 s for which the lock has been held.
        ("ALTER TABLE busy ADD COLUMN more int; SELECT pg_sleep(0.5);", 400, 1500),
        ("ALTER TABLE busy ADD COLUMN more int; SELECT pg_sleep(2.1);", 400, 400),
        ("UPDATE busy SET id = 1; SELECT pg_sleep(0.5);", 2000, 2000),
    ],
    ids=["holds up others", "has used up its time", "holds up nobody"],
)
def test_a_transaction_that_holds_up_others_waits_for_its_next_table_the_less(
    empty_database: Database,
    folder: Path,
    write: Write,
    owner: Connection,
    before: str,
    shortest: int,
    longest: int,
) -> None:
    owner.execute("CREATE TABLE busy (id int)")
    write(
        "1_a.sql",
        f"{before} CREATE TABLE seen AS SELECT setting::int FROM pg_settings WHERE name = 'lock_timeout'",
    )
    limits = LockLimits(table_lock_seconds=2.0)
    apply_pending(empty_database.url("migrator"), read_source(folder), limits=limits)
    (seen,) = owner.execute("SELECT setting FROM seen").fetchone() or (None,)
    assert isinstance(seen, int)
    assert shortest <= seen <= longest


@pytest.mark.parametrize(
    ("before", "expected"),
    [
        ("SET lock_timeout = 0;", "2s"),
        ("SET lock_timeout TO DEFAULT;", "2s"),
        ("SELECT set_config('lock_timeout', '0', false);", "2s"),
        ("DO $$BEGIN SET LOCAL lock_timeout = 0; END$$;", "2s"),
        ("SET lock_timeout = 0; COMMIT;", "2s"),
        ("SET lock_timeout = '3s'; SELECT 1; SET lock_timeout = 0;", "2s"),
        ("SET LOCAL lock_timeout = '3s'; COMMIT;", "2s"),
        ("SET lock_timeout = '3s'; COMMIT; RESET lock_timeout; SELECT 1;", "2s"),
        ("SET lock_timeout = '3s'; ALTER TABLE busy ADD COLUMN more int; SELECT 1;", "3s"),
        ("ALTER TABLE busy ADD COLUMN more int; SET lock_timeout = '3s'; SELECT 1;", "3s"),
        ("SELECT set_config('lock_timeout', '1min', true); SELECT 1;", "1min"),
        ("SET lock_timeout = '3s'; COMMIT; SELECT 1;", "3s"),
        ("SET lock_timeout = '3s'; COMMIT; SELECT 1; ROLLBACK; ALTER TABLE busy ADD COLUMN more int;", "3s"),
    ],
)
def test_a_file_may_set_a_limit_for_lock_waits_but_not_remove_it(
    empty_database: Database, folder: Path, write: Write, owner: Connection, before: str, expected: str
) -> None:
    owner.execute("CREATE TABLE busy (id int)")
    write("1_a.sql", f"{before} CREATE TABLE seen AS SELECT current_setting('lock_timeout')")
    limits = LockLimits(table_lock_seconds=2.0)
    apply_pending(empty_database.url("migrator"), read_source(folder), limits=limits)
    assert owner.execute("SELECT * FROM seen").fetchone() == (expected,)


def test_the_header_of_a_dump_does_not_let_other_queries_wait_behind_a_migration(
    empty_database: Database, folder: Path, write: Write, owner: Connection
) -> None:
    owner.execute("CREATE TABLE busy (id int)")
    owner.execute("SET statement_timeout = '10s'")
    write(
        "1_a.sql", "SET statement_timeout = 0;\nSET lock_timeout = 0;\nALTER TABLE busy ADD COLUMN more int;"
    )
    url = empty_database.url("migrator")
    with ThreadPoolExecutor(1) as pool, psycopg.connect(url) as reader:
        reader.execute("SELECT * FROM busy")
        run = pool.submit(apply_pending, url, read_source(folder), limits=IMPATIENT)
        wait_until(lambda: _waiting_for(owner, "busy") or run.done(), 60)
        owner.execute("SELECT * FROM busy")
        with pytest.raises(LockHeld, match=r"1_a\.sql:3: .*gave up after 3 attempts"):
            run.result(timeout=60)


def test_the_migrator_writes_a_limit_as_the_server_shows_it(owner: Connection) -> None:
    for seconds in (0.001, 0.25, 1.0, 1.5, 59.999, 60.0, 90.0, 3600.0, 86400.0, 129600.0, 1e9, 0.0):
        with in_case(seconds):
            bound_lock_waits(owner, seconds)
            assert owner.execute("SHOW lock_timeout").fetchone() == (shown_setting(seconds),)


def test_a_table_that_stays_locked_is_given_up(
    empty_database: Database, folder: Path, write: Write, owner: Connection
) -> None:
    owner.execute("CREATE TABLE busy (id int)")
    write("1_a.sql", "SELECT 1;\nALTER TABLE busy ADD COLUMN more int;")
    url = empty_database.url("migrator")
    with psycopg.connect(url) as reader:
        reader.execute("SELECT * FROM busy")
        with pytest.raises(LockHeld, match=r"1_a\.sql:2: .*gave up after 3 attempts") as caught:
            apply_pending(url, read_source(folder), limits=IMPATIENT)
        message = str(caught.value)
        assert f"server process {reader.info.backend_pid}, role migrator" in message
    assert "(on busy)" in message
    assert message.count("1_a.sql") == 1
    assert "correct the file" not in message
    assert caught.value.sqlstate == "55P03"
    assert applied_versions(owner) == []


@pytest.mark.parametrize("script", ["SELECT 1", "SELECT 1; COMMIT; SELECT 2"])
def test_a_locked_ledger_is_given_up_with_the_session_that_locks_it(
    empty_database: Database, folder: Path, write: Write, script: str
) -> None:
    write("1_a.sql", script)
    url = empty_database.url("migrator")
    apply_pending(url, ())
    with psycopg.connect(url) as other:
        other.execute("LOCK TABLE _sqlx_migrations IN SHARE ROW EXCLUSIVE MODE")
        with pytest.raises(LockHeld, match=r"^1_a\.sql: .*gave up after 3 attempts") as caught:
            apply_pending(url, read_source(folder), limits=IMPATIENT)
        assert f"server process {other.info.backend_pid}" in str(caught.value)
    assert "(on _sqlx_migrations)" in str(caught.value)


def test_a_lock_in_a_later_transaction_is_given_up_with_what_is_left(
    empty_database: Database, folder: Path, write: Write, owner: Connection
) -> None:
    owner.execute('CREATE TABLE "Busy" (id int)')
    write("1_a.sql", 'CREATE TABLE a ();\nCOMMIT;\nALTER TABLE "Busy" ADD COLUMN more int;')
    url = empty_database.url("migrator")
    with psycopg.connect(url) as reader:
        reader.execute('SELECT * FROM "Busy"')
        with pytest.raises(LockHeld, match=r"\(on Busy\).*is dirty.*repair --forget 1"):
            apply_pending(url, read_source(folder), limits=IMPATIENT)


@promise("many migrators at once apply each migration exactly once")
def test_eight_migrators_at_once_apply_each_migration_exactly_once(
    folder: Path, write: Write, owner: Connection, spawn: Spawn
) -> None:
    for version in range(1, 7):
        write(f"{version}_t{version}.sql", f"CREATE TABLE t{version} (); SELECT pg_sleep(0.05);")
    owner.execute("CREATE TABLE log (name text)")
    write("7_log.sql", "INSERT INTO log VALUES ('once')")
    processes = [spawn() for _ in range(8)]
    outputs = [process.communicate(timeout=90) for process in processes]
    assert [(p.returncode, err) for p, (_, err) in zip(processes, outputs, strict=True)] == [(0, "")] * 8
    applied = [name for out, _ in outputs for name in out.split()]
    assert sorted(applied) == [f"{v}_t{v}" for v in range(1, 7)] + ["7_log"]
    assert owner.execute("SELECT * FROM log").fetchall() == [("once",)]


@promise("a migrator that takes no lock is noticed once the ledger is locked")
def test_a_migrator_that_takes_no_lock_is_noticed_behind_the_ledgers_lock(
    empty_database: Database, folder: Path, write: Write, owner: Connection
) -> None:
    run = _while_an_unlocked_migrator_applies(empty_database, folder, write)
    assert run == ()
    assert applied_versions(owner) == [1]


@promise("a migrator that takes no lock is noticed once the ledger is locked", control=True)
def test_without_the_ledgers_lock_the_other_migrator_is_not_noticed(
    empty_database: Database, folder: Path, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger, "_LOCK", "SELECT '{}'")
    run = _while_an_unlocked_migrator_applies(empty_database, folder, write)
    assert isinstance(run, Exception)


def _while_an_unlocked_migrator_applies(database: Database, folder: Path, write: Write) -> object:
    """Return apply_pending's result or error while another session applies without a lock, as sqlx-cli may do."""
    url = database.url("migrator")
    write("1_a.sql", "CREATE TABLE a ()")
    (migration,) = read_source(folder)
    apply_pending(url, ())
    with (
        psycopg.connect(url, autocommit=True) as watcher,
        psycopg.connect(url) as sqlx,
        ThreadPoolExecutor(1) as pool,
    ):
        sqlx.execute("CREATE TABLE a ()")
        sqlx.execute(
            "INSERT INTO _sqlx_migrations ( version, description, success, checksum, execution_time )"
            " VALUES ( 1, 'a', TRUE, %s, -1 )",
            [migration.checksum],
        )
        run = pool.submit(apply_pending, url, (migration,))
        wait_until(lambda: _is_anybody_waiting(watcher) or run.done(), 60)
        sqlx.commit()
        return run.exception(timeout=20) or run.result()


def _waiting_for(connection: Connection, table: str) -> bool:
    row = connection.execute(
        "SELECT count(*) FROM pg_locks WHERE relation = to_regclass(%s) AND NOT granted", [table]
    ).fetchone()
    return row != (0,)


def _is_anybody_waiting(connection: Connection) -> bool:
    return connection.execute("SELECT count(*) FROM pg_locks WHERE NOT granted").fetchone() != (0,)
