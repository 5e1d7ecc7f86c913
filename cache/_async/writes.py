"""What Redis and the near cache are told of committed writes of one kind of record.

Nothing in here raises for Redis: what it could not be told is owed to it, and the outbox knows too.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Generic, TypeVar

from cache._async.client import AsyncClient
from cache.budget import KEYS_PER_TRIP
from cache.codec import Codec
from cache.errors import CacheUnavailable, UndecodableEntry
from cache.keys import EntityKeys
from cache.metrics import INVALIDATIONS
from cache.near import NearView
from cache.scripts import DROP, REPLACE
from cache.ttl import Tier, jittered_ms

T = TypeVar("T")

_REPLACE_OUTCOMES = {0: "absent", 1: "updated", 2: "newer"}
_DROP_OUTCOMES = {0: "absent", 1: "dropped", 2: "newer"}


class AsyncWrites(Generic[T]):
    """Tells of writes, fenced by their row versions, under the keys of every schema in use."""

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
        """The new record takes the place of an older one, and leases end.

        `cost_ms` is what reading it would take, about: readers refresh it so much ahead.
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
            # After Redis: what a read takes from there from now on is new.
            self._forget_near([record_id])

    async def drop(self, written: Iterable[tuple[int, int | None]]) -> bool:
        """Forget records older than the row version that stands now (None: any), in every schema in use.

        False where Redis could not be told: it will be as soon as it answers, and the outbox knows too.
        """
        written = list(written)
        try:
            return await self._drop(written)
        finally:
            self._forget_near([record_id for record_id, _ in written])

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

    def _forget_near(self, record_ids: list[int]) -> None:
        if self._near is not None:
            self._near.invalidate(record_ids)

    def _owe(self, keys: Sequence[tuple[str, str]]) -> None:
        INVALIDATIONS.labels(self._keys.entity, "failed").inc(len(keys))
        for value_key, lease_key in keys:
            self._client.breaker.owe(value_key, lease_key)
