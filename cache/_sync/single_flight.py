# Generated from cache/_async/single_flight.py by scripts/generate_sync.py; edit that, not this.
"""Single flight: callers of one process that miss the same key share one read of the database.

A caller joins only a read that has not started yet, because the result of a started read may be older than an
invalidation that finished before the caller arrived. A burst of callers therefore takes two reads.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from time import monotonic
from typing import Generic, TypeVar
from weakref import ref

from cache.forking import register
from cache.synchronization import Completion, caller
from cache.timing import half_until

T = TypeVar("T")


class Leader:
    """An object that only the leader of a flight refers to, so that it is deleted even if the leader is interrupted."""

    __slots__ = ("__weakref__", "caller")

    def __init__(self) -> None:
        self.caller = caller()


class Flight(Generic[T]):
    """One shared read and its result. `has_landed` is True after a successful read."""

    __slots__ = ("_ends_at", "_leader", "caller", "done", "error", "has_landed", "result")

    def __init__(self, leader: Leader, ends_at: float | None) -> None:
        self._leader = ref(leader)
        self._ends_at = ends_at
        self.caller = leader.caller
        self.done = Completion()
        self.has_landed = False
        self.result: T | None = None
        self.error: Exception | None = None

    def is_led(self) -> bool:
        """Return whether the leader still exists."""
        return self._leader() is not None

    def had_time_of(self, ends_at: float | None) -> bool:
        """Return whether the leader had at least as much time as a caller with this deadline, which would fail too."""
        return self._ends_at is None or (ends_at is not None and ends_at <= self._ends_at)


class SingleFlight(Generic[T]):
    """For each key, at most one read in progress and one that callers may join, which starts after it.

    There is no lock, because each step is one atomic operation of a dictionary. If a caller removes another's flight by
    mistake, the only effect is that no more callers join it.
    """

    # How long a read waits for the one in progress. After that it starts too, well before the deadline.
    PATIENCE_SECONDS = 1.0
    # How long callers wait for the leader, in seconds. Normally the leader's own deadline ends the wait earlier.
    JOINED_SECONDS = 60
    # How often the waiting callers check that the leader still exists, in seconds.
    _CHECK_SECONDS = 1.0

    def __init__(self, on_join: Callable[[], None], failures: type[Exception] = Exception) -> None:
        """Callers share errors of type `failures`. Only the leader gets other errors, such as that of a time limit."""
        self._on_join = on_join
        self._failures = failures
        self.after_fork()
        register(self)

    def after_fork(self) -> None:
        self._gathering: dict[Hashable, Flight[T]] = {}
        self._begun: dict[Hashable, Flight[T]] = {}

    def share(self, key: Hashable, read: Callable[[], T | None], ends_at: float | None = None) -> T | None:
        """Return or raise the result of `read()`, shared by all callers that joined before it was called.

        `ends_at` is the caller's own deadline (a monotonic value), if it has one. The caller waits for others until
        then. Callers with a later deadline do not get its errors.
        """
        leader = Leader()
        own: Flight[T] = Flight(leader, ends_at)
        # End the flight twice, because a signal handler may raise inside the first `finally`.
        try:
            try:
                while (flight := self._gathering.setdefault(key, own)) is not own:
                    if not flight.is_led():
                        self._end(key, flight)
                        continue
                    # A signal handler that reads what the thread that it interrupted is reading must not wait for it.
                    if flight.caller == own.caller or not self._joined(flight, ends_at):
                        return read()
                    if flight.error is not None and flight.had_time_of(ends_at):
                        raise flight.error
                    if flight.has_landed:
                        return flight.result
                return self._lead(key, own, read, ends_at)
            finally:
                self._end(key, own)
        finally:
            self._end(key, own)

    def _joined(self, flight: Flight[T], ends_at: float | None) -> bool:
        """Wait for the flight's end. Return False at the deadline, or if the flight has lost its leader."""
        self._on_join()
        give_up_at = monotonic() + self.JOINED_SECONDS
        if ends_at is not None:
            give_up_at = min(give_up_at, ends_at)
        while (left := give_up_at - monotonic()) > 0:
            if flight.done.wait(min(left, self._CHECK_SECONDS)):
                return True
            if not flight.is_led():
                # The flight may have ended between the two checks.
                return flight.done.wait(0)
        return False

    def _lead(
        self,
        key: Hashable,
        flight: Flight[T],
        read: Callable[[], T | None],
        ends_at: float | None,
    ) -> T | None:
        ahead = self._begun.get(key)
        try:
            if ahead is not None and ahead.is_led() and ahead.caller != flight.caller:
                patience = self.PATIENCE_SECONDS
                ahead.done.wait(patience if ends_at is None else half_until(ends_at, patience))
            # In this order, so that a caller that can no longer join finds the read in progress.
            self._begun[key] = flight
            self._gathering.pop(key, None)
            flight.result = read()
            flight.has_landed = True
            return flight.result
        except self._failures as error:
            flight.error = error
            raise

    def _end(self, key: Hashable, flight: Flight[T]) -> None:
        """Remove a flight, and wake the callers that joined it. Idempotent."""
        if self._gathering.get(key) is flight:
            self._gathering.pop(key, None)
        if self._begun.get(key) is flight:
            self._begun.pop(key, None)
        flight.done.set()
