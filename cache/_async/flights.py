"""Callers of one process that miss the same key share one read of the database.

A caller joins only a read that has not begun yet: what a read under way returns, be it from Redis, may be
older than an invalidation that was over before the caller came. So a burst of callers costs two reads.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable
from threading import Lock
from typing import Generic, TypeVar

from cache.completion import AsyncCompletion

T = TypeVar("T")


class AsyncFlight(Generic[T]):
    """One read and what came of it. `has_landed` is false after its leader was cancelled."""

    __slots__ = ("done", "error", "has_landed", "result")

    def __init__(self) -> None:
        self.done = AsyncCompletion()
        self.has_landed = False
        self.result: T | None = None
        self.error: Exception | None = None


class AsyncFlights(Generic[T]):
    """For each key at most one read that has begun and one that gathers callers for after it."""

    # How long a read waits for the one before it: then it begins beside it, its deadline is still ahead.
    PATIENCE_SECONDS = 1.0
    # Whoever has joined waits for its leader, whose own deadline came first: this is for one that has none.
    JOINED_SECONDS = 60.0

    def __init__(self, on_join: Callable[[], None]) -> None:
        self._on_join = on_join
        self._lock = Lock()
        self._gathering: dict[Hashable, AsyncFlight[T]] = {}
        self._begun: dict[Hashable, AsyncFlight[T]] = {}

    async def share(self, key: Hashable, read: Callable[[], Awaitable[T | None]]) -> T | None:
        """What `read()` returns or raises, for every caller that joined before it was called."""
        while True:
            with self._lock:
                flight = self._gathering.get(key)
                ahead = self._begun.get(key)
                leads = flight is None
                if flight is None:
                    flight = self._gathering[key] = AsyncFlight()
            if leads:
                return await self._lead(key, flight, ahead, read)
            self._on_join()
            if not await flight.done.wait(self.JOINED_SECONDS):
                return await read()
            if flight.error is not None:
                raise flight.error
            if flight.has_landed:
                return flight.result

    async def _lead(
        self,
        key: Hashable,
        flight: AsyncFlight[T],
        ahead: AsyncFlight[T] | None,
        read: Callable[[], Awaitable[T | None]],
    ) -> T | None:
        try:
            if ahead is not None:
                await ahead.done.wait(self.PATIENCE_SECONDS)
            self._begin(key, flight)
            flight.result = await read()
            flight.has_landed = True
            return flight.result
        except Exception as error:
            flight.error = error
            raise
        finally:
            with self._lock:
                for flights in (self._gathering, self._begun):
                    if flights.get(key) is flight:
                        del flights[key]
            flight.done.set()

    def _begin(self, key: Hashable, flight: AsyncFlight[T]) -> None:
        with self._lock:
            if self._gathering.get(key) is flight:
                del self._gathering[key]
            self._begun[key] = flight
