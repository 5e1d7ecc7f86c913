"""Whether Redis is asked at all: after a failure it is left alone until a probe has found it well.

State only; whoever holds it does the probing, once a second, so that no caller ever waits for a sick server.
"""

from __future__ import annotations

from threading import Lock


class Breaker:
    """Closed (Redis is asked) or open. Also keeps the invalidations that could not be delivered.

    They are delivered before it closes: a process never reads back from Redis what it knows to be stale.
    """

    # More are not kept one by one: one that has everything forgotten stands for all of them.
    MAX_OWED = 10_000

    def __init__(self, everything: str) -> None:
        """`everything` is the key without which nothing cached is read."""
        self._everything = everything
        self._lock = Lock()
        self._is_open = False
        self._owed: dict[tuple[str, str], None] = {}
        # Those that a delivery is under way for; one owed again meanwhile is owed still.
        self._under_way: set[tuple[str, str]] = set()

    @property
    def is_open(self) -> bool:
        return self._is_open

    def trip(self) -> bool:
        """Open it; whether it was closed before."""
        with self._lock:
            was_closed = not self._is_open
            self._is_open = True
        return was_closed

    def owe(self, value_key: str, lease_key: str) -> None:
        """Remember an invalidation that could not be delivered, and open the breaker."""
        with self._lock:
            if len(self._owed) >= self.MAX_OWED:
                self._owed.clear()
                self._under_way.clear()
                value_key = lease_key = self._everything
            self._under_way.discard((value_key, lease_key))
            self._owed[value_key, lease_key] = None
            self._is_open = True

    def owed(self) -> list[tuple[str, str]]:
        """The value and lease keys of invalidations still to be delivered; the one prober delivers them now."""
        with self._lock:
            self._under_way = set(self._owed)
            return list(self._owed)

    def settle(self, delivered: list[tuple[str, str]]) -> bool:
        """Forget delivered invalidations; close the breaker unless others came meanwhile, or the same anew."""
        with self._lock:
            for keys in self._under_way.intersection(delivered):
                del self._owed[keys]
            self._under_way.clear()
            self._is_open = bool(self._owed)
        return not self._is_open
