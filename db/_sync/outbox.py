# Generated from db/_async/outbox.py by scripts/generate_sync.py; edit that, not this.
"""Read the outbox: invalidate the keys that committed writes made stale, then delete the outbox entries."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from time import monotonic
from typing import Protocol

from psycopg.rows import class_row, scalar_row

from db._sync.pool import Pool
from db.deadline import Deadline
from db.entities import ENTITIES
from db.errors import DbError, Unavailable
from db.named_query import queries
from db.rows import OutboxEntry, OutboxMeasure, RowVersion

_QUERIES = queries("outbox")
_VERSIONS = {entity.name: queries(entity.plural)[f"find_{entity.name}_versions"] for entity in ENTITIES}
# Limit for reading the row versions of one entity. The query waits while another transaction locks the whole table, and
# the entries of all other entities wait with it.
_VERSIONS_SECONDS = 0.5
# Pause after a failed read of the row versions. By then the server has ended a query that waits for a lock, so that
# such queries do not accumulate: role `app` has a lock_timeout of 5 s.
_RETRY_SECONDS = 5.0


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
        # The entities whose row versions could not be read, with the time (monotonic) of the next attempt.
        self._retry_at: dict[str, float] = {}

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

        `on_drained` gets the age of each entry in seconds, when its key has been invalidated.

        Every entity of the batch is processed, even if another one fails, and the entries that were invalidated are
        deleted. After that, the first error is raised: Unavailable if Redis cannot be reached.
        """
        entries = self._pool.fetch_all(
            _QUERIES["read_outbox"], {"batch_size": self.BATCH_SIZE}, class_row(OutboxEntry)
        )
        read_at = monotonic()
        by_entity: defaultdict[str, list[OutboxEntry]] = defaultdict(list)
        for entry in entries:
            by_entity[entry.entity].append(entry)
        drained: list[OutboxEntry] = []
        errors: list[Exception] = []
        try:
            for entity, stale in by_entity.items():
                try:
                    self._invalidate(entity, stale)
                except Exception as error:
                    # Only the first one is kept. `pop` below removes it, because it refers to this frame.
                    errors = errors or [error]
                    continue
                drained += stale
                if on_drained is not None:
                    since = monotonic() - read_at
                    for entry in stale:
                        on_drained(entry.age + since)
        finally:
            if drained:
                ids = [entry.id for entry in drained]
                self._pool.fetch_all(_QUERIES["delete_outbox"], {"ids": ids}, scalar_row)
        if errors:
            raise errors.pop()
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
        """Return the current row version of each record, or None if it is deleted, unknown, or of a feed.

        A cached entry of exactly that version stays, because the writer has updated it already. Invalidating it anyway
        costs a read of the database, and nothing else. Therefore all versions are None if the table cannot be read in
        time, for example because it is locked or was dropped.
        """
        versions: dict[int, int | None] = dict.fromkeys(ids)
        if entity in _VERSIONS and self._retry_at.get(entity, 0.0) <= monotonic():
            try:
                found = self._pool.fetch_all(
                    _VERSIONS[entity], {"ids": [*ids]}, class_row(RowVersion), Deadline(_VERSIONS_SECONDS)
                )
            except DbError:
                # The log of queries has the error.
                self._retry_at[entity] = monotonic() + _RETRY_SECONDS
            else:
                versions.update((each.id, each.row_version) for each in found)
        return versions
