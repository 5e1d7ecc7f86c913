"""A circuit breaker for Redis: after a failure no calls are made until a probe succeeds.

This is only the state. The client probes once a second in the background, so that no caller waits for a failing server.
"""

from __future__ import annotations

from cache.forking import Exclusion


class Breaker:
    """Closed (Redis is called) or open (it is not). Also keeps the invalidations that could not be delivered.

    Those are delivered before the breaker closes, so that a process never reads from Redis what it knows to be stale.
    """

    # Beyond this number they are replaced by one invalidation of the whole namespace.
    MAX_OWED = 10_000

    def __init__(self, everything: str) -> None:
        """`everything` is the key whose deletion invalidates the whole namespace."""
        self._everything = everything
        self._exclusively = Exclusion()
        self._is_open = False
        self._owed: dict[tuple[str, str], None] = {}
        # Those being delivered now. One that is owed again in the meantime stays owed.
        self._under_way: set[tuple[str, str]] = set()

    @property
    def is_open(self) -> bool:
        return self._is_open

    def trip(self) -> bool:
        """Open the breaker, and return whether it was closed before."""
        return self._exclusively(self._trip)

    def _trip(self) -> bool:
        was_closed = not self._is_open
        self._is_open = True
        return was_closed

    def owe(self, value_key: str, lease_key: str) -> None:
        """Keep an invalidation that could not be delivered, and open the breaker."""
        self._exclusively(self._owe, value_key, lease_key)

    def _owe(self, value_key: str, lease_key: str) -> None:
        # First, so that nothing is read from Redis even if a signal handler raises below.
        self._is_open = True
        if len(self._owed) >= self.MAX_OWED:
            self._owed = {(self._everything, self._everything): None}
            self._under_way = set()
            return
        self._under_way.discard((value_key, lease_key))
        self._owed[value_key, lease_key] = None

    def owed(self) -> list[tuple[str, str]]:
        """Return the (value key, lease key) pairs of undelivered invalidations, to be delivered now by the prober."""
        return self._exclusively(self._list_owed)

    def _list_owed(self) -> list[tuple[str, str]]:
        self._under_way = set(self._owed)
        return list(self._owed)

    def settle(self, delivered: list[tuple[str, str]]) -> bool:
        """Remove delivered invalidations, and close the breaker unless more are owed. Return whether it is closed."""
        return self._exclusively(self._settle, delivered)

    def _settle(self, delivered: list[tuple[str, str]]) -> bool:
        for keys in self._under_way.intersection(delivered):
            del self._owed[keys]
        self._under_way.clear()
        self._is_open = bool(self._owed)
        return not self._is_open
