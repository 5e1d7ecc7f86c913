# Generated from db/_async/partitions.py by scripts/generate_sync.py; edit that, not this.
"""The monthly partitions that a bulk load needs: made where they are missing, and no other."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from psycopg.rows import scalar_row

from db._sync.pool import Pool
from db.named_query import queries
from db.validation import Month

_QUERIES = queries("activities")


class Partitions:
    """Partitions for one load. A month that was there once is not looked for again."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._known: set[Month] = set()

    def make_missing(self, months: Iterable[Month]) -> None:
        """Make the partitions of those of these months that have none."""
        new = sorted(set(months) - self._known)
        if not new:
            return
        starts = [datetime(year, month, 1, tzinfo=UTC) for year, month in new]
        absent = self._pool.fetch_all(_QUERIES["find_absent_months"], {"months": starts}, scalar_row)
        for start in absent:
            self._make(start)
        self._known.update(new)

    def _make(self, start: datetime) -> None:
        self._pool.fetch_all(_QUERIES["make_partitions"], {"since": start, "until": start}, scalar_row)
