"""Read the outbox: invalidate the keys that committed writes made stale, then delete the outbox entries."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Protocol

from psycopg.rows import class_row, scalar_row

from db._async.pool import AsyncPool
from db.errors import Unavailable
from db.named_query import queries
from db.rows import OutboxEntry, OutboxMeasure

_QUERIES = queries("outbox")


class AsyncDroppable(Protocol):
    """A cache of records or of feeds."""

    async def drop(self, written: Iterable[tuple[int, int | None]]) -> bool:
        """Invalidate entries that are not of the current row version, given as (id, version) pairs.

        Return False if Redis could not be reached.
        """
        ...


class AsyncOutbox:
    """Processes the outbox in batches. Several drainers may run at once, because invalidation is idempotent."""

    BATCH_SIZE = 500

    def __init__(self, pool: AsyncPool, caches: Mapping[str, AsyncDroppable]) -> None:
        """`caches` maps an entity's name in the outbox to its cache."""
        self._pool = pool
        self._caches = caches

    async def drain(self) -> int:
        """Process entries until the outbox is empty, and return their number.

        Raises Unavailable if Redis cannot be reached; the entries not yet invalidated stay in the outbox.
        """
        drained = 0
        while True:
            batch = await self.drain_batch()
            drained += batch
            if batch < self.BATCH_SIZE:
                return drained

    async def drain_batch(self) -> int:
        """Process the oldest BATCH_SIZE entries and return their number; fewer means that the outbox is empty."""
        entries = await self._pool.fetch_all(
            _QUERIES["read_outbox"], {"batch_size": self.BATCH_SIZE}, class_row(OutboxEntry)
        )
        if entries:
            await self._invalidate(entries)
            ids = [entry.id for entry in entries]
            await self._pool.fetch_all(_QUERIES["delete_outbox"], {"ids": ids}, scalar_row)
        return len(entries)

    async def measure(self) -> tuple[int, float]:
        """Return the number of entries and the age of the oldest in seconds."""
        measure = await self._pool.fetch_one(_QUERIES["measure_outbox"], {}, class_row(OutboxMeasure))
        return (0, 0.0) if measure is None else (measure.depth, measure.age)

    async def _invalidate(self, entries: list[OutboxEntry]) -> None:
        by_entity: defaultdict[str, dict[int, int | None]] = defaultdict(dict)
        for entry in entries:
            by_entity[entry.entity][entry.entity_id] = entry.row_version
        for entity, written in by_entity.items():
            cached = self._caches.get(entity)
            # This release may not cache every entity in the outbox.
            if cached is not None and not await cached.drop(written.items()):
                raise Unavailable("cannot invalidate entries in Redis; they stay in the outbox")
