"""While a migration waits for a table that a long transaction has locked, it delays queries by at most 600 ms (p99)."""

from __future__ import annotations

import statistics
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest

from db.migrator import LockLimits, apply_pending, read_source
from tests.conftest import Connection, Database
from tests.integration.migrator.conftest import Write
from tests.promises import promise
from tests.scale import scaled

PROMISED_SECONDS = 0.6
CALLERS = 4
# Each caller queries at fixed times, so that a query delayed by an earlier slow one counts as late.
INTERVAL_SECONDS = 0.05
LONG_SECONDS = scaled(6, 30)
DEFAULTS = LockLimits()


@pytest.fixture
def busy(owner: Connection, write: Write) -> None:
    owner.execute("CREATE TABLE busy (id int PRIMARY KEY, n int)")
    owner.execute("CREATE TABLE also_busy (id int PRIMARY KEY, n int)")
    for table in ("busy", "also_busy"):
        owner.execute(f"INSERT INTO {table} SELECT n, n FROM generate_series(1, 100) n".encode())
        owner.execute(f"GRANT SELECT, UPDATE ON {table} TO app".encode())
    # The migration locks the first table at once, and keeps that lock while it waits for the second.
    write("1_a.sql", "ALTER TABLE also_busy ADD COLUMN more int;\nALTER TABLE busy ADD COLUMN more int;")


def delays(url: str, stopped: threading.Event, table: str, caller: int) -> list[float]:
    """Return how late each query of one caller was answered, in seconds."""
    found = []
    with psycopg.connect(url, autocommit=True, options="-c lock_timeout=0") as connection:
        due = time.monotonic() + caller * INTERVAL_SECONDS / CALLERS
        while not stopped.is_set():
            time.sleep(max(0.0, due - time.monotonic()))
            if caller % 2:
                connection.execute(f"SELECT n FROM {table} WHERE id = %s", [caller])
            else:
                connection.execute(f"UPDATE {table} SET n = n + 1 WHERE id = %s", [caller])
            found.append(time.monotonic() - due)
            due += INTERVAL_SECONDS
    return found


def p99_while_migrating(database: Database, folder: Path, limits: LockLimits) -> float:
    """Return the 99th percentile of the queries' delays, while a migration waits for a transaction of LONG_SECONDS."""
    stopped = threading.Event()
    with psycopg.connect(database.url("migrator")) as reader, ThreadPoolExecutor(2 * CALLERS + 1) as pool:
        reader.execute("SELECT count(*) FROM busy")
        callers = [
            pool.submit(delays, database.url("app"), stopped, table, caller)
            for table in ("busy", "also_busy")
            for caller in range(CALLERS)
        ]
        time.sleep(0.5)
        try:
            run = pool.submit(apply_pending, database.url("migrator"), read_source(folder), limits=limits)
            ends = time.monotonic() + LONG_SECONDS
            while time.monotonic() < ends and not run.done():
                time.sleep(0.05)
            reader.rollback()
            assert len(run.result(timeout=120)) == 1
        finally:
            stopped.set()
        everything = [delay for caller in callers for delay in caller.result(timeout=60)]
    return statistics.quantiles(everything, n=100)[98]


@promise("a migration that waits for a lock delays no other query by more than the documented bound")
@pytest.mark.usefixtures("busy")
def test_a_migration_that_waits_delays_no_other_query_by_more_than_promised(
    empty_database: Database, folder: Path
) -> None:
    assert p99_while_migrating(empty_database, folder, DEFAULTS) < PROMISED_SECONDS


@promise(
    "a migration that waits for a lock delays no other query by more than the documented bound", control=True
)
@pytest.mark.usefixtures("busy")
def test_a_migration_without_a_wait_limit_delays_queries_by_more(
    empty_database: Database, folder: Path
) -> None:
    """The negative control."""
    unbounded = LockLimits(table_lock_seconds=0)
    assert p99_while_migrating(empty_database, folder, unbounded) > PROMISED_SECONDS
