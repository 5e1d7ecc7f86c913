"""A number of places that callers take and give back: they queue here, and not inside a timed call."""

from __future__ import annotations

import asyncio
from queue import Empty, SimpleQueue


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
        # In C, unlike threading.Semaphore: a tenth of its time.
        self._free: SimpleQueue[None] = SimpleQueue()
        for _ in range(count):
            self._free.put(None)

    def take(self, seconds: float) -> bool:
        """Whether a place came free within so many seconds."""
        try:
            self._free.get(timeout=seconds)
        except Empty:
            return False
        return True

    def give(self) -> None:
        self._free.put(None)
