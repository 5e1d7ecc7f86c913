# Generated from cache/_async/feeds.py by scripts/generate_sync.py; edit that, not this.
"""A read-through cache for pages of feeds. Replacing an owner's generation invalidates all of the owner's pages."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable
from functools import partial
from random import uniform
from time import monotonic, perf_counter, sleep
from typing import Generic, TypeVar

from cache._sync.client import Client
from cache._sync.single_flight import SingleFlight
from cache.codec import Packing, Shared
from cache.entry import entry, header_of, is_due, packed_in
from cache.errors import CacheUnavailable, UndecodableEntry
from cache.keys import FeedKeys
from cache.metrics import (
    COALESCED,
    FILLS,
    HITS,
    INVALIDATIONS,
    LEASE_WAITS,
    MISSES,
    READ_ERRORS,
    REFRESHES,
    STALE_SERVES,
    DatabaseReads,
)
from cache.scripts import FILL_PAGE, TAKE_PAGE, TAKE_REFRESH
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


class FeedCache(Generic[T]):
    """The cache of one kind of feed, by owner id and page. Its methods never raise because Redis fails."""

    def __init__(
        self,
        client: Client,
        keys: FeedKeys,
        packing: Packing[T],
        tier: Tier,
        failures: type[Exception] = Exception,
    ) -> None:
        """`failures` are the errors of reading the database."""
        self._client = client
        self._epoch = client.epoch.of(keys.feed)
        self._keys = keys
        self._packing = packing
        self._tier = tier
        # The generation lives longer than any of its pages.
        self._generation_ms = tier * 2000
        feed = keys.feed
        self._hits = HITS.labels(feed, "redis", "value")
        self._misses = MISSES.labels(feed, "redis")
        self._database = DatabaseReads(feed)
        self._redis_errors = READ_ERRORS.labels(feed)
        self._lease_waits = LEASE_WAITS.labels(feed)
        self._stale_serves = STALE_SERVES.labels(feed)
        self._single_flight: SingleFlight[Shared[T]] = SingleFlight(COALESCED.labels(feed).inc, failures)

    def find(self, owner_id: int, page: str, load: Callable[[], T], ends_at: float | None = None) -> T:
        """Return a page of an owner's feed, from Redis or from `load`, which reads it from the database.

        `ends_at` is the caller's own deadline (a monotonic value), if it has one. `load` raises an error then.
        """
        began = perf_counter()
        budget = None if ends_at is None else self._client.budget(ends_at=ends_at)
        try:
            keys = [self._keys.generation(owner_id), self._keys.page(owner_id, page)]
            generation, raw = self._client.get_many(keys, budget)
            if generation is not None and raw is not None and self._is_good(generation, raw):
                found = self._hit(raw)
                if is_due(raw):
                    self._stale_serves.inc()
                    refresh = partial(self._refresh, owner_id, page, generation, header_of(raw), load)
                    self._client.background_tasks.start((self._keys.feed, owner_id, page), refresh)
                return found
        except CacheUnavailable:
            self._redis_errors.inc()
        except UndecodableEntry:
            pass
        self._misses.inc()
        if budget is None:
            budget = self._client.budget()
            budget.spend(began)
        read = partial(self._read, owner_id, page, load, budget)
        shared = self._single_flight.share((owner_id, page), read, ends_at)
        assert shared is not None, "a page is never absent"
        return shared.take()

    def drop(self, written: Iterable[tuple[int, int | None]]) -> bool:
        """Invalidate all pages of these owners, given as (owner id, ignored) pairs, in every schema in use.

        Return False if Redis could not be reached. Then the keys are invalidated when it recovers, and also by the
        outbox.
        """
        generations = [
            keys.generation(owner_id) for owner_id, _ in written for keys in self._keys.neighbours()
        ]
        for start in range(0, len(generations), KEYS_PER_TRIP):
            try:
                self._client.unlink(generations[start : start + KEYS_PER_TRIP])
            except CacheUnavailable:
                left = generations[start:]
                INVALIDATIONS.labels(self._keys.feed, "failed").inc(len(left))
                for key in left:
                    self._client.breaker.owe(key, key)
                return False
        INVALIDATIONS.labels(self._keys.feed, "dropped").inc(len(generations))
        return True

    def drop_all(self) -> bool:
        """Invalidate all pages of all owners. Takes 1.5 s, after which no process serves an old page.

        Return False as `drop` does.
        """
        try:
            self._client.invalidate_entity(self._keys.feed)
        except CacheUnavailable:
            INVALIDATIONS.labels(self._keys.feed, "failed").inc()
            return False
        INVALIDATIONS.labels(self._keys.feed, "dropped").inc()
        return True

    def _is_good(self, generation: bytes, raw: bytes) -> bool:
        """Return whether the page is of this generation, and the generation of the current epoch."""
        tag = self._epoch.tag
        is_ours = generation.startswith(tag + b".") and raw.startswith(generation + b":")
        return is_ours and self._epoch.is_current(tag)

    def _hit(self, raw: bytes) -> T:
        packed = packed_in(raw)
        if packed is None:
            raise UndecodableEntry("a page is never absent")
        found = self._packing.unpack(packed)
        self._hits.inc()
        return found

    def _read(self, owner_id: int, page: str, load: Callable[[], T], budget: Budget) -> Shared[T]:
        generation: bytes | None = None
        try:
            generation, raw = self._page_or_lease(owner_id, page, budget)
            if raw is not None:
                return self._packing.share(self._hit(raw), packed_in(raw))
        except CacheUnavailable:
            pass
        except UndecodableEntry:
            generation = None
            self.drop([(owner_id, None)])
        started = monotonic()
        with self._database.counted():
            found = load()
        self._database.found(1, 1)
        if generation is not None:
            self._fill(owner_id, page, generation, found, started, budget)
        return self._packing.share(found)

    def _refresh(
        self, owner_id: int, page: str, generation: bytes, header: bytes, load: Callable[[], T]
    ) -> None:
        """Refresh a page before it expires, unless another caller does or the feed is invalidated in the meantime."""
        keys = (self._keys.page(owner_id, page), self._keys.lease(owner_id, page))
        outcome = "failed"
        try:
            if not self._client.run(TAKE_REFRESH, keys, (secrets.token_hex(8), LEASE_MS, header)):
                outcome = "elsewhere"
                return
            started = monotonic()
            outcome = self._fill(owner_id, page, generation, load(), started)
        except CacheUnavailable:
            pass
        finally:
            REFRESHES.labels(self._keys.feed, outcome).inc()

    def _page_or_lease(self, owner_id: int, page: str, budget: Budget) -> tuple[bytes | None, bytes | None]:
        """Wait for a page or its lease.

        Return (generation, page), or (generation, None) with the lease, or (None, None) if neither came in time.
        """
        keys = (
            self._keys.generation(owner_id),
            self._keys.page(owner_id, page),
            self._keys.lease(owner_id, page),
        )
        give_up_at = monotonic() + budget.at_most(WAIT_SECONDS)
        has_waited = False
        left = budget.at_most(budget.left)
        while True:
            epoch = self._epoch.tag
            # A new nonce for each call: while this caller waits, another may fill under its generation, and that may
            # be invalidated. The same nonce would create the same generation again.
            arguments = (secrets.token_hex(8), LEASE_MS, PASS_MS, self._generation_ms, epoch)
            # Waiting for another caller's fill does not count against the Redis time budget.
            budget.left = left
            answer = self._client.run(TAKE_PAGE, keys, arguments, budget)
            # If the epoch has changed since, the answer is not valid.
            if self._epoch.is_current(epoch):
                if answer[1] is not None:
                    return answer[0], answer[1]
                if answer[2]:
                    return answer[0], None
            if monotonic() >= give_up_at:
                return None, None
            if not has_waited:
                has_waited = True
                self._lease_waits.inc()
            sleep(uniform(*POLL_SECONDS))

    def _fill(
        self,
        owner_id: int,
        page: str,
        generation: bytes,
        found: T,
        started: float,
        budget: Budget | None = None,
    ) -> str:
        """Store a page that was read since `started` (monotonic), and return the outcome for the metrics."""
        keys = (
            self._keys.generation(owner_id),
            self._keys.page(owner_id, page),
            self._keys.lease(owner_id, page),
        )
        outcome = "failed"
        life, cost = jittered_ms(self._tier), max(1, round((monotonic() - started) * 1000))
        try:
            raw = entry(generation, 0, life, cost, self._packing.pack(found))
            arguments = (generation, raw, life, self._generation_ms)
            stored = self._client.run(FILL_PAGE, keys, arguments, budget)
            outcome = "stored" if stored else "refused"
        except UndecodableEntry as error:
            outcome = error.outcome
        except CacheUnavailable:
            pass
        FILLS.labels(self._keys.feed, outcome).inc()
        return outcome
