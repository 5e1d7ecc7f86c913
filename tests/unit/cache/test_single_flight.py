"""Shared reads of one key: which callers join which read, with tasks and with threads."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from cache._async.single_flight import AsyncSingleFlight
from cache._sync.single_flight import SingleFlight
from tests.containers import wait_until


def test_tasks_that_arrive_during_a_read_share_the_next_read() -> None:
    async def scenario() -> tuple[list[int | None], int, int]:
        joined: list[None] = []
        single_flight: AsyncSingleFlight[int] = AsyncSingleFlight(lambda: joined.append(None))
        reads = 0

        async def read() -> int:
            nonlocal reads
            reads += 1
            await asyncio.sleep(0.01)
            return 7

        answers = await asyncio.gather(*(single_flight.share(1, read) for _ in range(10)))
        return answers, reads, len(joined)

    assert asyncio.run(scenario()) == ([7] * 10, 2, 8)


def test_a_task_that_arrives_later_gets_a_later_read() -> None:
    """The result of a running read may be older than what the later caller already knows."""

    async def scenario() -> list[int | None]:
        single_flight: AsyncSingleFlight[int] = AsyncSingleFlight(lambda: None)
        table = 1

        async def read() -> int:
            seen = table
            await asyncio.sleep(0.02)
            return seen

        first = asyncio.create_task(single_flight.share(1, read))
        await asyncio.sleep(0.01)
        table = 2
        later = [asyncio.create_task(single_flight.share(1, read)) for _ in range(5)]
        return [await first, *[await task for task in later]]

    assert asyncio.run(scenario()) == [1, 2, 2, 2, 2, 2]


def test_a_failure_is_raised_for_every_caller() -> None:
    async def scenario() -> list[object]:
        single_flight: AsyncSingleFlight[int] = AsyncSingleFlight(lambda: None)

        async def read() -> int:
            await asyncio.sleep(0.01)
            raise LookupError("no")

        tasks = (single_flight.share(1, read) for _ in range(3))
        return [type(outcome) for outcome in await asyncio.gather(*tasks, return_exceptions=True)]

    assert asyncio.run(scenario()) == [LookupError] * 3


def test_a_cancelled_leader_does_not_cancel_the_others() -> None:
    async def scenario() -> tuple[bool, list[int | None]]:
        single_flight: AsyncSingleFlight[int] = AsyncSingleFlight(lambda: None)

        may_end = asyncio.Event()

        async def read() -> int:
            await may_end.wait()
            return 7

        first = asyncio.create_task(single_flight.share(1, read))
        await asyncio.sleep(0)
        leader, *others = [asyncio.create_task(single_flight.share(1, read)) for _ in range(4)]
        await asyncio.sleep(0.01)
        # It is cancelled while it waits for the first read, and the others wait for it.
        leader.cancel()
        await asyncio.wait([leader])
        may_end.set()
        return leader.cancelled(), [await task for task in (first, *others)]

    assert asyncio.run(scenario()) == (True, [7] * 4)


def test_different_keys_do_not_wait_for_each_other() -> None:
    async def scenario() -> list[int | None]:
        single_flight: AsyncSingleFlight[int] = AsyncSingleFlight(lambda: None)
        begun = 0
        all_have_begun = asyncio.Event()

        async def read() -> int:
            nonlocal begun
            begun += 1
            if begun == 20:
                all_have_begun.set()
            await asyncio.wait_for(all_have_begun.wait(), 60)
            return 7

        return await asyncio.gather(*(single_flight.share(key, read) for key in range(20)))

    assert asyncio.run(scenario()) == [7] * 20


def test_fifty_threads_read_at_most_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SingleFlight, "PATIENCE_SECONDS", 60.0)
    joined: list[None] = []
    single_flight: SingleFlight[int] = SingleFlight(lambda: joined.append(None))
    reads: list[None] = []
    ready = threading.Barrier(50)

    def read() -> int:
        reads.append(None)
        # Two callers may lead a read; all others have joined one.
        wait_until(lambda: len(joined) >= 48)
        return 7

    def call(_: int) -> int | None:
        ready.wait()
        return single_flight.share(1, read)

    with ThreadPoolExecutor(50) as threads:
        assert list(threads.map(call, range(50))) == [7] * 50
    assert len(reads) <= 2


def test_threads_that_joined_a_slow_read_do_not_read_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow database could not handle a separate read for each thread."""
    joined: list[None] = []

    def patience(_: object) -> float:
        """Let the second read start before the first one ends, but after every other thread has joined."""
        wait_until(lambda: len(joined) >= 18)
        return 0.01

    monkeypatch.setattr(SingleFlight, "PATIENCE_SECONDS", property(patience))
    single_flight: SingleFlight[int] = SingleFlight(lambda: joined.append(None))
    reads: list[None] = []
    ready = threading.Barrier(20)

    def read() -> int:
        reads.append(None)
        wait_until(lambda: len(joined) >= 18)
        # Much longer than a thread is patient.
        time.sleep(0.5)
        return 7

    def call(_: int) -> int | None:
        ready.wait()
        return single_flight.share(1, read)

    with ThreadPoolExecutor(20) as threads:
        assert list(threads.map(call, range(20))) == [7] * 20
    assert len(reads) <= 2


def test_a_caller_that_waits_too_long_reads_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SingleFlight, "PATIENCE_SECONDS", 0.05)
    single_flight: SingleFlight[int] = SingleFlight(lambda: None)
    hangs, stuck = threading.Event(), threading.Event()

    def hang() -> int:
        hangs.set()
        stuck.wait(60)
        return 1

    with ThreadPoolExecutor(1) as thread:
        hanging = thread.submit(single_flight.share, 1, hang)
        assert hangs.wait(60)
        assert single_flight.share(1, lambda: 7) == 7
        stuck.set()
        assert hanging.result() == 1
