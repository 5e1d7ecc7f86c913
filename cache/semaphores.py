"""Semaphores that limit concurrent calls: `AsyncSemaphore` for tasks, `Semaphore` for threads.

A permit is held in a list that its holder creates before, so that there is always a place to release it from.
"""

from __future__ import annotations

import asyncio
from queue import Empty, SimpleQueue
from weakref import ref

from cache.forking import register


class AsyncSemaphore:
    """A semaphore for the tasks of one event loop. Callers wait here, and not inside a call with a time limit."""

    def __init__(self, count: int) -> None:
        self._count = count
        self.after_fork()
        register(self)

    def after_fork(self) -> None:
        self._semaphore = asyncio.Semaphore(self._count)

    async def acquire(self, seconds: float, held: list[object]) -> bool:
        """Acquire a permit into `held`, waiting up to `seconds`, and return whether it succeeded."""
        if not self._semaphore.locked():
            held.append(await self._semaphore.acquire())
            return True
        try:
            async with asyncio.timeout(seconds):
                held.append(await self._semaphore.acquire())
        except TimeoutError:
            return False
        return True

    def release(self, held: list[object]) -> None:
        """Release the permits in `held`. Idempotent."""
        while held:
            held.pop()
            self._semaphore.release()


class _Permit:
    __slots__ = ("__weakref__",)


class Semaphore:
    """A semaphore for threads. It replaces a permit whose holder was interrupted and lost it.

    Between any two steps of Python code a signal handler may raise. A lost permit is deleted with its holder's frame.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self.after_fork()
        register(self)

    def after_fork(self) -> None:
        # Implemented in C, it takes a tenth of the time of threading.Semaphore.
        self._free: SimpleQueue[object] = SimpleQueue()
        self._existing: set[ref[_Permit]] = set()
        self._replace_lost()

    def acquire(self, seconds: float, held: list[object]) -> bool:
        """Acquire a permit into `held`, waiting up to `seconds`, and return whether it succeeded."""
        if len(self._existing) < self._count:
            self._replace_lost()
        try:
            held.append(self._free.get(timeout=seconds))
        except Empty:
            return False
        return True

    def release(self, held: list[object]) -> None:
        """Release the permits in `held`. Idempotent."""
        while held:
            self._free.put(held.pop())

    def _replace_lost(self) -> None:
        while len(self._existing) < self._count:
            permit = _Permit()
            self._existing.add(ref(permit, self._existing.discard))
            # Another thread may be doing the same. Then both permits are deleted, and one of the threads tries again.
            if len(self._existing) <= self._count:
                self._free.put(permit)
