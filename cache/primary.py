"""The primary among several servers of REDIS_URL: the last result of the search in the background.

A former primary stops accepting writes before the next one starts to. But another process may have asked the former
primary just before that, and relies on the answer for RELIANCE_SECONDS. Therefore a new primary is not used for that
time. Otherwise a writer could invalidate there and return, while others still read from the former primary
(docs/adr/0036).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from time import monotonic

from redis.exceptions import ConnectionError

from cache.epoch import RELIANCE_SECONDS

_logger = logging.getLogger("groundwork.cache")


@dataclass(frozen=True, slots=True)
class _Sighting:
    """The position of the primary in REDIS_URL, its run id, and when (monotonic) it may be used."""

    index: int
    run_id: bytes
    usable_at: float


class Primary:
    """The known primary, shared by a client's connections and by the connection of its near cache.

    A single server is always the primary, and is never searched for.
    """

    def __init__(self, addresses: Sequence[str]) -> None:
        """`addresses` are the servers, for messages."""
        self._addresses = addresses
        self.is_searched = len(addresses) > 1
        # Replaced as a whole, because threads read it without a lock.
        self._sighting: _Sighting | None = None
        self._is_reported_missing = False

    @property
    def index(self) -> int | None:
        """The position of the primary in REDIS_URL, or None before the first search has found it."""
        if not self.is_searched:
            return 0
        return None if self._sighting is None else self._sighting.index

    def require(self) -> int:
        """Return the index. Raises redis-py's ConnectionError if no primary is known."""
        index = self.index
        if index is None:
            raise ConnectionError("the primary has not been found yet")
        return index

    def require_same(self, run_id: bytes) -> None:
        """Raise redis-py's ConnectionError if a server with this run id is not the known primary."""
        sighting = self._sighting
        if sighting is not None and sighting.run_id != run_id:
            raise ConnectionError("another server, or the same one after a restart, is the primary now")

    def order(self) -> list[int]:
        """Return the positions in the order of the search.

        The last known primary comes first. If the previous search has found no primary, it comes last, because a frozen
        server takes the most time.
        """
        known = self.index or 0
        others = [index for index in range(len(self._addresses)) if index != known]
        return [*others, known] if self._is_reported_missing else [known, *others]

    def found(self, index: int, run_id: bytes) -> float:
        """Store the result of a search. Return for how many more seconds Redis must not be used."""
        last, now = self._sighting, monotonic()
        self._is_reported_missing = False
        if last is None or last.run_id != run_id:
            _logger.info("Redis at %s is the primary", self._addresses[index])
            self._sighting = last = _Sighting(index, run_id, now + RELIANCE_SECONDS)
        return max(0.0, last.usable_at - now)

    def missing(self, reasons: Sequence[str]) -> None:
        """Log once that a search has found no primary. `reasons` are the servers' errors, in the order of REDIS_URL."""
        if not self._is_reported_missing:
            self._is_reported_missing = True
            found = "; ".join(
                f"{address}: {reason}" for address, reason in zip(self._addresses, reasons, strict=True)
            )
            _logger.warning("no server of REDIS_URL is a primary that accepts writes: %s", found)
