"""A data access that is dropped without closing: it warns, and leaves no connection, thread or task."""

from __future__ import annotations

import asyncio
import copy
import gc
import os
import pickle
import socket
import threading
import time
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from psycopg_pool.pool_async import AddConnection

from db import AsyncDataAccess, DataAccess
from db.errors import Unavailable
from db.models import NewUser
from tests.conftest import Database
from tests.containers import Server
from tests.integration.data_access import cache_settings, database_settings
from tests.integration.db.forked import run_scripts
from tests.promises import promise

_WAIT_SECONDS = 60.0
INSTANCES = 8


@pytest.fixture
def settings(database: Database, redis_server: Server, namespace: str) -> tuple[Any, Any]:
    return (
        database_settings(database.url("app"), pool_size=2, pool_min_size=2),
        cache_settings(redis_server.redis_url("app"), namespace, max_connections=2),
    )


def _wait_until(is_true: Callable[[], bool]) -> bool:
    give_up_at = time.monotonic() + _WAIT_SECONDS
    while not is_true() and time.monotonic() < give_up_at:
        time.sleep(0.01)
    return is_true()


def _sessions(database: Database) -> int:
    sql = f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{database.name}' AND usename LIKE 'app%'"
    return int(database.psql(sql))


def _unclosed(warned: Iterable[warnings.WarningMessage]) -> int:
    return len([each for each in warned if "was not closed" in str(each.message)])


def _use(settings: tuple[Any, Any]) -> DataAccess:
    data = DataAccess(*settings).__enter__()
    user = data.users.upsert(NewUser(github_id=7, username="ada"))
    assert data.users.get(user.id) == user
    return data


@promise("a data access that is dropped without closing is released")
def test_a_dropped_instance_warns_and_leaves_nothing(settings: tuple[Any, Any], database: Database) -> None:
    before = set(threading.enumerate())
    # Without a garbage collection: nothing refers to an instance that its user dropped.
    gc.disable()
    try:
        instances = [_use(settings) for _ in range(INSTANCES)]
        assert _sessions(database) >= INSTANCES
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            instances.clear()
            # A background thread may be the last that refers to an instance.
            assert _wait_until(lambda: _unclosed(warned) == 2 * INSTANCES)
        assert _wait_until(
            lambda: not [each for each in set(threading.enumerate()) - before if each.is_alive()]
        )
        assert _wait_until(lambda: _sessions(database) == 0)
    finally:
        gc.enable()


def test_a_repository_keeps_the_data_access_alive(settings: tuple[Any, Any]) -> None:
    users = DataAccess(*settings).__enter__().users
    gc.collect()
    assert users.upsert(NewUser(github_id=7, username="ada")).username == "ada"
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        del users
        # A background thread may be the last that refers to the pool or to the client.
        assert _wait_until(lambda: _unclosed(warned) == 2)


def test_a_closed_instance_reads_nothing_and_opens_no_connection(settings: tuple[Any, Any]) -> None:
    """Not even a record that Redis has."""
    with DataAccess(*settings) as other:
        data = _use(settings)
        cached = other.users.get_by_github_id(7).id
        data.close()
        data.cache.near.invalidate_all()
        for read in (lambda: data.users.get(cached), lambda: data.users.get_many([cached]), data.users.count):
            with pytest.raises(Unavailable, match="is closed"):
                read()
        assert not data.cache._connections._idle


@pytest.mark.parametrize("copied", [pickle.dumps, copy.deepcopy, copy.copy])
@pytest.mark.parametrize("kind", [DataAccess, AsyncDataAccess])
def test_an_instance_refuses_to_be_copied(
    settings: tuple[Any, Any], kind: type[Any], copied: Callable[[Any], object]
) -> None:
    with pytest.raises(TypeError, match="open one in each process"):
        copied(kind(*settings))


def test_a_closed_instance_does_not_warn(settings: tuple[Any, Any], recwarn: pytest.WarningsRecorder) -> None:
    data = _use(settings)
    data.close()
    del data
    # One that was never opened has nothing to close.
    DataAccess(*settings)
    gc.collect()
    assert _unclosed(recwarn) == 0


@promise("a data access that is dropped without closing is released")
@pytest.mark.parametrize("is_connecting", [False, True])
def test_a_dropped_async_instance_warns_and_leaves_nothing(
    settings: tuple[Any, Any], database: Database, is_connecting: bool
) -> None:
    before = set(threading.enumerate())

    async def scenario() -> set[str]:
        data = await AsyncDataAccess(*settings).__aenter__()
        user = await data.users.upsert(NewUser(github_id=7, username="ada"))
        assert await data.users.get(user.id) == user
        if is_connecting:
            # A background task of the pool is cancelled while it makes another connection.
            data.pool._pool.run_task(AddConnection(data.pool._pool))
            await asyncio.sleep(0)
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            del data
            # A background task may be the last that refers to the pool or to the client.
            for _ in range(1000):
                await asyncio.sleep(0.01)
                tasks = asyncio.all_tasks() - {asyncio.current_task()}
                if not tasks and _unclosed(warned) == 2:
                    break
        assert _unclosed(warned) == 2
        return {task.get_name() for task in tasks}

    # Without a garbage collection, as above.
    gc.disable()
    try:
        assert asyncio.run(scenario()) == set()
        assert _wait_until(
            lambda: not [each for each in set(threading.enumerate()) - before if each.is_alive()]
        )
        assert _wait_until(lambda: _sessions(database) == 0)
    finally:
        gc.enable()


_UNCLOSED = """
import asyncio, sys
from db import AsyncDataAccess
from db.errors import Unavailable
from db.models import NewUser

async def main():
    data = await AsyncDataAccess.open().__aenter__()
    {body}
    print("the block ended", flush=True)

asyncio.run(main())
print("the loop ended", flush=True)
"""


# What the program does before its loop ends. The pauses end while the first connection is being made.
_BODIES = (
    "pass",
    "await asyncio.sleep(0)",
    "await asyncio.sleep(0.002)",
    "await asyncio.sleep(0.01)",
    "await data.users.upsert(NewUser(github_id=7, username='ada'))",
    "sys.modules['__main__'].kept = data",
)


@promise("a data access that is dropped without closing is released")
def test_a_loop_that_ends_without_aclose_ends(
    database: Database, redis_server: Server, namespace: str, tmp_path: Path
) -> None:
    """psycopg_pool's own task continues when it is cancelled while it makes a connection.

    The last program has a server that does not answer, so its connection is being made for as long as the loop runs.
    """
    with socket.create_server(("127.0.0.1", 0)) as silent:
        environment = {
            **os.environ,
            "DATABASE_URL": database.url("app"),
            "REDIS_URL": redis_server.redis_url("app"),
            "GROUNDWORK_CACHE_NAMESPACE": namespace,
        }
        url = f"postgresql://app:x@127.0.0.1:{silent.getsockname()[1]}/groundwork?sslmode=require"
        programs = [(body, environment) for body in _BODIES]
        programs.append(("await asyncio.sleep(0.5)", environment | {"DATABASE_URL": url}))
        scripts = [(_UNCLOSED.format(body=body), environment) for body, environment in programs]
        for done in run_scripts(scripts, tmp_path):
            assert done.returncode == 0, (done.args, done.stderr)
            assert done.stdout == "the block ended\nthe loop ended\n", (done.args, done.stderr)


@promise("a data access whose task is cancelled is closed")
def test_a_task_that_is_cancelled_at_every_await_closes_its_data_access(
    settings: tuple[Any, Any], database: Database
) -> None:
    """As anyio cancels, and with it Starlette: again and again until the task has ended."""
    kept: list[AsyncDataAccess] = []

    async def use(is_used: asyncio.Event) -> None:
        async with AsyncDataAccess(*settings) as data:
            kept.append(data)
            await data.users.upsert(NewUser(github_id=7, username="ada"))
            is_used.set()
            await asyncio.sleep(_WAIT_SECONDS)

    async def scenario(continues: bool) -> None:
        is_used = asyncio.Event()
        task = asyncio.create_task(use(is_used))
        await is_used.wait()
        while not task.done():
            task.cancel()
            await asyncio.sleep(0)
        if continues:
            async with asyncio.timeout(_WAIT_SECONDS):
                while asyncio.all_tasks() != {asyncio.current_task()}:
                    await asyncio.sleep(0.01)
            assert not kept[-1].pool._is_open

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for continues in (True, False):
            asyncio.run(scenario(continues))
            # Even while something refers to it.
            assert _wait_until(lambda: _sessions(database) == 0), continues
            assert not kept[-1].cache._connections._idle
            kept.clear()
            gc.collect()
