# Generated from cache/_async/feeds.py by scripts/generate_sync.py; edit that, not this.
"""Pages of feeds through Redis: all pages of an owner are forgotten at once, by ending their generation."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable
from functools import partial
from random import uniform
from time import monotonic, perf_counter, sleep
from typing import Generic, TypeVar

from cache._sync.client import Client
from cache._sync.flights import Flights
from cache.budget import KEYS_PER_TRIP, Budget
from cache.codec import Packing
from cache.entry import entry, header_of, is_due, packed_in
from cache.errors import CacheUnavailable, UndecodableEntry
from cache.keys import FeedKeys
from cache.leases import LEASE_MS, PASS_MS, POLL_SECONDS, WAIT_SECONDS
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
from cache.ttl import Tier, jittered_ms

T = TypeVar("T")


class FeedCache(Generic[T]):
    """The cache of one kind of feed, by its owner's id and by page."""

    def __init__(self, client: Client, keys: FeedKeys, packing: Packing[T], tier: Tier) -> None:
        self._client = client
        self._epoch = client.epoch.of(keys.feed)
        self._keys = keys
        self._packing = packing
        self._tier = tier
        # Longer than any of its pages lives.
        self._generation_ms = tier * 2000
        feed = keys.feed
        self._hits = HITS.labels(feed, "redis", "value")
        self._misses = MISSES.labels(feed, "redis")
        self._database = DatabaseReads(feed)
        self._redis_errors = READ_ERRORS.labels(feed)
        self._lease_waits = LEASE_WAITS.labels(feed)
        self._stale_serves = STALE_SERVES.labels(feed)
        self._flights: Flights[T] = Flights(COALESCED.labels(feed).inc)

    def find(self, owner_id: int, page: str, load: Callable[[], T]) -> T:
        """A page of an owner's feed; `load` asks the database for it."""
        began = perf_counter()
        try:
            keys = [self._keys.generation(owner_id), self._keys.page(owner_id, page)]
            generation, raw = self._client.get_many(keys)
            if generation is not None and raw is not None and self._is_good(generation, raw):
                found = self._hit(raw)
                if is_due(raw):
                    self._stale_serves.inc()
                    refresh = partial(self._refresh, owner_id, page, generation, header_of(raw), load)
                    self._client.errands.start((self._keys.feed, owner_id, page), refresh)
                return found
        except CacheUnavailable:
            self._redis_errors.inc()
        except UndecodableEntry:
            pass
        self._misses.inc()
        budget = self._client.budget()
        budget.spend(began)
        read = partial(self._read, owner_id, page, load, budget)
        shared = self._flights.share((owner_id, page), read)
        assert shared is not None, "a page is never absent"
        return shared

    def drop(self, written: Iterable[tuple[int, int | None]]) -> bool:
        """Forget every page of these owners' feeds, in every schema in use; the second of each pair is for records.

        False where Redis could not be told: it will be as soon as it answers, and the outbox knows too.
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
        """Forget every page of every owner; takes a second and a half, until no process serves one.

        False as with `drop`.
        """
        try:
            self._client.forget_entity(self._keys.feed)
        except CacheUnavailable:
            INVALIDATIONS.labels(self._keys.feed, "failed").inc()
            return False
        INVALIDATIONS.labels(self._keys.feed, "dropped").inc()
        return True

    def _is_good(self, generation: bytes, raw: bytes) -> bool:
        """Whether the page is of this generation, and that of this epoch."""
        tag = self._epoch.tag
        is_ours = generation.startswith(tag + b".") and raw.startswith(generation + b":")
        return is_ours and self._epoch.stands(tag)

    def _hit(self, raw: bytes) -> T:
        packed = packed_in(raw)
        if packed is None:
            raise UndecodableEntry("a page is never absent")
        found = self._packing.unpack(packed)
        self._hits.inc()
        return found

    def _read(self, owner_id: int, page: str, load: Callable[[], T], budget: Budget) -> T:
        generation: bytes | None = None
        try:
            generation, raw = self._page_or_lease(owner_id, page, budget)
            if raw is not None:
                return self._hit(raw)
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
        return found

    def _refresh(
        self, owner_id: int, page: str, generation: bytes, header: bytes, load: Callable[[], T]
    ) -> None:
        """Store a page anew before it expires, unless another does, or the feed is forgotten meanwhile."""
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
        """The generation and the page; or the generation that the caller may fill it under, if it may."""
        keys = (
            self._keys.generation(owner_id),
            self._keys.page(owner_id, page),
            self._keys.lease(owner_id, page),
        )
        give_up_at = monotonic() + WAIT_SECONDS
        has_waited = False
        left = budget.left
        while True:
            epoch = self._epoch.tag
            # A nonce of each question's own: this one's generation may be filled under by another, and forgotten,
            # while this one still waits; the same nonce would bring it back.
            arguments = (secrets.token_hex(8), LEASE_MS, PASS_MS, self._generation_ms, epoch)
            # Waiting for another's fill is no waiting for Redis: each question has the time of the first.
            budget.left = left
            answer = self._client.run(TAKE_PAGE, keys, arguments, budget)
            # Otherwise it was the answer of a server that has another epoch than the one asked for.
            if self._epoch.stands(epoch):
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
        """Store a page whose reading began at `started`; what came of it."""
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
