"""Exceptions that arrive at any line of a call: nothing is lost, and the next call works.

A signal handler may raise between any two steps of the main thread: on Ctrl-C, or for a time limit of Celery or RQ. A
task may be cancelled at any await.
"""

from __future__ import annotations

import asyncio
import dataclasses
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pytest
from msgspec.structs import replace

from cache._sync.single_flight import SingleFlight
from cache.synchronization import Completion
from db import AsyncDataAccess, DataAccess
from db._async.transaction import innermost_block as innermost_block_of_task
from db._sync.transaction import innermost_block
from db.errors import DbError
from db.models import NewActivity, NewUser
from tests.conftest import Database
from tests.containers import Server
from tests.faults.interrupts import DRIVER, Interrupt, Interrupted, cancelled_at
from tests.integration.data_access import cache_settings, database_settings
from tests.promises import promise
from tests.scale import scaled

# One of everything, so that the next call fails if it is lost.
ONE = 1
STRIDE = scaled(8, 1)
SIGNALS = scaled(150, 1000)
_WAIT_SECONDS = 60.0
ADA = NewUser(github_id=7, username="ada")


def _settings(database: Database, redis_server: Server, namespace: str, size: int = ONE) -> tuple[Any, Any]:
    return (
        database_settings(database.url("app"), pool_size=size, pool_min_size=size),
        cache_settings(redis_server.redis_url("app"), namespace, max_connections=size),
    )


def _wait_until(is_true: Callable[[], bool], what: str) -> None:
    give_up_at = time.monotonic() + _WAIT_SECONDS
    while not is_true():
        assert time.monotonic() < give_up_at, what
        time.sleep(0.005)


def _check_whole(data: Any, size: int, where: str) -> None:
    """Check that every connection and slot is free, and that no read is registered."""
    for caches in (data.users.cached, data.activities.user_feeds):
        flights = caches._single_flight
        assert not flights._gathering, where
        assert not flights._begun, where
    if data.cache.near is not None:
        assert not data.cache.near._reads, where
    assert len(data.cache._connections._idle) <= size, where
    pool = data.pool

    def is_full() -> bool:
        statistics = pool.statistics()
        return not pool._pool.doubts and statistics["pool_size"] == statistics["pool_available"] == size

    _wait_until(is_full, f"a pooled connection is missing after an interrupt at {where}: {pool.statistics()}")


def _check_slots(data: DataAccess, size: int, where: str) -> None:
    free = data.cache._semaphore._free
    _wait_until(lambda: free.qsize() == size, f"a slot is missing after an interrupt at {where}")


def _has_one_connection(data: DataAccess) -> bool:
    return data.pool.statistics()["pool_available"] == 1


class _Calls:
    """The calls of one flavour that are interrupted. Each begins in the same state, which `prepare` makes."""

    NAMES = ("miss", "hit", "get_many", "feed", "update", "upsert", "transaction", "savepoint")

    def __init__(self, data: Any, user_id: int) -> None:
        self._data = data
        self._id = user_id

    def miss(self) -> Any:
        return self._data.users.find(self._id)

    hit = miss

    def get_many(self) -> Any:
        return self._data.users.get_many([self._id, self._id + 1])

    def feed(self) -> Any:
        return self._data.activities.feed(self._id)

    def upsert(self) -> Any:
        return self._data.users.upsert(ADA)


class _SyncCalls(_Calls):
    def prepare(self, name: str) -> None:
        if name == "hit":
            self._data.users.find(self._id)
            self._data.cache.near.invalidate_all()
        else:
            self._data.users.cached.drop([(self._id, None)])
            self._data.activities.user_feeds.drop([(self._id, None)])

    def update(self) -> None:
        user = self._data.users.get_by_github_id(7)
        self._data.users.update(replace(user, email="ada@example.org"))

    def transaction(self) -> None:
        with self._data.transaction():
            self._data.users.upsert(ADA)

    def savepoint(self) -> None:
        with self._data.transaction(), self._data.transaction():
            self._data.users.upsert(ADA)


class _AsyncCalls(_Calls):
    async def prepare(self, name: str) -> None:
        if name == "hit":
            await self._data.users.find(self._id)
            self._data.cache.near.invalidate_all()
        else:
            await self._data.users.cached.drop([(self._id, None)])
            await self._data.activities.user_feeds.drop([(self._id, None)])

    async def update(self) -> None:
        user = await self._data.users.get_by_github_id(7)
        await self._data.users.update(replace(user, email="ada@example.org"))

    async def transaction(self) -> None:
        async with self._data.transaction():
            await self._data.users.upsert(ADA)

    async def savepoint(self) -> None:
        async with self._data.transaction(), self._data.transaction():
            await self._data.users.upsert(ADA)


@pytest.fixture
def sync_data(database: Database, redis_server: Server, namespace: str) -> Iterator[DataAccess]:
    with DataAccess(*_settings(database, redis_server, namespace)) as data:
        yield data


@promise("an interrupted call leaves everything usable")
@pytest.mark.parametrize("name", _Calls.NAMES)
def test_an_exception_at_any_line_of_a_call_loses_nothing(sync_data: DataAccess, name: str) -> None:
    data = sync_data
    user = data.users.upsert(ADA)
    data.activities.add(NewActivity(user_id=user.id, type="PushEvent", timestamp=datetime.now(UTC)))
    calls = _SyncCalls(data, user.id)
    call = getattr(calls, name)
    calls.prepare(name)
    call()
    calls.prepare(name)
    with Interrupt() as counted:
        call()
    assert counted.lines > 20
    interrupted = 0
    for line in range(random.randrange(STRIDE), counted.lines, STRIDE):
        calls.prepare(name)
        try:
            with Interrupt(line) as interrupt:
                call()
        except Interrupted:
            interrupted += 1
            where = f"{interrupt.where} (line {line} of {name})"
            assert innermost_block() is None, where
            # The exception still refers to every frame that it left, as it does in a handler of the application.
            try:
                found = data.users.find(user.id)
            except DbError as failure:
                raise AssertionError(where) from failure
            assert found is not None, where
            assert found.username == "ada", where
        _check_whole(data, ONE, interrupt.where)
        _check_slots(data, ONE, interrupt.where)
    assert interrupted > counted.lines / STRIDE / 2


@promise("an interrupted call leaves everything usable")
@pytest.mark.parametrize("times", [1, 2])
def test_a_task_cancelled_at_any_await_loses_nothing(
    database: Database, redis_server: Server, namespace: str, times: int
) -> None:
    """Also if it is cancelled again while it cleans up."""

    async def scenario() -> None:
        async with AsyncDataAccess(*_settings(database, redis_server, namespace)) as data:
            user = await data.users.upsert(ADA)
            event = NewActivity(user_id=user.id, type="PushEvent", timestamp=datetime.now(UTC))
            await data.activities.add(event)
            calls = _AsyncCalls(data, user.id)
            for name in _Calls.NAMES:
                call = getattr(calls, name)
                await calls.prepare(name)
                _, awaits = await cancelled_at(call, None)
                assert awaits > 0
                for number in range(awaits):
                    where = f"await {number} of {name}"
                    await calls.prepare(name)
                    await cancelled_at(call, number, times)
                    assert innermost_block_of_task() is None, where
                    found = await data.users.find(user.id)
                    assert found is not None, where
                    assert found.username == "ada", where
                    # The probe in the background may be using the only slot.
                    give_up_at = time.monotonic() + _WAIT_SECONDS
                    while not _is_whole(data) or data.cache._semaphore._semaphore.locked():
                        assert time.monotonic() < give_up_at, where
                        await asyncio.sleep(0.005)

    asyncio.run(asyncio.wait_for(scenario(), 300))


def _is_whole(data: AsyncDataAccess) -> bool:
    statistics = data.pool.statistics()
    flights = data.users.cached._single_flight
    return (
        not flights._gathering
        and not flights._begun
        and statistics["pool_size"] == statistics["pool_available"] == ONE
    )


def _interrupt_after(seconds: float, call: Callable[[], object]) -> None:
    """Raise Interrupted in the main thread after this time, wherever it is then."""

    def interrupt(*_: object) -> None:
        raise Interrupted

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, seconds)
        call()
        # The signal that is too late for the call comes here.
        signal.setitimer(signal.ITIMER_REAL, 0)
    except Exception:
        # Interrupted, or what a driver made of it.
        pass
    finally:
        signal.signal(signal.SIGALRM, before)


# The signal may arrive in a finalizer, where Python reports the exception and continues.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@promise("an interrupted call leaves everything usable")
def test_signals_at_random_moments_lose_nothing(
    database: Database, redis_server: Server, namespace: str
) -> None:
    """Between all steps of Python code, also of the drivers'."""
    size = 4
    with DataAccess(*_settings(database, redis_server, namespace, size)) as data:
        user = data.users.upsert(ADA)
        calls = _SyncCalls(data, user.id)
        for _ in range(SIGNALS):
            name = random.choice(_Calls.NAMES)
            calls.prepare(name)
            _interrupt_after(random.uniform(0.0001, 0.004), getattr(calls, name))
        assert innermost_block() is None
        assert data.users.get(user.id).username == "ada"
        _check_whole(data, size, "random moments")
        _check_slots(data, size, "random moments")


def _in_thread(scenario: Callable[[], bool], what: str) -> bool:
    """Return the result of a scenario in another thread. If it waits for a lock that is never released, fail."""
    ended: list[bool] = []
    thread = threading.Thread(target=lambda: ended.append(scenario()), daemon=True)
    thread.start()
    thread.join(_WAIT_SECONDS)
    assert ended, f"no result after an interrupt at {what}"
    return ended[0]


@promise("an interrupted call leaves everything usable")
def test_an_exception_while_waiting_for_a_connection_loses_nothing(
    database: Database, redis_server: Server, namespace: str
) -> None:
    """Inside the driver's pool, while it grows, at the end of each of its functions."""
    size, number, interrupted = 3, random.randrange(scaled(4, 1)), 0
    settings, cache = _settings(database, redis_server, namespace, size)
    settings = dataclasses.replace(settings, pool_min_size=1, deadline_seconds=_WAIT_SECONDS / 2)

    def count(data: DataAccess, interrupt: Interrupt) -> bool:
        try:
            with interrupt:
                data.users.count()
        except Interrupted:
            pass
        return True

    def hold_all(data: DataAccess) -> bool:
        together = threading.Barrier(size)

        def hold() -> None:
            with data.transaction():
                together.wait(_WAIT_SECONDS)

        threads = [threading.Thread(target=hold, daemon=True) for _ in range(size)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        data.close()
        return not together.broken

    while True:
        data = DataAccess(settings, cache).__enter__()
        # A caller that waits for the first connection makes the pool grow, and the call below would not wait.
        _wait_until(partial(_has_one_connection, data), "the first connection")
        interrupt = Interrupt(number, DRIVER, "return")
        with data.transaction():
            # Another thread is not in the transaction, which has the only connection.
            assert _in_thread(partial(count, data, interrupt), "this call")
        assert _in_thread(partial(hold_all, data), interrupt.where)
        if not interrupt.where:
            break
        interrupted += 1
        # A call has only some twenty of them.
        number += scaled(4, 1)
    assert interrupted > 2


@promise("an interrupted call leaves everything usable")
def test_an_exception_while_opening_can_be_followed_by_another_attempt(
    database: Database, redis_server: Server, namespace: str
) -> None:
    """As in the first call of a forked child. What was started before the exception ends.

    At the end of each of the driver's functions.
    """
    number, interrupted = 0, 0
    while True:
        data = DataAccess(*_settings(database, redis_server, namespace))
        try:
            with Interrupt(number, DRIVER[:1], "return") as interrupt:
                data.__enter__()
        except Interrupted:
            interrupted += 1
            data.__enter__()
        assert data.users.find(1) is None, interrupt.where
        data.close()
        if not interrupt.where:
            break
        number += 1
    assert interrupted > 2
    _wait_until(
        lambda: not [each for each in threading.enumerate() if each.name.startswith("groundwork-")],
        "a thread of a pool did not end",
    )


def test_a_completion_that_was_interrupted_blocks_nobody() -> None:
    """threading.Event is the negative control."""

    def blocks(completion: Any, call: Callable[[Any], object]) -> bool:
        number = 0
        while True:
            each, number = completion(), number + 1
            try:
                with Interrupt(number - 1, DRIVER, "return") as interrupt:
                    call(each)
            except Interrupted:
                pass
            other = threading.Thread(target=each.set, daemon=True)
            other.start()
            other.join(1.0 if completion is threading.Event else _WAIT_SECONDS)
            if other.is_alive() or not interrupt.where:
                return other.is_alive()

    for call in (lambda each: each.wait(0.001), lambda each: each.set()):
        assert blocks(threading.Event, call)
        assert not blocks(Completion, call)


def test_a_completion_wakes_every_thread_that_waits() -> None:
    completion = Completion()
    woken: list[bool] = []
    waiting = [
        threading.Thread(target=lambda: woken.append(completion.wait(_WAIT_SECONDS))) for _ in range(5)
    ]
    assert not completion.wait(0.001)
    for thread in waiting:
        thread.start()
    completion.set()
    for thread in waiting:
        thread.join()
    assert woken == [True] * 5
    assert completion.wait(0)
    assert not completion._waiting


@promise("an interrupted call leaves everything usable", control=True)
def test_a_flight_registered_before_its_try_stays_registered() -> None:
    """The negative control: the leader registers first, and undoes it in a `finally` that it may not reach."""

    class Naive:
        def __init__(self) -> None:
            self.gathering: dict[int, object] = {}

        def share(self, key: int) -> None:
            self.gathering[key] = object()
            self._lead(key)

        def _lead(self, key: int) -> None:
            try:
                pass
            finally:
                del self.gathering[key]

    naive, interrupted = Naive(), 0
    Naive.share.__code__ = Naive.share.__code__.replace(co_filename=SingleFlight.share.__code__.co_filename)
    with pytest.raises(Interrupted), Interrupt(1):
        naive.share(7)
    interrupted += 1
    assert naive.gathering


def test_a_leaders_time_limit_is_not_raised_for_those_who_joined() -> None:
    """A soft time limit of Celery is an Exception. It concerns the thread that led, and no other caller."""
    flights: SingleFlight[int] = SingleFlight(lambda: None, DbError)

    def interrupted() -> int:
        joined = flights._gathering, flights._begun
        assert any(joined)
        raise Interrupted

    with pytest.raises(Interrupted):
        flights.share(7, interrupted)
    assert (flights._gathering, flights._begun) == ({}, {})
    assert flights.share(7, lambda: 1) == 1


def test_a_signal_handler_may_read_what_its_thread_is_reading() -> None:
    """It must not wait for its own thread."""
    flights: SingleFlight[int] = SingleFlight(lambda: None)
    assert flights.share(7, lambda: flights.share(7, lambda: 1)) == 1
    gathering = flights._gathering

    def handler() -> int | None:
        return flights.share(8, lambda: 2)

    class Reentrant(dict[Any, Any]):
        def pop(self, *arguments: Any) -> Any:
            # While the flight is registered and has not begun.
            found.append(handler())
            return super().pop(*arguments)

    found: list[int | None] = []
    flights._gathering = Reentrant(gathering)
    assert flights.share(8, lambda: 1) == 1
    assert found[0] == 2


def test_a_flight_whose_leader_is_gone_is_taken_over() -> None:
    """Whatever the leader was interrupted by: nobody waits for it."""
    flights: SingleFlight[int] = SingleFlight(lambda: None)
    kept: list[Any] = []

    def lead() -> int:
        kept.append(flights._begun[7])
        return 1

    flights.share(7, lead)
    flights._gathering[7] = kept[0]
    assert not kept[0].is_led()
    assert flights.share(7, lambda: 2) == 2
    assert not flights._gathering
