"""Whether a read was stale, and for how long it had been when it began."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass

from tests.faults.racing.ledger import Ledger

# What is remembered of each user's floor: longer than any bound that is asked for.
_REMEMBERED_SECONDS = 10.0


@dataclass
class Score:
    """What one process saw.

    `oldest_seconds` is the longest time for which a read's start had come after a write's return that the read
    knew nothing of, as its own reader first saw it. `undelivered` writes returned while Redis could not be told.
    """

    reads: int = 0
    stale: int = 0
    oldest_seconds: float = 0.0
    writes: int = 0
    invalidations: int = 0
    undelivered: int = 0
    errors: int = 0


class Referee:
    """Judges the reads of one thread or task, one after the other."""

    def __init__(self, ledger: Ledger, actor: int, score: Score) -> None:
        self._ledger = ledger
        self._actor = actor
        self._score = score
        self._floors: dict[int, deque[tuple[float, int]]] = {}
        self._started_at = 0.0

    def start(self, user: int) -> None:
        """Call before a read: looks up what it may not be older than."""
        floors = self._floors.setdefault(user, deque())
        floor = self._ledger.floor(user)
        self._started_at = time.monotonic()
        if not floors or floor > floors[-1][1]:
            floors.append((self._started_at, floor))
        while len(floors) > 1 and floors[1][0] < self._started_at - _REMEMBERED_SECONDS:
            floors.popleft()

    def finish(self, user: int, version: int) -> None:
        """Call with what the read gave."""
        self._score.reads += 1
        self._ledger.count_read(self._actor)
        floors = self._floors[user]
        if version >= floors[-1][1]:
            return
        self._score.stale += 1
        since = next(at for at, floor in floors if floor > version)
        self._score.oldest_seconds = max(self._score.oldest_seconds, self._started_at - since)
