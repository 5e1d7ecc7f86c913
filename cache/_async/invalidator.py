"""Update or invalidate cached records of one kind after committed writes.

No method raises because Redis fails. Invalidations that cannot be delivered are kept and delivered when Redis recovers,
and the outbox has them too.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Generic, TypeVar

from cache._async.client import AsyncClient
from cache.codec import Codec
from cache.errors import CacheUnavailable, UndecodableEntry
from cache.keys import EntityKeys
from cache.metrics import INVALIDATIONS
from cache.near import NearView
from cache.scripts import DROP, REPLACE
from cache.timing import KEYS_PER_TRIP, Tier, jittered_ms

T = TypeVar("T")

_REPLACE_OUTCOMES = {0: "absent", 1: "updated", 2: "newer"}
_DROP_OUTCOMES = {0: "absent", 1: "dropped", 2: "current"}


class AsyncInvalidator(Generic[T]):
    """Updates and invalidates records in Redis and in the near cache, for the keys of every schema in use.

    Row versions prevent an older write from replacing a newer record.
    """

    def __init__(
        self, client: AsyncClient, keys: EntityKeys, codec: Codec[T], tier: Tier, near: NearView[T] | None
    ) -> None:
        self._client = client
        self._epoch = client.epoch.of(keys.entity)
        self._keys = keys
        self._other_keys = [each for each in keys.neighbours() if each != keys]
        self._codec = codec
        self._tier = tier
        self._near = near

    async def replace(self, record_id: int, record: T, cost_ms: int) -> None:
        """Replace an older cached record, and cancel leases.

        `cost_ms` estimates the time of a read from the database, for refresh ahead.
        """
        version = self._codec.version_of(record)
        life, epoch = jittered_ms(self._tier), self._epoch.tag
        try:
            encoded = self._codec.encode(record, epoch, life, cost_ms)
        except UndecodableEntry:
            await self.drop([(record_id, version)])
            return
        pairs = [keys.both(record_id) for keys in (self._keys, *self._other_keys)]
        try:
            arguments = (version, encoded, life, epoch)
            outcome = await self._client.run(REPLACE, [key for pair in pairs for key in pair], arguments)
        except CacheUnavailable:
            self._owe(pairs)
        else:
            INVALIDATIONS.labels(self._keys.entity, _REPLACE_OUTCOMES[outcome]).inc()
        finally:
            # After Redis, so that a later read cannot bring the old value back from there.
            self._invalidate_near([record_id])

    async def drop(self, written: Iterable[tuple[int, int | None]]) -> bool:
        """Invalidate records, given as (id, current row version) pairs, in every schema in use.

        A cached record of exactly that version stays; None invalidates any version. Return False if Redis could not be
        reached. Then the keys are invalidated when it recovers, and also by the outbox.
        """
        written = list(written)
        try:
            return await self._drop(written)
        finally:
            self._invalidate_near([record_id for record_id, _ in written])

    async def _drop(self, written: list[tuple[int, int | None]]) -> bool:
        epoch = self._epoch.tag
        calls = [
            (keys.both(record_id), (-1 if version is None else version, epoch))
            for record_id, version in written
            for keys in (self._keys, *self._other_keys)
        ]
        for start in range(0, len(calls), KEYS_PER_TRIP):
            batch = calls[start : start + KEYS_PER_TRIP]
            try:
                outcomes = await self._client.run_many(DROP, batch)
            except CacheUnavailable:
                self._owe([keys for keys, _ in calls[start:]])
                return False
            for outcome in outcomes:
                INVALIDATIONS.labels(self._keys.entity, _DROP_OUTCOMES[outcome]).inc()
        return True

    def _invalidate_near(self, record_ids: list[int]) -> None:
        if self._near is not None:
            self._near.invalidate(record_ids)

    def _owe(self, keys: Sequence[tuple[str, str]]) -> None:
        INVALIDATIONS.labels(self._keys.entity, "failed").inc(len(keys))
        for value_key, lease_key in keys:
            self._client.breaker.owe(value_key, lease_key)
