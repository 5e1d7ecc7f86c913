"""The state that all processes of a race share: completed writes, how many reads and invalidations, whether to stop.

It is a file in shared memory. Each cell has one writer and is 8 aligned bytes, so that no lock is needed.
"""

from __future__ import annotations

import mmap
from pathlib import Path


class Ledger:
    """For each user and writer, the newest row version whose write or invalidation has returned."""

    def __init__(self, path: Path, users: int, actors: int) -> None:
        """`actors` is the number of threads and tasks in all processes. Each has a number below it."""
        self._actors = actors
        self._floors = users * actors
        self._invalidations = self._floors + actors
        cells = self._invalidations + actors + 1
        if not path.exists():
            path.write_bytes(bytes(8 * cells))
        with path.open("r+b") as file:
            self._cells = memoryview(mmap.mmap(file.fileno(), 8 * cells)).cast("q")

    def finish_write(self, actor: int, user: int, version: int) -> None:
        """Record a completed write: a read that starts from now on must not return an older version."""
        cell = user * self._actors + actor
        self._cells[cell] = max(self._cells[cell], version)

    def floor(self, user: int) -> int:
        """Return the oldest version that a read starting now may return."""
        start = user * self._actors
        return max(self._cells[start : start + self._actors])

    def count_read(self, actor: int) -> None:
        self._cells[self._floors + actor] += 1

    def reads(self) -> int:
        return sum(self._cells[self._floors : self._invalidations])

    def count_invalidation(self, actor: int) -> None:
        self._cells[self._invalidations + actor] += 1

    def invalidations(self) -> int:
        return sum(self._cells[self._invalidations : -1])

    def stop(self) -> None:
        self._cells[-1] = 1

    def is_stopped(self) -> bool:
        return self._cells[-1] == 1
