"""How much one read may ask of Redis: keys in a round trip, and time for all its calls together."""

from __future__ import annotations

from time import perf_counter

# More would not fit the client's time limit.
KEYS_PER_TRIP = 200

# Of a call's time limit, for each round trip's worth of records beyond the first.
_FURTHER_BATCH = 0.25


class Budget:
    """What is left of a read's time for Redis, in seconds. Without it a slow server costs each step its whole limit."""

    __slots__ = ("left",)

    def __init__(self, timeout_seconds: float, batches: int = 1) -> None:
        self.left = timeout_seconds * (1 + _FURTHER_BATCH * (batches - 1))

    def spend(self, started: float) -> None:
        """Take off what has passed since `started` (perf_counter)."""
        self.left -= perf_counter() - started
