"""Detect stale reads, and measure how stale they were."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass

from tests.faults.racing.ledger import Ledger

# How long the history of each user's floor is kept: longer than any limit in the tests.
_REMEMBERED_SECONDS = 10.0


@dataclass
class Score:
    """The results of one process.

    `oldest_seconds` is the longest time between the return of a write, as the reader first saw it, and the start of a
    read that did not show it. `undelivered` is the number of writes that returned while Redis could not be reached.
    """

    reads: int = 0
    stale: int = 0
    oldest_seconds: float = 0.0
    writes: int = 0
    invalidations: int = 0
    undelivered: int = 0
    errors: int = 0


class Referee:
    """Checks the reads of one thread or task, one after the other."""

    def __init__(self, ledger: Ledger, actor: int, score: Score) -> None:
        self._ledger = ledger
        self._actor = actor
        self._score = score
        self._floors: dict[int, deque[tuple[float, int]]] = {}
        self._started_at = 0.0

    def start(self, user: int) -> None:
        """Call it before a read. It looks up the oldest version that the read may return."""
        floors = self._floors.setdefault(user, deque())
        floor = self._ledger.floor(user)
        self._started_at = time.monotonic()
        if not floors or floor > floors[-1][1]:
            floors.append((self._started_at, floor))
        while len(floors) > 1 and floors[1][0] < self._started_at - _REMEMBERED_SECONDS:
            floors.popleft()

    def finish(self, user: int, version: int) -> None:
        """Call it with the version that the read returned."""
        self._score.reads += 1
        self._ledger.count_read(self._actor)
        floors = self._floors[user]
        if version >= floors[-1][1]:
            return
        self._score.stale += 1
        since = next(at for at, floor in floors if floor > version)
        self._score.oldest_seconds = max(self._score.oldest_seconds, self._started_at - since)
