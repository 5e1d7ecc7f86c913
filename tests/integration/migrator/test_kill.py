"""SIGKILL in the middle of a migration, and the next run."""

from __future__ import annotations

import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest

from db.migrator import (
    DirtyMigration,
    LockHeld,
    LockLimits,
    ScriptFailed,
    apply_pending,
    read_source,
    revert,
    status,
)
from db.migrator.resumption import worker_of
from db.migrator.script import split_statements
from tests.cases import in_case
from tests.conftest import Connection, Database
from tests.containers import wait_until
from tests.integration.migrator.conftest import Spawn, Write, applied_versions, building, tables
from tests.promises import promise

CREATE = "CREATE UNIQUE INDEX CONCURRENTLY t_a_idx ON t (a)"
CREATE_INDEX = f"-- no-transaction\n{CREATE};\n"


def index_validity(connection: Connection) -> list[tuple[object, ...]]:
    return connection.execute(
        "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass('t_a_idx')"
    ).fetchall()


def at_work(connection: Connection, statement: str) -> bool:
    """Return whether a session of the same login is running the statement."""
    connection.execute("SET ROLE NONE")
    row = connection.execute(
        "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE %s AND pid <> pg_backend_pid()",
        [f"{statement}%"],
    ).fetchone()
    connection.execute("RESET ROLE")
    return row != (0,)


@promise("a migration and its ledger row are all or nothing")
def test_a_migration_killed_half_way_is_applied_by_the_next_run(
    empty_database: Database, folder: Path, write: Write, owner: Connection, spawn: Spawn
) -> None:
    owner.execute("CREATE TABLE gate (id int)")
    owner.execute("INSERT INTO gate VALUES (1)")
    write("1_a.sql", "CREATE TABLE a ();")
    write("2_b.sql", "CREATE TABLE b ();\nSELECT pg_sleep(120) FROM gate;\nCREATE TABLE c ();")
    process = spawn()
    wait_until(lambda: at_work(owner, "SELECT pg_sleep"))
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert applied_versions(owner) == [1]
    owner.execute("DELETE FROM gate")
    # The server process still sleeps for a while, and the next run must wait for it.
    done = apply_pending(empty_database.url("migrator"), read_source(folder))
    assert [a.migration.version for a in done] == [2]
    assert tables(owner) == {"gate", "a", "b", "c"}


@promise("the next run completes a killed `CREATE INDEX CONCURRENTLY`")
def test_an_index_killed_half_way_is_dropped_and_made_by_the_next_run(
    empty_database: Database, folder: Path, write: Write, owner: Connection, spawn: Spawn
) -> None:
    owner.execute("CREATE TABLE t (a int)")
    write("1_index.sql", CREATE_INDEX)
    with psycopg.connect(empty_database.url("migrator")) as old_transaction:
        old_transaction.execute("INSERT INTO t VALUES (1)")
        process = spawn()
        wait_until(lambda: index_validity(owner) == [(False,)])
        process.send_signal(signal.SIGKILL)
        process.wait()
        wait_until(lambda: not at_work(owner, "CREATE UNIQUE INDEX"))
        old_transaction.commit()
    assert applied_versions(owner) == []
    assert index_validity(owner) == [(False,)]
    # The negative control: a plain retry leaves the index INVALID.
    owner.execute("CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS t_a_idx ON t (a)")
    assert index_validity(owner) == [(False,)]

    state = status(empty_database.url("migrator"), read_source(folder))
    assert ([m.version for m in state.pending], [r.version for r in state.interrupted]) == ([1], [1])
    apply_pending(empty_database.url("migrator"), read_source(folder))
    assert index_validity(owner) == [(True,)]
    assert applied_versions(owner) == [1]


@promise("the next run completes a killed `CREATE INDEX CONCURRENTLY`")
def test_an_index_that_was_ready_when_the_migrator_died_is_kept(
    empty_database: Database, folder: Path, write: Write, owner: Connection
) -> None:
    owner.execute("CREATE TABLE t (a int)")
    write("1_index.sql", CREATE_INDEX)
    apply_pending(empty_database.url("migrator"), read_source(folder))
    before = owner.execute("SELECT 't_a_idx'::regclass::oid").fetchone()
    owner.execute("UPDATE _sqlx_migrations SET success = FALSE")
    apply_pending(empty_database.url("migrator"), read_source(folder))
    assert owner.execute("SELECT 't_a_idx'::regclass::oid").fetchone() == before
    assert applied_versions(owner) == [1]


def test_an_index_that_cannot_be_made_leaves_nothing_behind(
    empty_database: Database, folder: Path, write: Write, owner: Connection
) -> None:
    owner.execute("CREATE TABLE t (a int)")
    owner.execute("INSERT INTO t VALUES (1), (1)")
    write("1_index.sql", CREATE_INDEX)
    with pytest.raises(ScriptFailed, match=r"1_index\.sql:2: .*23505") as caught:
        apply_pending(empty_database.url("migrator"), read_source(folder))
    assert caught.value.sqlstate == "23505"
    assert index_validity(owner) == []
    assert owner.execute("SELECT count(*) FROM _sqlx_migrations").fetchone() == (0,)
    owner.execute("TRUNCATE t")
    apply_pending(empty_database.url("migrator"), read_source(folder))
    assert index_validity(owner) == [(True,)]


def test_an_invalid_index_of_an_earlier_tool_is_dropped_first(
    empty_database: Database, folder: Path, write: Write, owner: Connection
) -> None:
    owner.execute("CREATE TABLE t (a int)")
    definitions = (
        "t_a_idx ON t (a)",
        "t_a_idx -- why\n ON t (a)",
        '/* of /* t */ */ t_a_idx/**/ON/**/only("t") using btree (a)',
        f"t_a_idx ON {empty_database.name} . groundwork.t* (a)",
    )
    for version, definition in enumerate(definitions):
        with in_case(definition):
            owner.execute("DROP INDEX IF EXISTS t_a_idx")
            owner.execute("INSERT INTO t VALUES (1), (1)")
            write(
                f"{version}_index.sql",
                f"-- no-transaction\nCREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS {definition}",
            )
            with pytest.raises(psycopg.errors.UniqueViolation):
                owner.execute("CREATE UNIQUE INDEX CONCURRENTLY t_a_idx ON t (a)")
            owner.execute("TRUNCATE t")
            assert index_validity(owner) == [(False,)]
            apply_pending(empty_database.url("migrator"), read_source(folder))
            assert index_validity(owner) == [(True,)]


PATIENT = LockLimits(migrator_lock_seconds=60)
IMPATIENT = LockLimits(migrator_lock_seconds=0.3)
REINDEX = "-- no-transaction\nREINDEX TABLE CONCURRENTLY t;\n"
WITH_NAME = CREATE_INDEX.replace("CONCURRENTLY", "CONCURRENTLY IF NOT EXISTS")


@promise("an index that another session is building is not dropped")
@pytest.mark.parametrize(
    ("script", "theirs"),
    [
        pytest.param(WITH_NAME, CREATE, id="create"),
        pytest.param(REINDEX, "REINDEX INDEX CONCURRENTLY t_b_idx", id="reindex"),
        pytest.param(CREATE_INDEX, "DROP INDEX CONCURRENTLY t_a_idx", id="drop"),
    ],
)
def test_an_index_that_another_session_works_on_is_refused_with_its_pid(
    empty_database: Database, folder: Path, write: Write, owner: Connection, script: str, theirs: str
) -> None:
    owner.execute("CREATE TABLE t (a int)")
    owner.execute("CREATE INDEX t_b_idx ON t (a)")
    if theirs.startswith("DROP"):
        owner.execute("CREATE INDEX t_a_idx ON t (a)")
    write("1_index.sql", script)
    with building(empty_database, theirs) as pid:
        before = owner.execute("SELECT indexrelid FROM pg_index WHERE NOT indisvalid").fetchall()
        assert before
        with pytest.raises(LockHeld) as caught:
            apply_pending(empty_database.url("migrator"), read_source(folder), limits=IMPATIENT)
        assert f"being built by another session: server process {pid}" in str(caught.value)
        assert f"pg_terminate_backend({pid})" in str(caught.value)
        assert owner.execute("SELECT indexrelid FROM pg_index WHERE NOT indisvalid").fetchall() == before
        # The refusal leaves no dirty row.
        assert owner.execute("SELECT count(*) FROM _sqlx_migrations").fetchone() == (0,)
    assert applied_versions(owner) == []


@promise("an index that another session is building is not dropped")
def test_an_index_that_another_role_builds_is_waited_for_and_kept(
    empty_database: Database, folder: Path, write: Write, owner: Connection
) -> None:
    owner.execute("CREATE TABLE t (a int)")
    write("1_index.sql", WITH_NAME)
    told: list[str] = []
    with ThreadPoolExecutor(1) as pool:
        with building(empty_database, CREATE, as_superuser=True) as pid:
            theirs = owner.execute("SELECT 't_a_idx'::regclass::oid").fetchone()
            run = pool.submit(
                apply_pending,
                empty_database.url("migrator"),
                read_source(folder),
                limits=PATIENT,
                on_event=lambda event: told.append(event.detail) if event.kind == "waiting" else None,
            )
            wait_until(lambda: bool(told) or run.done())
        assert len(run.result(timeout=60)) == 1
    assert [detail.partition(",")[0] for detail in told] == [
        f"index t_a_idx is being built by server process {pid}"
    ]
    assert owner.execute("SELECT 't_a_idx'::regclass::oid").fetchone() == theirs
    assert index_validity(owner) == [(True,)]


@promise("an index that another session is building is not dropped", control=True)
def test_an_index_in_the_making_looks_like_a_leftover(empty_database: Database, owner: Connection) -> None:
    owner.execute("CREATE TABLE t (a int)")
    (statement,) = split_statements(CREATE_INDEX)
    with building(empty_database, CREATE):
        assert index_validity(owner) == [(False,)]
        assert worker_of(owner, statement) is not None


@pytest.mark.parametrize("is_gone", [True, False])
def test_an_interrupted_drop_of_an_index_is_finished_by_the_next_run(
    empty_database: Database, folder: Path, write: Write, owner: Connection, is_gone: bool
) -> None:
    owner.execute("CREATE TABLE t (a int)")
    write("1_index.up.sql", CREATE_INDEX)
    write("1_index.down.sql", "-- no-transaction\nDROP INDEX CONCURRENTLY t_a_idx;\n")
    apply_pending(empty_database.url("migrator"), read_source(folder))
    owner.execute("UPDATE _sqlx_migrations SET success = FALSE")
    if is_gone:
        owner.execute("DROP INDEX t_a_idx")
    revert(empty_database.url("migrator"), read_source(folder))
    assert index_validity(owner) == []
    assert owner.execute("SELECT count(*) FROM _sqlx_migrations").fetchone() == (0,)


@promise("the next run completes a killed `CREATE INDEX CONCURRENTLY`")
@pytest.mark.parametrize("direction", ["up", "down"])
def test_an_index_killed_half_way_is_created_or_dropped_if_its_down_file_runs_in_a_transaction(
    empty_database: Database, folder: Path, write: Write, owner: Connection, direction: str
) -> None:
    url = empty_database.url("migrator")
    owner.execute("CREATE TABLE t (a int)")
    write("1_index.up.sql", CREATE_INDEX)
    write("1_index.down.sql", "-- no-transaction\nDROP INDEX IF EXISTS t_a_idx;\n")
    apply_pending(url, read_source(folder))
    owner.execute("UPDATE _sqlx_migrations SET success = FALSE")
    call = apply_pending if direction == "up" else revert
    assert len(call(url, read_source(folder))) == 1
    assert (index_validity(owner), applied_versions(owner)) == (
        ([(True,)], [1]) if direction == "up" else ([], [])
    )


def test_a_drop_of_an_index_killed_half_way_is_finished_by_down_alone(
    empty_database: Database, folder: Path, write: Write, owner: Connection
) -> None:
    url = empty_database.url("migrator")
    owner.execute("CREATE TABLE t (a int)")
    write("1_index.up.sql", "-- no-transaction\nCREATE INDEX t_a_idx ON t (a)")
    write("1_index.down.sql", "-- no-transaction\nDROP INDEX CONCURRENTLY t_a_idx;\n")
    apply_pending(url, read_source(folder))
    owner.execute("UPDATE _sqlx_migrations SET success = FALSE")
    with pytest.raises(DirtyMigration, match="`migrate down` finishes it"):
        apply_pending(url, read_source(folder))
    revert(url, read_source(folder))
    assert (index_validity(owner), applied_versions(owner)) == ([], [])


@promise("a statement whose outcome cannot be determined stays dirty")
def test_a_statement_whose_outcome_is_unknown_stays_dirty(
    empty_database: Database, folder: Path, write: Write, owner: Connection
) -> None:
    write("1_once.sql", "-- no-transaction\nCREATE TABLE once ()")
    apply_pending(empty_database.url("migrator"), read_source(folder))
    owner.execute("UPDATE _sqlx_migrations SET success = FALSE")
    with pytest.raises(DirtyMigration):
        apply_pending(empty_database.url("migrator"), read_source(folder))


def test_an_index_made_concurrently_waits_for_old_transactions_past_the_table_limit(
    empty_database: Database, folder: Path, write: Write, owner: Connection, spawn: Spawn
) -> None:
    owner.execute("CREATE TABLE t (a int)")
    write("1_index.sql", CREATE_INDEX)
    with psycopg.connect(empty_database.url("migrator")) as old_transaction:
        old_transaction.execute("INSERT INTO t VALUES (1)")
        process = spawn()
        wait_until(lambda: index_validity(owner) == [(False,)])
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=3)
        old_transaction.commit()
    out, err = process.communicate(timeout=30)
    assert (out.strip(), err) == ("1_index", "")
    assert index_validity(owner) == [(True,)]
