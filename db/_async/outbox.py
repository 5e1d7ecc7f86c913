"""The outbox's reading side: keys that committed writes made stale leave the cache, then their entries go."""

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
        """Forget what is older than the row versions that stand now; False where Redis could not be told."""
        ...


class AsyncOutbox:
    """Empties the outbox in batches. Any number of drainers may run: doing an entry twice changes nothing."""

    BATCH_SIZE = 500

    def __init__(self, pool: AsyncPool, caches: Mapping[str, AsyncDroppable]) -> None:
        """`caches` by the outbox's name of what they hold."""
        self._pool = pool
        self._caches = caches

    async def drain(self) -> int:
        """Invalidate until nothing is left, and return how many entries there were.

        Redis first: an entry whose key could not be invalidated stays (Unavailable).
        """
        drained = 0
        while True:
            batch = await self.drain_batch()
            drained += batch
            if batch < self.BATCH_SIZE:
                return drained

    async def drain_batch(self) -> int:
        """As drain(), of the oldest BATCH_SIZE entries; fewer than that are the last."""
        entries = await self._pool.fetch_all(
            _QUERIES["read_outbox"], {"batch_size": self.BATCH_SIZE}, class_row(OutboxEntry)
        )
        if entries:
            await self._invalidate(entries)
            ids = [entry.id for entry in entries]
            await self._pool.fetch_all(_QUERIES["delete_outbox"], {"ids": ids}, scalar_row)
        return len(entries)

    async def measure(self) -> tuple[int, float]:
        """Depth, and the oldest entry's age in seconds."""
        measure = await self._pool.fetch_one(_QUERIES["measure_outbox"], {}, class_row(OutboxMeasure))
        return (0, 0.0) if measure is None else (measure.depth, measure.age)

    async def _invalidate(self, entries: list[OutboxEntry]) -> None:
        by_entity: defaultdict[str, dict[int, int | None]] = defaultdict(dict)
        for entry in entries:
            by_entity[entry.entity][entry.entity_id] = entry.row_version
        for entity, written in by_entity.items():
            cached = self._caches.get(entity)
            # What is not cached by this release has nothing to be forgotten.
            if cached is not None and not await cached.drop(written.items()):
                raise Unavailable("Redis could not be told of stale entries; they stay in the outbox")
