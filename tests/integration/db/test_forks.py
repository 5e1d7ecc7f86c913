"""Processes that fork after they opened a data access, as gunicorn --preload, Celery and multiprocessing do."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from msgspec.structs import replace

from cache import forking
from db import AsyncDataAccess, DataAccess
from db.errors import TransactionOver
from db.models import NewUser
from tests.conftest import Database
from tests.containers import Server
from tests.integration.data_access import cache_settings, database_settings
from tests.integration.db.forked import in_child, result_of, start
from tests.promises import promise
from tests.scale import scaled

FORKS = scaled(6, 100)
ADA = NewUser(github_id=7, username="ada")


@pytest.fixture
def settings(database: Database, redis_server: Server, namespace: str) -> tuple[Any, Any]:
    return (
        database_settings(database.url("app"), pool_size=2, pool_min_size=2),
        cache_settings(redis_server.redis_url("app"), namespace, max_connections=2),
    )


@pytest.fixture
def data(settings: tuple[Any, Any]) -> Iterator[DataAccess]:
    with DataAccess(*settings) as opened:
        yield opened


def _write(data: DataAccess, user_id: int, email: str) -> None:
    """Write and read past the cache, through it, and from the near cache."""
    user = data.users.get_by_github_id(7)
    data.users.update(replace(user, email=email))
    assert data.users.get(user_id).email == email
    with data.transaction():
        assert data.users.get(user_id).email == email


@promise("a forked child uses connections of its own")
def test_a_childs_calls_do_not_disturb_the_parent(data: DataAccess) -> None:
    user = data.users.upsert(ADA)
    for number in range(FORKS):
        _write(data, user.id, f"parent{number}@example.org")
        in_child(lambda n=number: _write(data, user.id, f"child{n}@example.org"))
        # The parent's next write, on a connection that it had before.
        _write(data, user.id, f"after{number}@example.org")
    statistics = data.pool.statistics()
    assert statistics.get("returns_bad", 0) == 0
    assert statistics.get("connections_lost", 0) == 0
    assert not data.cache.breaker.is_open


@promise("a forked child uses connections of its own")
@pytest.mark.parametrize("step", ["metrics", "pool", "connections"])
def test_a_signal_while_the_child_starts_leaves_it_nothing_of_the_parents(
    data: DataAccess, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """Python ignores what a signal handler raises there, as on Ctrl-C to a group of processes."""
    user = data.users.upsert(ADA)
    owner, name = {
        "metrics": (forking, "_free_metrics"),
        "pool": (data.pool, "_make_pool"),
        "connections": (data.pool._pool, "abandon"),
    }[step]
    run, arrived = getattr(owner, name), []

    def interrupted() -> Any:
        if not arrived:
            arrived.append(True)
            signal.raise_signal(signal.SIGUSR1)
        return run()

    def handler(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGUSR1, handler)
    monkeypatch.setattr(owner, name, interrupted)
    try:
        in_child(lambda: _write(data, user.id, "child@example.org"))
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert not arrived
    _write(data, user.id, "parent@example.org")
    assert data.pool.statistics().get("returns_bad", 0) == 0


@promise("a forked child uses connections of its own")
def test_children_work_at_the_same_time_and_after_their_parent_closes(data: DataAccess) -> None:
    user = data.users.upsert(ADA)
    reader, writer = os.pipe()

    def child() -> str:
        before = data.users.get(user.id).username
        os.read(reader, 1)
        return before + data.users.get_by_github_id(7).username

    children = [start(child) for _ in range(3)]
    data.close()
    os.write(writer, b"xxx")
    assert [result_of(each) for each in children] == ["adaada"] * 3
    os.close(reader)
    os.close(writer)


@promise("a forked child uses connections of its own")
def test_a_child_of_a_child_works(data: DataAccess) -> None:
    user = data.users.upsert(ADA)

    def child() -> str:
        data.users.get(user.id)
        grandchild: str = in_child(lambda: data.users.get_by_github_id(7).username)
        return data.users.get_by_github_id(7).username + grandchild

    assert in_child(child) == "adaada"
    # Also if the child between them did not use it.
    assert in_child(lambda: in_child(lambda: data.users.get(user.id).username)) == "ada"


@promise("a forked child uses connections of its own")
def test_a_fork_while_other_threads_are_in_calls_leaves_no_lock_locked(data: DataAccess) -> None:
    user = data.users.upsert(ADA)
    ended = threading.Event()

    def call() -> None:
        while not ended.is_set():
            data.users.cached.drop([(user.id, None)])
            data.users.get(user.id)
            data.users.get_many([user.id, user.id + 1])

    threads = [threading.Thread(target=call) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        names = [in_child(lambda: data.users.get_by_github_id(7).username) for _ in range(FORKS)]
        names += [in_child(lambda: data.users.get(user.id).username) for _ in range(FORKS)]
    finally:
        ended.set()
        for thread in threads:
            thread.join()
    assert names == ["ada"] * 2 * FORKS


def test_every_lock_is_free_in_a_child() -> None:
    """Whatever the parent's threads were doing."""
    from cache.metrics import HITS, MISSES

    exclusion = forking.Exclusion()
    metric = HITS.labels("user", "redis", "value")
    with exclusion._lock, metric._value._lock, MISSES._lock:

        def child() -> int:
            metric.inc()
            MISSES.labels("user", "fork")
            return exclusion(lambda: 7)

        assert in_child(child) == 7


def test_multiprocessing_children_work(data: DataAccess) -> None:
    user = data.users.upsert(ADA)
    context = multiprocessing.get_context("fork")
    with context.Pool(2, initializer=_give, initargs=(data,)) as pool:
        assert pool.map(_read, [user.id] * 8) == ["ada"] * 8
    _write(data, user.id, "parent@example.org")


_given: list[DataAccess] = []


def _give(data: DataAccess) -> None:
    _given.append(data)


def _read(user_id: int) -> str:
    _given[0].users.cached.drop([(user_id, None)])
    return _given[0].users.get(user_id).username


def test_a_transaction_of_the_parent_has_ended_in_the_child(data: DataAccess) -> None:
    user = data.users.upsert(ADA)
    with data.transaction():
        data.users.update(replace(user, email="in@example.org"))

        def child() -> str:
            with pytest.raises(TransactionOver):
                data.users.get(user.id)
            return "over"

        assert in_child(child) == "over"
    assert data.users.get(user.id).email == "in@example.org"


def test_a_child_that_never_calls_closes_nothing_of_the_parents(data: DataAccess) -> None:
    user = data.users.upsert(ADA)
    in_child(data.close)
    _write(data, user.id, "parent@example.org")


@promise("a forked child uses connections of its own")
def test_an_async_data_access_works_in_a_new_loop_of_the_child(settings: tuple[Any, Any]) -> None:
    async def scenario() -> None:
        async with AsyncDataAccess(*settings) as data:
            user = await data.users.upsert(ADA)

            async def child() -> str:
                found = await data.users.get(user.id)
                await data.users.update(replace(await data.users.get_by_github_id(7), email="child"))
                await data.aclose()
                return found.username

            for number in range(3):
                assert await asyncio.to_thread(in_child, lambda: asyncio.run(child())) == "ada"
                user = await data.users.get_by_github_id(7)
                assert user.email == "child"
                user = await data.users.update(replace(user, email=f"parent{number}"))

    asyncio.run(scenario())


_NORMAL_EXIT = """
import os, sys
from cache.settings import CacheSettings
from db import DataAccess
from db.models import NewUser

with DataAccess.open() as data:
    ada = data.users.upsert(NewUser(github_id=7, username="ada"))
    data.users.get(ada.id)
    child = os.fork()
    if child == 0:
        assert data.users.get_by_github_id(7) == ada
        sys.exit(0)
    _, status = os.waitpid(child, 0)
    assert status == 0, status
    for _ in range(3):
        ada = data.users.update(ada)
    print("the parent wrote", flush=True)
"""


@promise("a forked child uses connections of its own")
def test_a_child_that_exits_normally_leaves_the_parent_alone(
    database: Database, redis_server: Server, namespace: str
) -> None:
    """It leaves the block and runs the finalizers of the interpreter."""
    environment = {
        **os.environ,
        "DATABASE_URL": database.url("app"),
        "REDIS_URL": redis_server.redis_url("app"),
        "GROUNDWORK_CACHE_NAMESPACE": namespace,
    }
    done = subprocess.run(
        [sys.executable, "-c", _NORMAL_EXIT],
        env=environment, capture_output=True, text=True, timeout=180, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout == "the parent wrote\n", done.stderr
    # A busy machine may exceed the time limit of Redis, which is logged.
    assert "Exception ignored" not in done.stderr
    assert "Traceback" not in done.stderr


@promise("a forked child uses connections of its own", control=True)
def test_a_connection_that_a_child_uses_is_lost_for_the_parent(database: Database) -> None:
    """The negative control: psycopg's connection, used on both sides of a fork."""
    with psycopg.connect(database.url("app"), autocommit=True) as connection:
        connection.execute("SELECT 1")
        in_child(lambda: connection.execute("SELECT 1").fetchone())
        errors = 0
        for _ in range(3):
            try:
                connection.execute("SELECT 2")
            except psycopg.OperationalError:
                errors += 1
        assert errors > 0
