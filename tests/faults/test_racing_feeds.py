"""Pages of feeds are read and written concurrently: no page is older than a completed invalidation."""

from __future__ import annotations

import random
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any, Protocol

import pytest
import redis

from cache._sync.client import Client
from cache._sync.feeds import FeedCache
from cache.codec import Packing
from cache.keys import FeedKeys
from cache.timing import Tier
from tests import containers
from tests.containers import Server
from tests.integration.data_access import cache_settings
from tests.promises import promise
from tests.scale import scaled

READS = scaled(1_000, 200_000)
# Each client represents a process, because callers of one client share their reads.
CLIENTS, THREADS_EACH = 4, 2
OWNERS, PAGES = 1, ("first",)
# Some reads of the database take longer than the time after which a lease passes on.
LOAD_SECONDS = (0.03, 0.2)


class Feeds(Protocol):
    """One process's cache of feeds. Here a page is the number of the last write to its owner's feed."""

    def find(self, owner_id: int, page: str, load: Callable[[], int]) -> int: ...
    def drop(self, written: list[tuple[int, None]]) -> bool: ...


class GetMissSet:
    """The negative control: a reader that misses stores the page, and a writer deletes it."""

    def __init__(self, client: Any, namespace: str) -> None:
        self._redis, self._prefix = client, f"gwl:{namespace}:naive"

    def find(self, owner_id: int, page: str, load: Callable[[], int]) -> int:
        key = f"{self._prefix}:{owner_id}:{page}"
        known = self._redis.get(key)
        if known is not None:
            return int(known)
        loaded = load()
        self._redis.set(key, loaded, px=60_000)
        return loaded

    def drop(self, written: list[tuple[int, None]]) -> bool:
        for owner_id, _ in written:
            self._redis.unlink(*(f"{self._prefix}:{owner_id}:{page}" for page in PAGES))
        return True


def finds_stale_page(clients: list[Feeds], reads: int) -> bool:
    """Return whether one of `reads` returned a page older than an invalidation that was completed before the read."""
    stored = [0] * OWNERS
    invalidated = [0] * OWNERS
    left = iter(range(reads))
    is_over = threading.Event()

    def write() -> None:
        while not is_over.is_set():
            owner_id = random.randrange(OWNERS)
            stored[owner_id] += 1
            assert random.choice(clients).drop([(owner_id, None)])
            invalidated[owner_id] = stored[owner_id]
            time.sleep(random.uniform(0.0, 0.1))

    def read(feeds: Feeds) -> bool:
        for _ in left:
            owner_id = random.randrange(OWNERS)

            def load(owner_id: int = owner_id) -> int:
                found = stored[owner_id]
                time.sleep(random.uniform(*LOAD_SECONDS))
                return found

            at_least = invalidated[owner_id]
            if feeds.find(owner_id, random.choice(PAGES), load) < at_least:
                is_over.set()
            if is_over.is_set():
                return True
        return False

    with ThreadPoolExecutor(1 + CLIENTS * THREADS_EACH) as threads:
        writing = threads.submit(write)
        reading = [threads.submit(read, feeds) for feeds in clients for _ in range(THREADS_EACH)]
        try:
            found = [each.result() for each in reading]
            return any(found)
        finally:
            is_over.set()
            writing.result()


@pytest.fixture(scope="module")
def own_redis(docker_engine: None) -> Iterator[Server]:
    with containers.redis_server() as server:
        yield server


@contextmanager
def our_feeds(server: Server) -> Iterator[list[Feeds]]:
    """One feed cache per client."""
    namespace = secrets.token_hex(4)
    with ExitStack() as stack:
        feeds: list[Feeds] = []
        for _ in range(CLIENTS):
            client = Client(cache_settings(server.redis_url("app"), namespace, near_entries=0))
            client.open()
            stack.callback(client.close)
            feeds.append(FeedCache(client, FeedKeys(namespace, "user_feed", 2), Packing(int), Tier.SHORT))
        yield feeds


@promise("no page of a feed is older than a completed invalidation")
@pytest.mark.timeout(scaled(300, 7200))
def test_no_page_is_older_than_an_invalidation_that_has_returned(own_redis: Server) -> None:
    with our_feeds(own_redis) as feeds:
        assert not finds_stale_page(feeds, READS)


@promise("no page of a feed is older than a completed invalidation", control=True)
def test_with_repeated_nonces_pages_are_stale(own_redis: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """The negative control: a former generation is created again while a reader may still fill under it."""
    with our_feeds(own_redis) as feeds:
        monkeypatch.setattr(secrets, "token_hex", lambda _: f"{threading.get_ident():x}")
        assert finds_stale_page(feeds, 1_000)


@promise("no page of a feed is older than a completed invalidation", control=True)
def test_pages_stored_without_leases_are_stale(own_redis: Server) -> None:
    namespace = secrets.token_hex(4)
    with redis.Redis.from_url(own_redis.redis_url("app"), driver_info=None) as client:
        assert finds_stale_page([GetMissSet(client, namespace) for _ in range(CLIENTS)], 2_000)
