"""Single flight: callers of one process that miss the same key share one read of the database.

A caller joins only a read that has not started yet. The result of a read that has started may be older than an
invalidation that finished before the caller arrived. So a burst of callers takes two reads.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable
from threading import Lock
from typing import Generic, TypeVar

from cache.synchronization import AsyncCompletion

T = TypeVar("T")


class AsyncFlight(Generic[T]):
    """One shared read and its result. `has_landed` stays false if the leader was cancelled."""

    __slots__ = ("done", "error", "has_landed", "result")

    def __init__(self) -> None:
        self.done = AsyncCompletion()
        self.has_landed = False
        self.result: T | None = None
        self.error: Exception | None = None


class AsyncSingleFlight(Generic[T]):
    """For each key, at most one read in progress and one that callers may join, which starts after it."""

    # How long a read waits for the one in progress. After that both run, well within the deadline.
    PATIENCE_SECONDS = 1.0
    # How long callers wait for the leader. Normally the leader's own deadline is earlier.
    JOINED_SECONDS = 60.0

    def __init__(self, on_join: Callable[[], None]) -> None:
        self._on_join = on_join
        self._lock = Lock()
        self._gathering: dict[Hashable, AsyncFlight[T]] = {}
        self._begun: dict[Hashable, AsyncFlight[T]] = {}

    async def share(self, key: Hashable, read: Callable[[], Awaitable[T | None]]) -> T | None:
        """Return or raise the result of `read()`, shared by all callers that joined before it was called."""
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
                for reads in (self._gathering, self._begun):
                    if reads.get(key) is flight:
                        del reads[key]
            flight.done.set()

    def _begin(self, key: Hashable, flight: AsyncFlight[T]) -> None:
        with self._lock:
            if self._gathering.get(key) is flight:
                del self._gathering[key]
            self._begun[key] = flight
