"""Many callers share few connections: each gets its turn, and after a fault no connection is lost."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import psycopg
import pytest
from psycopg_pool import ConnectionPool

from db import AsyncDataAccess, DataAccess
from db.errors import DbError
from db.migrator import apply_pending, read_source
from db.models import NewUser
from infra.docker.engine import docker
from infra.spec import roles
from tests import containers
from tests.conftest import Database
from tests.containers import Server, pause, wait_until
from tests.integration.data_access import cache_settings, data_access, database_settings
from tests.promises import promise
from tests.scale import scaled

CALLERS, CONNECTIONS = 64, 8
# The total number of turns. A slower machine takes longer.
TURNS = CALLERS * scaled(30, 1000)
# By chance a caller may have fewer turns than others, but not less than this share of the median.
LEAST_SHARE = 0.2
# Longer than a connection takes on a busy machine.
DEADLINE_SECONDS = scaled(2, 1)
NO_CACHE = cache_settings("redis://app:x@localhost:1/0", "none")


def starved(turns: list[int]) -> list[int]:
    """Return the callers with far fewer turns than the median, or none."""
    middle = sorted(turns)[len(turns) // 2]
    return [caller for caller, count in enumerate(turns) if count <= LEAST_SHARE * middle]


def take_turns(turn: Callable[[], object]) -> list[int]:
    """Run all callers, and return the number of turns of each."""
    turns = [0] * CALLERS

    def call(caller: int) -> None:
        while sum(turns) < TURNS:
            try:
                turn()
                turns[caller] += 1
            except psycopg.OperationalError:
                # Not a turn. Errors of the data access are not caught here.
                time.sleep(0.05)

    with ThreadPoolExecutor(CALLERS) as threads:
        for caller in [threads.submit(call, caller) for caller in range(CALLERS)]:
            caller.result()
    return turns


@promise("the pool starves no caller and loses no connection")
def test_no_thread_is_starved_and_no_connection_lost(database: Database) -> None:
    settings = database_settings(database.url("app"), pool_size=CONNECTIONS)
    with DataAccess(settings, NO_CACHE) as data:
        turns = take_turns(lambda: data.users.list(limit=1))
        assert starved(turns) == []
        wait_until(is_whole(data))
        assert data.pool.statistics()["pool_size"] <= CONNECTIONS


@promise("the pool starves no caller and loses no connection")
def test_no_task_is_starved_and_no_connection_lost(database: Database) -> None:
    async def scenario() -> tuple[list[int], dict[str, int]]:
        settings = database_settings(database.url("app"), pool_size=CONNECTIONS)
        async with AsyncDataAccess(settings, NO_CACHE) as data:
            turns = [0] * CALLERS

            async def call(caller: int) -> None:
                while sum(turns) < TURNS:
                    await data.users.list(limit=1)
                    turns[caller] += 1

            await asyncio.gather(*(call(caller) for caller in range(CALLERS)))
            await asyncio.to_thread(wait_until, is_whole(data))
            return turns, data.pool.statistics()

    turns, statistics = asyncio.run(scenario())
    assert starved(turns) == []
    assert statistics["pool_size"] == statistics["pool_available"] <= CONNECTIONS


@promise("the pool starves no caller and loses no connection", control=True)
def test_connections_that_are_kept_starve_callers(database: Database) -> None:
    """The negative control: the first callers keep all connections."""
    database.psql(f"ALTER DATABASE {database.name} CONNECTION LIMIT {CONNECTIONS}")
    mine = threading.local()
    with ExitStack() as stack:

        def turn() -> None:
            if not hasattr(mine, "connection"):
                connection = psycopg.connect(database.url("app"), autocommit=True)
                mine.connection = stack.enter_context(connection)
            mine.connection.execute("SELECT 1")

        assert len(starved(take_turns(turn))) == CALLERS - CONNECTIONS


@pytest.fixture(scope="module")
def sick_postgres(docker_engine: None) -> Iterator[Server]:
    """A migrated Postgres for this module only, because the tests freeze and crash it."""
    with containers.postgres_server(in_memory=True) as server:
        apply_pending(server.database_url("migrator"), read_source())
        yield server


def psql(server: Server, sql: str) -> str:
    return server.psql(sql, roles.DATABASE).strip()


def terminate(server: Server) -> None:
    """Close every connection of the application, five times."""
    for _ in range(5):
        psql(server, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app_a'")
        time.sleep(0.2)


def crash(server: Server) -> None:
    """Kill one backend, so that the server ends all sessions and recovers."""
    pid = psql(server, "SELECT min(pid) FROM pg_stat_activity WHERE usename = 'app_a'")
    docker("exec", server.container, "sh", "-c", f"kill -KILL {pid}")
    time.sleep(0.5)
    wait_until(server.answers)


def freeze(server: Server) -> None:
    pause(server.container)
    time.sleep(2 * DEADLINE_SECONDS)
    docker("unpause", server.container)


def lock(server: Server) -> None:
    """Lock users for longer than the deadline of a call."""
    psql(server, f"BEGIN; LOCK TABLE groundwork.users; SELECT pg_sleep({2 * DEADLINE_SECONDS}); ROLLBACK")


def refuse(server: Server) -> None:
    """Limit the role to two connections, and close those it has."""
    psql(server, "ALTER ROLE app_a CONNECTION LIMIT 2")
    terminate(server)
    psql(server, "ALTER ROLE app_a CONNECTION LIMIT 60")


@promise("the pool recovers without a restart after an outage")
@pytest.mark.parametrize("fault", [terminate, crash, freeze, lock, refuse])
def test_after_a_fault_every_connection_is_back(
    flavour: str, sick_postgres: Server, fault: Callable[[Server], None]
) -> None:
    settings = database_settings(
        sick_postgres.database_url("app_a"), pool_size=CONNECTIONS, deadline_seconds=DEADLINE_SECONDS
    )
    with data_access(flavour, settings, NO_CACHE) as data:
        stopped = threading.Event()
        calls: list[Callable[[], Any]] = [
            lambda: data.users.list(limit=1),
            lambda: data.users.upsert(NewUser(github_id=random.randint(1, 50), username="x")),
        ]

        def call(caller: int) -> Counter[str]:
            outcomes: Counter[str] = Counter()
            while not stopped.is_set():
                try:
                    calls[caller % 2]()
                    outcomes["ok"] += 1
                except DbError as error:
                    outcomes[type(error).__name__] += 1
                    # If all callers failed at once and repeated, the pool would have no time to connect.
                    time.sleep(0.05)
            return outcomes

        with ThreadPoolExecutor(2 * CONNECTIONS) as threads:
            callers = [threads.submit(call, caller) for caller in range(2 * CONNECTIONS)]
            try:
                time.sleep(0.3)
                fault(sick_postgres)
                # Wait until calls succeed again.
                wait_until(lambda: _is_answered(data), 180)
            finally:
                stopped.set()
            outcomes = sum((caller.result() for caller in callers), Counter[str]())
        assert outcomes["ok"] > 0
        wait_until(is_whole(data), 180)
        size = data.pool.statistics()["pool_size"]
        assert 1 <= size <= CONNECTIONS
        # The server has no session that the pool does not know.
        open_ones = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'app_a'"
        wait_until(lambda: int(psql(sick_postgres, open_ones)) <= data.pool.statistics()["pool_size"], 60)


@promise("the pool starves no caller and loses no connection", control=True)
def test_a_connection_that_is_not_given_back_is_seen(database: Database) -> None:
    """The negative control: an error between getconn and putconn."""
    with ConnectionPool(database.url("app"), min_size=2, open=True) as pool:
        pool.wait()
        connection = pool.getconn()
        with pytest.raises(psycopg.errors.UndefinedTable):
            connection.execute("SELECT * FROM nothing")
        time.sleep(0.5)
        statistics = pool.get_stats()
        assert statistics["pool_available"] < statistics["pool_size"]
        pool.putconn(connection)


def is_whole(data: Any) -> Callable[[], bool]:
    def holds() -> bool:
        statistics = data.pool.statistics()
        return bool(statistics["pool_size"] == statistics["pool_available"])

    return holds


def _is_answered(data: Any) -> bool:
    try:
        data.users.list(limit=1)
    except DbError:
        return False
    return True
