"""Semaphores that limit concurrent calls: `AsyncSemaphore` for tasks, `Semaphore` for threads.

The caller creates a list before it acquires a permit, and the permit is put into it. So `release` finds the permit even
if the caller is interrupted.
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
    """A semaphore for threads. It replaces permits that interrupted callers have lost.

    A signal handler may raise between any two steps of Python code, also between getting a permit and storing it. The
    permit is then garbage-collected, and `acquire` then creates another.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self.after_fork()
        register(self)

    def after_fork(self) -> None:
        # SimpleQueue is implemented in C. It takes a tenth of the time of threading.Semaphore.
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
            # Another thread may have added one too. Then both are deleted, and one of the threads tries again.
            if len(self._existing) <= self._count:
                self._free.put(permit)
