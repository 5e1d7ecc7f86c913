"""A number of places that callers take and give back: they queue here, and not inside a timed call."""

from __future__ import annotations

import asyncio
import threading


class AsyncSlots:
    """Places for tasks of one event loop."""

    def __init__(self, count: int) -> None:
        self._semaphore = asyncio.Semaphore(count)

    async def take(self, seconds: float) -> bool:
        """Whether a place came free within so many seconds."""
        if not self._semaphore.locked():
            return await self._semaphore.acquire()
        try:
            async with asyncio.timeout(seconds):
                return await self._semaphore.acquire()
        except TimeoutError:
            return False

    def give(self) -> None:
        self._semaphore.release()


class Slots:
    """Places for threads."""

    def __init__(self, count: int) -> None:
        self._semaphore = threading.Semaphore(count)

    def take(self, seconds: float) -> bool:
        """Whether a place came free within so many seconds."""
        return self._semaphore.acquire(timeout=seconds)

    def give(self) -> None:
        self._semaphore.release()
