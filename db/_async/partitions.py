"""The monthly partitions that a bulk load needs: made where they are missing, and no other."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from psycopg.rows import scalar_row

from db._async.pool import AsyncPool
from db.named_query import queries
from db.validation import Month

_QUERIES = queries("activities")


class AsyncPartitions:
    """Partitions for one load. A month that was there once is not looked for again."""

    def __init__(self, pool: AsyncPool) -> None:
        self._pool = pool
        self._known: set[Month] = set()

    async def make_missing(self, months: Iterable[Month]) -> None:
        """Make the partitions of those of these months that have none."""
        new = sorted(set(months) - self._known)
        if not new:
            return
        starts = [datetime(year, month, 1, tzinfo=UTC) for year, month in new]
        absent = await self._pool.fetch_all(_QUERIES["find_absent_months"], {"months": starts}, scalar_row)
        for start in absent:
            await self._make(start)
        self._known.update(new)

    async def _make(self, start: datetime) -> None:
        await self._pool.fetch_all(_QUERIES["make_partitions"], {"since": start, "until": start}, scalar_row)
