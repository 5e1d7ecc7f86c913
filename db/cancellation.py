"""Whether a task was cancelled while it waited, told even where what it waited for has swallowed that."""

from __future__ import annotations

import asyncio


class AsyncCancellation:
    """Made before a wait; `heed` after it raises the CancelledError that the wait should have raised.

    asyncio.wait_for of Python 3.11 returns its result to a task that is cancelled in the same step of the loop,
    and psycopg_pool waits for a connection by it: the task would go on as if nobody had cancelled it.
    """

    __slots__ = ("_before", "_task")

    def __init__(self) -> None:
        self._task = asyncio.current_task()
        # A task that cleans up after a cancellation keeps that one in its count.
        self._before = self._task.cancelling() if self._task is not None else 0

    def heed(self) -> None:
        if self._task is not None and self._task.cancelling() > self._before:
            raise asyncio.CancelledError


class Cancellation:
    """The sync counterpart: a thread is not cancelled."""

    __slots__ = ()

    def heed(self) -> None:
        return
