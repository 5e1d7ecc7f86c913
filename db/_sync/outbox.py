# Generated from db/_async/outbox.py by scripts/generate_sync.py; edit that, not this.
"""Read the outbox: invalidate the keys that committed writes made stale, then delete the outbox entries."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from time import monotonic
from typing import Protocol

from psycopg.rows import class_row, scalar_row

from db._sync.pool import Pool
from db.entities import ENTITIES
from db.errors import Unavailable
from db.named_query import queries
from db.rows import OutboxEntry, OutboxMeasure, RowVersion

_QUERIES = queries("outbox")
_VERSIONS = {entity.name: queries(entity.plural)[f"find_{entity.name}_versions"] for entity in ENTITIES}


class Droppable(Protocol):
    """A cache of records or of feeds."""

    def drop(self, written: Iterable[tuple[int, int | None]]) -> bool:
        """Invalidate entries that are not of the current row version, given as (id, version) pairs.

        Return False if Redis could not be reached.
        """
        ...


class Outbox:
    """Processes the outbox in batches. Several drainers may run at once, because invalidation is idempotent."""

    BATCH_SIZE = 500

    def __init__(self, pool: Pool, caches: Mapping[str, Droppable]) -> None:
        """`caches` maps an entity's name in the outbox to its cache."""
        self._pool = pool
        self._caches = caches

    def drain(self) -> int:
        """Process entries until the outbox is empty, and return their number.

        Raises Unavailable if Redis cannot be reached; the entries not yet invalidated stay in the outbox.
        """
        drained = 0
        while True:
            batch = self.drain_batch()
            drained += batch
            if batch < self.BATCH_SIZE:
                return drained

    def drain_batch(self, on_drained: Callable[[float], None] | None = None) -> int:
        """Process the oldest BATCH_SIZE entries and return their number; fewer means that the outbox is empty.

        `on_drained` gets the age of each entry in seconds, when its key has been invalidated. Raises Unavailable if
        Redis cannot be reached. Entries of the batch that were invalidated before that are deleted all the same.
        """
        entries = self._pool.fetch_all(
            _QUERIES["read_outbox"], {"batch_size": self.BATCH_SIZE}, class_row(OutboxEntry)
        )
        read_at = monotonic()
        by_entity: defaultdict[str, list[OutboxEntry]] = defaultdict(list)
        for entry in entries:
            by_entity[entry.entity].append(entry)
        drained: list[OutboxEntry] = []
        try:
            for entity, stale in by_entity.items():
                self._invalidate(entity, stale)
                drained += stale
                if on_drained is not None:
                    since = monotonic() - read_at
                    for entry in stale:
                        on_drained(entry.age + since)
        finally:
            if drained:
                ids = [entry.id for entry in drained]
                self._pool.fetch_all(_QUERIES["delete_outbox"], {"ids": ids}, scalar_row)
        return len(entries)

    def measure(self) -> tuple[int, float]:
        """Return the number of entries and the age of the oldest in seconds."""
        measure = self._pool.fetch_one(_QUERIES["measure_outbox"], {}, class_row(OutboxMeasure))
        return (0, 0.0) if measure is None else (measure.depth, measure.age)

    def _invalidate(self, entity: str, entries: list[OutboxEntry]) -> None:
        cached = self._caches.get(entity)
        # This release may not cache every entity in the outbox.
        if cached is not None:
            current = self._versions(entity, {entry.entity_id for entry in entries})
            if not cached.drop(current.items()):
                raise Unavailable("cannot invalidate entries in Redis; they stay in the outbox")

    def _versions(self, entity: str, ids: set[int]) -> dict[int, int | None]:
        """Return the current row version of each record, or None if it is deleted or the entity is a feed.

        A cached entry of exactly that version stays, because the writer has updated it already.
        """
        versions: dict[int, int | None] = dict.fromkeys(ids)
        if entity in _VERSIONS:
            row = class_row(RowVersion)
            for found in self._pool.fetch_all(_VERSIONS[entity], {"ids": [*ids]}, row):
                versions[found.id] = found.row_version
        return versions
