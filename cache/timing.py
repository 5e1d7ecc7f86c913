"""Times that bound the cache: lifetimes of entries and leases, and what one read may spend in Redis."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from enum import IntEnum
from time import monotonic, perf_counter

from cache.scope import Holding, holding, value

JITTER = 0.1


class Tier(IntEnum):
    """The lifetime of an entry in seconds, by kind of data."""

    ABSENT = 30
    SHORT = 300
    MEDIUM = 3600
    LONG = 86400


def jittered_ms(tier: Tier, chance: random.Random = random.Random()) -> int:  # noqa: B008
    """Return the tier's lifetime in ms, varied by up to 10 %, so that entries written together expire separately."""
    return int(tier * 1000 * chance.uniform(1 - JITTER, 1 + JITTER))


# The lifetime of a lease. A read of the database that takes longer is not cached.
LEASE_MS = 3000
# After this time without a fill, one of the waiting callers may fill too.
PASS_MS = 50
WAIT_SECONDS = 1.0
POLL_SECONDS = (0.004, 0.012)

# More keys would not fit into the client's time limit.
KEYS_PER_TRIP = 200

# How long the cache updates after one write, or after one COMMIT, may take together, and at least, even if the caller's
# deadline has passed. The rest is delivered in the background, and the process bypasses Redis until then.
UPDATE_SECONDS = 2.0
LEAST_UPDATE_SECONDS = 0.1

# Additional time for each round trip after the first, as a share of a call's time limit.
_FURTHER_BATCH = 0.25


class Budget:
    """The time that a read, or the updates after a write, may still spend in Redis, in seconds.

    Without it, a slow server would take the whole time limit in each step. If the caller's own deadline
    `ends_at` (a monotonic value) is near, the read may spend half of the time until then, so that the database can
    still answer.
    """

    __slots__ = ("_ends_at", "left")

    def __init__(self, timeout_seconds: float, batches: int = 1, ends_at: float | None = None) -> None:
        self._ends_at = ends_at
        self.left = self.at_most(timeout_seconds * (1 + _FURTHER_BATCH * (batches - 1)))

    def spend(self, started: float) -> None:
        """Subtract the time since `started` (a perf_counter value)."""
        self.left -= perf_counter() - started

    def at_most(self, seconds: float) -> float:
        """Return `seconds`, or half of the time until the caller's deadline if that is less."""
        return seconds if self._ends_at is None else half_until(self._ends_at, seconds)


def half_until(ends_at: float, seconds: float) -> float:
    """Return `seconds`, or half of the time until `ends_at` (a monotonic value) if that is less; at least 0."""
    return max(0.0, min(seconds, (ends_at - monotonic()) / 2))


_of_updates: ContextVar[Holding[Budget] | None] = ContextVar("groundwork_cache_updates", default=None)


def budget_of_updates() -> Budget | None:
    """Return the budget of the `update_budget` block that this task or thread is in, or None."""
    return value(_of_updates)


@contextmanager
def update_budget(ends_at: float | None) -> Iterator[None]:
    """Let all calls to Redis in the block share UPDATE_SECONDS, except those that have a budget of their own.

    `ends_at` is the caller's own deadline (a monotonic value), if it has one: then they may share less.
    """
    seconds = UPDATE_SECONDS
    if ends_at is not None:
        seconds = max(LEAST_UPDATE_SECONDS, min(seconds, ends_at - monotonic()))
    with holding(_of_updates, Budget(seconds)):
        yield
