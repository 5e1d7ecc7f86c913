"""Writers that read their own writes from a replica at once, while other writes keep the replica busy."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest

from db.models import NewUser
from infra.spec.roles import DATABASE
from tests.integration.data_access import replica_reads
from tests.promises import promise
from tests.replica import Pair
from tests.scale import IS_FULL, scaled

WRITERS = 4
# 100,000 reads at full scale, in rounds because a test is stopped after ten minutes.
ROUNDS, READS = scaled(1, 20), scaled(1_000, 5_000)
# Enough for each control to fail at least once.
ATTEMPTS = scaled(2_000, 50_000)
_LOAD = """
INSERT INTO organizations (github_id, name) SELECT n, repeat('x', 200) FROM generate_series(1, 50) AS n
ON CONFLICT (github_id) DO UPDATE SET name = excluded.name, member_count = organizations.member_count + 1
"""
_WRITE = "UPDATE users SET username = %s WHERE github_id = 7"
_ONE_STATEMENT = """
SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn, username FROM users WHERE github_id = 7
"""


@contextmanager
def load(pair: Pair) -> Iterator[None]:
    """Write other rows all the time, so that the replica always has something to replay."""
    is_over = threading.Event()

    def write() -> None:
        with psycopg.connect(pair.url("app_a", DATABASE, servers="primary"), autocommit=True) as connection:
            while not is_over.wait(0.005):
                connection.execute(_LOAD)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


@contextmanager
def connections(pair: Pair) -> Iterator[tuple[Any, Any]]:
    """Connect to the primary and to the replica, with a user for the controls."""
    with (
        psycopg.connect(pair.url("app_a", DATABASE, servers="primary"), autocommit=True) as primary,
        psycopg.connect(pair.url("app_a", DATABASE), autocommit=True) as replica,
    ):
        primary.execute("INSERT INTO users (github_id, username) VALUES (7, 'x') ON CONFLICT DO NOTHING")
        pair.catch_up()
        yield primary, replica


@promise("a read in `reading()` sees every write that its data access has completed")
@pytest.mark.parametrize("flavour", ["sync"])
@pytest.mark.parametrize("number", range(ROUNDS))
def test_no_writer_misses_its_own_write(open_reader: Callable[..., Any], pair: Pair, number: int) -> None:
    data = open_reader(pool_size=WRITERS, read_pool_size=WRITERS)
    before = replica_reads("replica")

    def write_and_read(writer: int) -> int:
        missed = 0
        for n in range(READS // WRITERS):
            data.users.upsert(NewUser(github_id=writer, username=f"name {n}"))
            with data.reading(max_staleness=None):
                missed += data.users.find_by_github_id(writer).username != f"name {n}"
        return missed

    with load(pair), ThreadPoolExecutor(WRITERS) as threads:
        assert sum(threads.map(write_and_read, range(1, WRITERS + 1))) == 0
    # Otherwise the primary has answered all of them.
    assert replica_reads("replica") - before > READS / 100


@promise("a read in `reading()` sees every write that its data access has completed", control=True)
def test_without_a_guard_a_writer_misses_its_own_write(pair: Pair) -> None:
    with load(pair), connections(pair) as (primary, replica):
        for n in range(ATTEMPTS):
            primary.execute(_WRITE, [f"name {n}"])
            if replica.execute("SELECT username FROM users WHERE github_id = 7").fetchone() != (f"name {n}",):
                return
    pytest.fail(f"the replica had each of {ATTEMPTS} writes at once")


@pytest.mark.skipif(not IS_FULL, reason="SCALE=full: it happens once in many reads")
@promise("a read in `reading()` sees every write that its data access has completed", control=True)
def test_a_guard_in_the_statement_of_the_read_misses_a_write(pair: Pair) -> None:
    with load(pair), connections(pair) as (primary, replica):
        for n in range(ATTEMPTS):
            primary.execute(_WRITE, [f"name {n}"])
            position = primary.execute("SELECT pg_current_wal_flush_lsn()").fetchone()
            has_replayed = False
            while not has_replayed:
                has_replayed, username = replica.execute(_ONE_STATEMENT, position).fetchone()
            if username != f"name {n}":
                return
    pytest.fail(f"the guard was right in all of {ATTEMPTS} reads")
