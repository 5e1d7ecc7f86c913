"""A read-through cache for one kind of record: the near cache, then Redis, then the database.

docs/data-access.md describes its guarantees. No method raises because Redis fails: then every read goes to the
database.
"""

from __future__ import annotations

import secrets
from asyncio import sleep
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial
from random import uniform
from time import monotonic, perf_counter
from typing import Generic, TypeVar

from cache._async.client import AsyncClient
from cache._async.invalidator import AsyncInvalidator
from cache._async.single_flight import AsyncSingleFlight
from cache.codec import Codec, Shared
from cache.entry import header_of, is_due
from cache.errors import CacheUnavailable, UndecodableEntry
from cache.keys import EntityKeys
from cache.metrics import (
    COALESCED,
    FILLS,
    HITS,
    LEASE_WAITS,
    MISSES,
    READ_ERRORS,
    REFRESHES,
    STALE_SERVES,
    DatabaseReads,
)
from cache.near import MISS, Miss, NearView
from cache.scripts import FILL, TAKE_LEASE, TAKE_REFRESH
from cache.timing import (
    KEYS_PER_TRIP,
    LEASE_MS,
    PASS_MS,
    POLL_SECONDS,
    WAIT_SECONDS,
    Budget,
    Tier,
    jittered_ms,
)

T = TypeVar("T")


def _no_near_cache(record_id: int) -> Miss:
    return MISS


class AsyncReadThrough(Generic[T]):
    """The cache of one kind of record, by id."""

    def __init__(
        self,
        client: AsyncClient,
        keys: EntityKeys,
        codec: Codec[T],
        tier: Tier,
        failures: type[Exception] = Exception,
    ) -> None:
        """`failures` are the errors of reading the database."""
        self._client = client
        self._epoch = client.epoch.of(keys.entity)
        self._keys = keys
        self._codec = codec
        self._tier = tier
        entity = keys.entity
        self._hits = HITS.labels(entity, "redis", "value")
        self._negative_hits = HITS.labels(entity, "redis", "negative")
        self._misses = MISSES.labels(entity, "redis")
        self._database = DatabaseReads(entity)
        self._redis_errors = READ_ERRORS.labels(entity)
        self._lease_waits = LEASE_WAITS.labels(entity)
        self._stale_serves = STALE_SERVES.labels(entity)
        # How long the last read from the database took.
        self._cost_ms = 1
        self._near: NearView[T] | None = None
        # Returns the record or None (a known absence) from the near cache, or MISS. Never waits.
        self.peek: Callable[[int], T | Miss | None] = _no_near_cache
        if client.near is not None:
            self._near = client.near.view(keys.value_prefix, entity, codec)
            self.peek = self._near.peek
        self._invalidator = AsyncInvalidator(client, keys, codec, tier, self._near)
        self._single_flight: AsyncSingleFlight[Shared[T]] = AsyncSingleFlight(
            COALESCED.labels(entity).inc, failures
        )

    async def find(
        self,
        record_id: int,
        load: Callable[[int], Awaitable[T | None]],
        ends_at: float | None = None,
    ) -> T | None:
        """Return the record or None, from Redis or from `load`, which reads it from the database.

        `ends_at` is the caller's own deadline (a monotonic value), if it has one. `load` raises an error then.
        """
        began = perf_counter()
        budget = None if ends_at is None else self._client.budget(ends_at=ends_at)
        try:
            hit = await self._get(record_id, budget)
            if hit is not None:
                record, raw = hit
                if is_due(raw):
                    self._stale_serves.inc()
                    refresh = partial(self._refresh, record_id, header_of(raw), load)
                    self._client.background_tasks.start((self._keys.entity, record_id), refresh)
                return record
        except CacheUnavailable:
            self._redis_errors.inc()
        except UndecodableEntry:
            await self.drop([(record_id, None)])
        self._misses.inc()
        if budget is None:
            budget = self._client.budget()
            budget.spend(began)
        read = partial(self._read, record_id, load, budget)
        shared = await self._single_flight.share(record_id, read, ends_at)
        return None if shared is None else shared.take()

    async def find_many(
        self,
        record_ids: Sequence[int],
        load: Callable[[Sequence[int]], Awaitable[Mapping[int, T]]],
        ends_at: float | None = None,
    ) -> dict[int, T]:
        """Return the existing records by id. `load` is called at most once, with all ids that are not cached.

        `ends_at` is as in `find`.
        """
        unique = list(dict.fromkeys(record_ids))
        known: dict[int, T | None] = {}
        asked = unique
        if self._near is not None:
            for record_id in unique:
                if (record := self.peek(record_id)) is not MISS:
                    known[record_id] = record
            asked = [record_id for record_id in unique if record_id not in known]
        budget = self._client.budget(-(-len(asked) // KEYS_PER_TRIP), ends_at)
        known |= await self._known(asked, budget)
        missing = [record_id for record_id in unique if record_id not in known]
        if missing:
            self._misses.inc(len(missing))
            nonce = secrets.token_hex(8)
            leased, epoch = await self._take_leases(missing, nonce, budget)
            started = monotonic()
            with self._database.counted():
                loaded = await load(missing)
            self._clock(started)
            self._database.found(len(loaded), len(missing))
            known.update({record_id: loaded.get(record_id) for record_id in missing})
            await self._fill({record_id: known[record_id] for record_id in leased}, nonce, epoch, budget)
        return {record_id: record for record_id, record in known.items() if record is not None}

    async def replace(self, record_id: int, record: T) -> None:
        """Replace an older cached record after a committed write, and cancel leases."""
        # A written record was not read from the database. Assume the cost of the last read.
        await self._invalidator.replace(record_id, record, self._cost_ms)

    async def drop(self, written: Iterable[tuple[int, int | None]]) -> bool:
        """Invalidate records, given as (id, current row version) pairs, in every schema in use.

        A cached record of exactly that version stays; None invalidates any version. Return False if Redis could not be
        reached. Then the keys are invalidated when it recovers, and also by the outbox.
        """
        return await self._invalidator.drop(written)

    async def _get(self, record_id: int, budget: Budget | None) -> tuple[T | None, bytes] | None:
        """Return a record of the current epoch with its entry, and store the entry in the near cache."""
        near = self._near
        if near is None:
            return self._hit(await self._client.get(self._keys.value(record_id), budget))
        # Created before it is registered, so that the read ends even if a signal handler raises right after. It ends
        # twice, because a signal handler may raise inside the first `finally`.
        own = object()
        try:
            try:
                ticket = near.begin_read(record_id, own)
                hit = self._hit(await self._client.get(self._keys.value(record_id), budget))
                if hit is not None:
                    near.put(record_id, hit[1], ticket)
                # Not `return None`: Python leaves the `try` before it evaluates a constant.
                return hit
            finally:
                self._end_reads([record_id], own)
        finally:
            self._end_reads([record_id], own)

    def _end_reads(self, record_ids: list[int], ticket: object) -> None:
        if self._near is not None:
            self._near.end_reads(record_ids, ticket)

    def _clock(self, started: float) -> None:
        """Record how long a read of the database took."""
        self._cost_ms = max(1, round((monotonic() - started) * 1000))

    def _hit(self, raw: bytes | None) -> tuple[T | None, bytes] | None:
        """Return the record of an entry, if it is of the current epoch, and count the hit."""
        stamp = self._epoch.stamp()
        if raw is None or stamp is None or not raw.startswith(stamp):
            return None
        record = self._codec.decode(raw)
        (self._negative_hits if record is None else self._hits).inc()
        return record, raw

    async def _read(
        self, record_id: int, load: Callable[[int], Awaitable[T | None]], budget: Budget
    ) -> Shared[T] | None:
        nonce = secrets.token_hex(8)
        epoch: bytes | None = None
        try:
            raw, epoch = await self._value_or_lease(record_id, nonce, budget)
            if raw is not None:
                record = self._codec.decode(raw)
                (self._negative_hits if record is None else self._hits).inc()
                return None if record is None else self._codec.share(record, raw)
        except CacheUnavailable:
            pass
        except UndecodableEntry:
            await self.drop([(record_id, None)])
        started = monotonic()
        with self._database.counted():
            record = await load(record_id)
        self._clock(started)
        self._database.found(0 if record is None else 1, 1)
        if epoch is not None:
            await self._fill({record_id: record}, nonce, epoch, budget)
        return None if record is None else self._codec.share(record)

    async def _refresh(
        self, record_id: int, header: bytes, load: Callable[[int], Awaitable[T | None]]
    ) -> None:
        """Refresh a record before it expires, unless another caller does or a write invalidates it."""
        outcome = "failed"
        nonce, epoch = secrets.token_hex(8), self._epoch.tag
        try:
            arguments = (nonce, LEASE_MS, header)
            if not await self._client.run(TAKE_REFRESH, self._keys.both(record_id), arguments):
                outcome = "elsewhere"
                return
            started = monotonic()
            record = await load(record_id)
            self._clock(started)
            stored = await self._fill({record_id: record}, nonce, epoch)
            outcome = "stored" if stored else "refused"
        except CacheUnavailable:
            pass
        finally:
            REFRESHES.labels(self._keys.entity, outcome).inc()

    async def _value_or_lease(
        self, record_id: int, nonce: str, budget: Budget
    ) -> tuple[bytes | None, bytes | None]:
        """Wait for a value or its lease.

        Return (value, None), or (None, epoch) with the lease, or (None, None) if neither came in time.
        """
        give_up_at = monotonic() + budget.at_most(WAIT_SECONDS)
        has_waited = False
        left = budget.at_most(budget.left)
        while True:
            epoch = self._epoch.tag
            arguments = (nonce, LEASE_MS, PASS_MS, epoch)
            # Waiting for another caller's fill does not count against the Redis time budget.
            budget.left = left
            answer = await self._client.run(TAKE_LEASE, self._keys.both(record_id), arguments, budget)
            # If the epoch has changed since, the answer is not valid.
            if self._epoch.is_current(epoch):
                if answer[0] is not None:
                    return answer[0], None
                if answer[1]:
                    return None, epoch
            if monotonic() >= give_up_at:
                return None, None
            if not has_waited:
                has_waited = True
                self._lease_waits.inc()
            await sleep(uniform(*POLL_SECONDS))

    async def _known(self, record_ids: list[int], budget: Budget) -> dict[int, T | None]:
        """Return the cached records of the ids, with None for known absences."""
        near = self._near
        known: dict[int, T | None] = {}
        undecodable: list[tuple[int, None]] = []
        try:
            for start in range(0, len(record_ids), KEYS_PER_TRIP):
                batch = record_ids[start : start + KEYS_PER_TRIP]
                own = object()
                try:
                    try:
                        tickets = {} if near is None else {each: near.begin_read(each, own) for each in batch}
                        values = await self._client.get_many(self._keys.values(batch), budget)
                        undecodable += self._take_in(batch, values, tickets, known)
                    finally:
                        self._end_reads(batch, own)
                finally:
                    self._end_reads(batch, own)
        except CacheUnavailable:
            self._redis_errors.inc()
        absent = sum(record is None for record in known.values())
        self._negative_hits.inc(absent)
        self._hits.inc(len(known) - absent)
        if undecodable:
            await self.drop(undecodable)
        return known

    def _take_in(
        self,
        record_ids: list[int],
        values: list[bytes | None],
        tickets: Mapping[int, object],
        known: dict[int, T | None],
    ) -> list[tuple[int, None]]:
        """Add the decoded values to `known` and to the near cache, and return the ids that cannot be decoded."""
        stamp = self._epoch.stamp()
        if stamp is None:
            return []
        undecodable = self._codec.decode_all(record_ids, values, stamp, known)
        if self._near is not None:
            for record_id, raw in zip(record_ids, values, strict=True):
                if raw is not None and record_id in known:
                    self._near.put(record_id, raw, tickets[record_id])
        return [(record_id, None) for record_id in undecodable]

    async def _take_leases(
        self, record_ids: list[int], nonce: str, budget: Budget
    ) -> tuple[list[int], bytes]:
        """Take leases and return the ids that were leased, with their epoch. Does not wait for other lease holders."""
        leased: list[int] = []
        epoch = self._epoch.tag
        try:
            for start in range(0, len(record_ids), KEYS_PER_TRIP):
                batch = record_ids[start : start + KEYS_PER_TRIP]
                answers = await self._client.run_many(
                    TAKE_LEASE,
                    [(self._keys.both(record_id), (nonce, LEASE_MS, PASS_MS, epoch)) for record_id in batch],
                    budget,
                )
                leased += [
                    record_id
                    for record_id, answer in zip(batch, answers, strict=True)
                    if answer[0] is None and answer[1]
                ]
        except CacheUnavailable:
            pass
        return (leased if self._epoch.is_current(epoch) else []), epoch

    async def _fill(
        self, records: Mapping[int, T | None], nonce: str, epoch: bytes, budget: Budget | None = None
    ) -> int:
        """Store records that were read under leases of this epoch, and return how many were stored."""
        calls = []
        stored = 0
        for record_id, record in records.items():
            life = jittered_ms(Tier.ABSENT if record is None else self._tier)
            try:
                encoded = self._codec.encode(record, epoch, life, self._cost_ms)
            except UndecodableEntry as error:
                FILLS.labels(self._keys.entity, error.outcome).inc()
            else:
                calls.append((self._keys.both(record_id), (nonce, encoded, life, epoch)))
        try:
            for start in range(0, len(calls), KEYS_PER_TRIP):
                for is_stored in await self._client.run_many(
                    FILL, calls[start : start + KEYS_PER_TRIP], budget
                ):
                    FILLS.labels(self._keys.entity, "stored" if is_stored else "refused").inc()
                    stored += is_stored
        except CacheUnavailable:
            FILLS.labels(self._keys.entity, "failed").inc()
        return stored
