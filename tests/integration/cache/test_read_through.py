"""Reads of users: whether they come from Redis or Postgres, by the metrics, and what Redis then contains."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from msgspec.structs import replace
from prometheus_client import REGISTRY

from cache.entry import MOST_BYTES
from cache.keys import EntityKeys
from cache.timing import JITTER, Tier
from db import AsyncDataAccess
from db.models import USER_SCHEMA, NewUser
from tests.conftest import Database
from tests.containers import Server
from tests.integration.data_access import cache_settings, data_access, database_settings
from tests.promises import promise

ADA = NewUser(github_id=7, username="ada")


def database_reads() -> float:
    """Return how many single users this process has read from Postgres so far."""
    labels = {"query": "find_user", "outcome": "ok"}
    return REGISTRY.get_sample_value("groundwork_db_query_duration_seconds_count", labels) or 0


@pytest.fixture
def keys(namespace: str) -> EntityKeys:
    return EntityKeys(namespace, "user", USER_SCHEMA)


def test_a_miss_fills_and_the_next_read_is_a_hit(data: Any, redis_as_ops: Any, keys: EntityKeys) -> None:
    user = data.users.add(ADA)
    before = database_reads()
    assert data.users.get(user.id) == user
    assert database_reads() == before + 1
    assert redis_as_ops.exists(keys.value(user.id)) == 1
    for _ in range(5):
        assert data.users.get(user.id) == user
    assert database_reads() == before + 1


def test_what_is_left_to_the_database_is_counted(data: Any) -> None:
    def reads(outcome: str) -> float:
        labels = {"entity": "user", "outcome": outcome}
        return REGISTRY.get_sample_value("groundwork_cache_database_reads_total", labels) or 0

    user = data.users.add(ADA)
    before = reads("found"), reads("absent")
    data.users.get(user.id)
    data.users.find(user.id + 1)
    assert data.users.get_many([user.id, user.id + 2])[1] is None
    assert (reads("found"), reads("absent")) == (before[0] + 1, before[1] + 2)


def test_reads_that_redis_could_not_answer_are_counted(flavour: str, database: Database) -> None:
    def errors() -> float:
        labels = {"entity": "user"}
        return REGISTRY.get_sample_value("groundwork_cache_read_errors_total", labels) or 0

    nobody = cache_settings("redis://app:x@localhost:1/0", "nobody")
    with data_access(flavour, database_settings(database.url("app")), nobody) as data:
        user = data.users.add(ADA)
        before = errors()
        assert data.users.get(user.id) == user
        assert data.users.get_many([user.id]) == [user]
        assert errors() == before + 2


def test_no_lease_is_left_after_a_fill(data: Any, redis_as_ops: Any, keys: EntityKeys) -> None:
    user = data.users.add(ADA)
    data.users.get(user.id)
    assert redis_as_ops.exists(keys.lease(user.id)) == 0


@pytest.mark.parametrize(("known", "tier"), [(True, Tier.LONG), (False, Tier.ABSENT)])
def test_an_entry_lives_as_long_as_its_tier(
    data: Any, redis_as_ops: Any, keys: EntityKeys, known: bool, tier: Tier
) -> None:
    user_id = data.users.add(ADA).id if known else 4711
    data.users.find(user_id)
    left = redis_as_ops.pttl(keys.value(user_id)) / 1000
    assert tier * (1 - JITTER) - 5 <= left <= tier * (1 + JITTER)


def test_an_expired_entry_is_read_again(
    data: Any, redis_as_ops: Any, keys: EntityKeys, database: Database
) -> None:
    user = data.users.add(ADA)
    data.users.get(user.id)
    database.psql("UPDATE groundwork.users SET username = 'elsewhere'")
    assert data.users.get(user.id).username == "ada"
    key = keys.value(user.id)
    redis_as_ops.set(key, redis_as_ops.get(key), px=1)
    time.sleep(0.01)
    assert data.users.get(user.id).username == "elsewhere"


def test_a_write_updates_what_is_cached(data: Any, redis_as_ops: Any, keys: EntityKeys) -> None:
    user = data.users.get(data.users.add(ADA).id)
    updated = data.users.update(replace(user, username="countess"))
    before = database_reads()
    assert int(redis_as_ops.get(keys.value(user.id)).split(b":")[1]) == updated.row_version
    assert data.users.get(user.id) == updated
    assert database_reads() == before


def test_a_delete_removes_the_entry(data: Any, redis_as_ops: Any, keys: EntityKeys) -> None:
    user = data.users.get(data.users.add(ADA).id)
    data.users.delete(user.id)
    assert redis_as_ops.exists(keys.value(user.id)) == 0


@promise("an absent record is cached as absent until it is inserted")
def test_an_absence_is_cached_and_the_insert_ends_it(data: Any) -> None:
    first = data.users.add(ADA)
    next_id = first.id + 1
    assert data.users.find(next_id) is None
    before = database_reads()
    assert data.users.find(next_id) is None
    assert database_reads() == before

    added = data.users.add(NewUser(github_id=8, username="grace"))

    assert added.id == next_id
    assert data.users.find(next_id) == added


@promise("a write never replaces a cached value of a higher row_version")
def test_a_late_writer_does_not_bring_an_older_version_back(data: Any) -> None:
    first = data.users.get(data.users.add(ADA).id)
    second = data.users.update(replace(first, username="second"))
    third = data.users.update(replace(second, username="third"))
    # Simulate that the writer of `second` was delayed after its COMMIT.
    data.users.cached.replace(second.id, second)
    assert data.users.get(first.id) == third


def test_a_late_writer_after_an_eviction_stores_nothing(
    data: Any, redis_as_ops: Any, keys: EntityKeys
) -> None:
    first = data.users.get(data.users.add(ADA).id)
    third = data.users.update(replace(data.users.update(replace(first, username="b")), username="c"))
    redis_as_ops.unlink(keys.value(first.id))
    data.users.cached.replace(first.id, first)
    assert redis_as_ops.exists(keys.value(first.id)) == 0
    assert data.users.get(first.id) == third


@promise("an entry that cannot be decoded is replaced from the database")
def test_foreign_bytes_are_a_miss_and_are_replaced(data: Any, redis_as_ops: Any, keys: EntityKeys) -> None:
    user = data.users.add(ADA)
    for junk in (
        b"", b"junk", b"1:junk", b"x:\x80", b"EPOCH", b"EPOCH:", b"EPOCH:1:junk", b"EPOCH:1:1:1:" + b"\x91" * 5000,
        b"EPOCH:-1:1:1:\x80", b"EPOCH:1:x:1:\x80",
    ):  # fmt: skip
        redis_as_ops.set(keys.value(user.id), junk.replace(b"EPOCH", data.cache.epoch.tag), ex=60)
        assert data.users.get(user.id) == user, junk
        assert data.users.get_many([user.id]) == [user], junk
        before = database_reads()
        assert data.users.get(user.id) == user, junk
        assert database_reads() == before, junk


def test_many_are_filled_and_then_come_from_redis(data: Any, database: Database) -> None:
    ids = [data.users.add(NewUser(github_id=n, username=f"user{n}")).id for n in range(1, 6)]
    known = data.users.get_many([*ids, 4711])
    database.psql("UPDATE groundwork.users SET username = 'elsewhere'")
    assert data.users.get_many([*ids, 4711]) == known
    assert data.users.get(ids[0]) == known[0]


def test_a_number_that_msgpack_cannot_hold_is_read_uncached(
    data: Any, database: Database, redis_as_ops: Any, keys: EntityKeys
) -> None:
    user = data.users.add(ADA)
    database.psql(f"UPDATE groundwork.users SET preferences = '{{\"n\": {2**70}}}'")
    for _ in range(2):
        assert data.users.get(user.id).preferences == {"n": 2**70}
    assert redis_as_ops.exists(keys.value(user.id)) == 0


@promise("a record or page of more than 1 MiB is not cached")
def test_a_record_too_large_for_a_call_is_not_cached_and_its_older_version_goes(
    data: Any, redis_as_ops: Any, keys: EntityKeys
) -> None:
    user = data.users.add(ADA)
    assert data.users.get(user.id) == user
    assert redis_as_ops.exists(keys.value(user.id))
    large = data.users.update(replace(user, preferences={"notes": "x" * MOST_BYTES}))
    assert data.users.get(user.id) == large
    assert data.users.get_many([user.id]) == [large]
    assert not redis_as_ops.exists(keys.value(user.id))
    small = data.users.update(replace(large, preferences={}))
    assert data.users.get(user.id) == small
    assert redis_as_ops.exists(keys.value(user.id))


def test_fifty_tasks_missing_one_key_read_it_twice_at_most(
    database: Database, redis_server: Server, namespace: str
) -> None:
    async def scenario() -> tuple[int, float]:
        access = AsyncDataAccess(
            database_settings(database.url("app")), cache_settings(redis_server.redis_url("app"), namespace)
        )
        async with access as data:
            user = await data.users.add(ADA)
            before = database_reads()
            users = await asyncio.gather(*(data.users.get(user.id) for _ in range(50)))
            return len({u.id for u in users}), database_reads() - before

    assert asyncio.run(scenario()) in [(1, 1), (1, 2)]


@pytest.mark.parametrize("flavour", ["sync"], indirect=True)
def test_fifty_threads_missing_one_key_read_it_twice_at_most(data: Any) -> None:
    user = data.users.add(ADA)
    before = database_reads()
    with ThreadPoolExecutor(50) as threads:
        users = list(threads.map(data.users.get, [user.id] * 50))
    assert users == [user] * 50
    assert database_reads() - before <= 2
