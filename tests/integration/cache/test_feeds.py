"""Cached feeds: pages are invalidated together, and invalidated pages are never served again."""

from __future__ import annotations

import secrets
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest
import redis
from msgspec.structs import replace

from cache.entry import MOST_BYTES
from cache.keys import FeedKeys
from cache.metrics import CALL_SECONDS
from db.copy_binary import Owners
from db.errors import InvalidCursor
from db.models import NewActivity, NewRepository, NewUser
from tests.conftest import Database
from tests.containers import wait_until
from tests.promises import promise

NOW = datetime.now(UTC)


@pytest.fixture
def user_id(data: Any) -> int:
    return int(data.users.add(NewUser(github_id=1, username="ada")).id)


@pytest.fixture
def repo_id(data: Any) -> int:
    return int(data.repositories.add(NewRepository(github_id=1, name="o/r")).id)


class Roman(int):
    """An integer whose text is not its number, as of a member of an Enum."""

    def __str__(self) -> str:
        return "VII"


def _made(user_id: int, n: int, repo_id: int | None = None) -> NewActivity:
    return NewActivity(user_id=user_id, repo_id=repo_id, type="PushEvent", timestamp=NOW, github_event_id=n)


def _events(page: Any) -> list[int]:
    return [activity.github_event_id for activity in page.items]


def _behind_its_back(database: Database, user_id: int, n: int) -> None:
    database.psql(
        "INSERT INTO groundwork.activities (user_id, github_event_id, type, timestamp)"
        f" VALUES ({user_id}, {n}, 'x', now())"
    )


def _pages(redis_as_ops: redis.Redis, namespace: str) -> list[bytes]:
    return sorted(redis_as_ops.scan_iter(f"gw:{namespace}:*feed*"))


def test_a_page_comes_from_redis_until_the_outbox_is_emptied(
    data: Any, user_id: int, database: Database
) -> None:
    data.activities.add(_made(user_id, 1))
    data.outbox.drain()
    assert _events(data.activities.feed(user_id)) == [1]
    _behind_its_back(database, user_id, 2)
    assert _events(data.activities.feed(user_id)) == [1]
    data.outbox.drain()
    assert _events(data.activities.feed(user_id)) == [2, 1]


def _calls() -> Counter[str]:
    """Return the calls to Redis by operation, without those of the background."""
    samples = [sample for metric in CALL_SECONDS.collect() for sample in metric.samples]
    counts = {each.labels["operation"]: int(each.value) for each in samples if each.name.endswith("_count")}
    return Counter({name: count for name, count in counts.items() if name not in ("epoch", "ping")})


def test_a_cached_page_takes_one_round_trip(data: Any, user_id: int) -> None:
    for n in range(1, 51):
        data.activities.add(_made(user_id, n))
    before = _calls()
    first = data.activities.feed(user_id, limit=50)
    missed = _calls()
    assert missed - before == {"mget": 1, "take_page": 1, "fill_page": 1}
    assert data.activities.feed(user_id, limit=50) == first
    assert _calls() - missed == {"mget": 1}


@promise("a cursor that was changed or belongs to another listing raises InvalidCursor")
def test_a_value_that_is_not_a_cursor_is_refused_although_the_first_page_is_cached(
    data: Any, user_id: int, repo_id: int
) -> None:
    for feed, owner in ((data.activities.feed, user_id), (data.activities.repository_feed, repo_id)):
        feed(owner)
        before = _calls()
        for wrong in ("", "the top", 0, False, (), "\ud800", b"", "x" * 40):
            with pytest.raises(InvalidCursor, match="is not a cursor"):
                feed(owner, after=wrong)
        # Nothing was asked of Redis.
        assert _calls() == before


def test_spellings_of_a_cursor_share_a_page(data: Any, user_id: int, database: Database) -> None:
    for n in (1, 2, 3):
        data.activities.add(_made(user_id, n))
    data.outbox.drain()
    cursor = data.activities.feed(user_id, limit=1).next
    second = data.activities.feed(user_id, limit=1, after=cursor)
    assert _events(second) == [2]
    database.psql(f"DELETE FROM groundwork.activities WHERE user_id = {user_id}")
    # From Redis. Decoding ignores characters that are not base64.
    for same in (cursor, cursor + "!!!!"):
        assert data.activities.feed(user_id, limit=1, after=same) == second
    assert data.activities.feed(user_id, limit=2, after=cursor).items == []


def test_a_write_invalidates_every_page_of_its_owner_and_of_no_other(
    data: Any, user_id: int, repo_id: int, database: Database
) -> None:
    other = data.users.add(NewUser(github_id=2, username="grace")).id
    for n in (1, 2, 3):
        data.activities.add(_made(user_id, n, repo_id))
    first = data.activities.feed(user_id, limit=2)
    second = data.activities.feed(user_id, limit=2, after=first.next)
    assert _events(first) + _events(second) == [3, 2, 1]
    assert data.activities.feed(other).items == []
    assert _events(data.activities.repository_feed(repo_id)) == [3, 2, 1]
    _behind_its_back(database, other, 9)

    data.activities.add(_made(user_id, 4, repo_id))

    assert _events(data.activities.feed(user_id, limit=2)) == [4, 3]
    assert _events(data.activities.repository_feed(repo_id)) == [4, 3, 2, 1]
    assert data.activities.feed(other).items == []


def test_update_delete_and_bulk_loads_invalidate_feeds_too(data: Any, user_id: int) -> None:
    added = data.activities.add(_made(user_id, 1))
    other = data.users.add(NewUser(github_id=2, username="grace")).id
    assert _events(data.activities.feed(user_id)) == [1]
    assert data.activities.feed(other).items == []

    moved = data.activities.update(replace(added, user_id=other))
    assert data.activities.feed(user_id).items == []
    assert data.activities.feed(other).items == [moved]
    data.activities.delete(moved.id, NOW)
    assert data.activities.feed(other).items == []
    data.activities.copy_in([_made(other, 5), _made(user_id, 6)])
    assert _events(data.activities.feed(other)) == [5]
    assert _events(data.activities.feed(user_id)) == [6]


def test_a_delete_invalidates_the_feeds_of_what_it_deletes(data: Any) -> None:
    author = data.users.add(NewUser(github_id=100, username="grace")).id
    users = [data.users.add(NewUser(github_id=n, username="ada")).id for n in (1, 2, 3)]
    repositories = [data.repositories.add(NewRepository(github_id=n, name="o/r")).id for n in (1, 2, 3)]
    for n, (user, repository) in enumerate(zip(users, repositories, strict=True), start=1):
        data.activities.add(_made(user, n))
        data.activities.add(_made(author, 10 + n, repository))
    for owners, feed, ids in (
        (data.users, data.activities.feed, users),
        (data.repositories, data.activities.repository_feed, repositories),
    ):
        assert [len(feed(each).items) for each in ids] == [1, 1, 1]
        owners.delete(ids[0])
        owners.delete_many(ids[1:])
        assert [feed(each).items for each in ids] == [[], [], []]


def test_an_owner_of_an_int_subclass_has_the_feed_of_its_number(
    data: Any, user_id: int, repo_id: int
) -> None:
    user, repository = Roman(user_id), Roman(repo_id)

    def events() -> list[list[int]]:
        feed, repository_feed = data.activities.feed, data.activities.repository_feed
        pages = feed(user_id), feed(user), repository_feed(repo_id), repository_feed(repository)
        return [_events(page) for page in pages]

    assert events() == [[]] * 4
    data.activities.copy_in([_made(user, 1, repository)])
    assert events() == [[1]] * 4
    added = data.activities.add(_made(user, 2, repository))
    assert events() == [[2, 1]] * 4
    data.activities.delete(Roman(added.id), NOW)
    assert events() == [[1]] * 4


def test_an_upsert_that_moves_an_activity_invalidates_the_feeds_of_its_old_owners(
    data: Any, user_id: int, repo_id: int
) -> None:
    other = data.users.add(NewUser(github_id=2, username="grace")).id
    data.activities.add(_made(user_id, 1, repo_id))
    assert _events(data.activities.feed(user_id)) == [1]
    assert _events(data.activities.repository_feed(repo_id)) == [1]
    assert data.activities.feed(other).items == []

    moved = data.activities.upsert(_made(other, 1))

    assert (moved.user_id, moved.repo_id, moved.row_version) == (other, None, 2)
    assert data.activities.feed(user_id).items == []
    assert data.activities.repository_feed(repo_id).items == []
    assert data.activities.feed(other).items == [moved]

    back = data.activities.upsert(_made(user_id, 1, repo_id))
    assert data.activities.feed(other).items == []
    assert data.activities.repository_feed(repo_id).items == [back]


def test_an_upsert_invalidates_the_feed_to_which_another_client_moved_the_activity_meanwhile(
    data: Any, user_id: int, database: Database
) -> None:
    second, third = (data.users.add(NewUser(github_id=n, username="grace")).id for n in (2, 3))
    data.activities.add(_made(user_id, 1))
    assert data.activities.feed(second).items == []
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    with psycopg.connect(database.url("app")) as connection, ThreadPoolExecutor(1) as thread:
        connection.execute("UPDATE activities SET user_id = %s", [second])
        upserting = thread.submit(data.activities.upsert, _made(third, 1))
        wait_until(lambda: int(database.psql(waiting)) == 1)
        connection.commit()
        assert upserting.result(60).user_id == third
    _behind_its_back(database, second, 9)
    assert _events(data.activities.feed(second)) == [9]
    assert _events(data.activities.feed(third)) == [1]


def test_a_bulk_load_for_too_many_owners_invalidates_every_feed(
    data: Any, open_data: Any, user_id: int, repo_id: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Owners, "MOST", 1)
    elsewhere = open_data()
    record = data.users.get(user_id)
    for each in (data, elsewhere):
        assert each.activities.feed(user_id).items == each.activities.repository_feed(repo_id).items == []
    assert data.activities.copy_in([_made(user_id, 5, repo_id=repo_id)]) == 1
    for each in (data, elsewhere):
        assert _events(each.activities.feed(user_id)) == [5]
        assert _events(each.activities.repository_feed(repo_id)) == [5]
    # Records are not feeds, so they stay cached.
    assert data.users.get(user_id) == record


@promise("a page of a feed that was read before a write is not stored after it")
def test_a_page_that_was_read_before_a_write_is_not_stored_after_it(
    data: Any, user_id: int, redis_as_ops: redis.Redis, namespace: str, flavour: str
) -> None:
    stale = data.activities.list_by_type("none")
    feeds = data.activities.user_feeds

    def load() -> Any:
        # Simulate a write that commits and invalidates between this read of the database and the fill.
        _unlink_generation(redis_as_ops, namespace, user_id)
        return stale

    async def load_async() -> Any:
        return load()

    assert feeds.find(user_id, "50 after the top", load_async if flavour == "async" else load) == stale
    assert _pages(redis_as_ops, namespace) == []
    data.activities.add(_made(user_id, 1))
    assert _events(data.activities.feed(user_id)) == [1]


def test_an_evicted_generation_makes_no_old_page_valid_again(
    data: Any, user_id: int, redis_as_ops: redis.Redis, namespace: str, database: Database
) -> None:
    assert data.activities.feed(user_id).items == []
    assert len(_pages(redis_as_ops, namespace)) == 1
    _behind_its_back(database, user_id, 1)
    # Redis evicts the generation but not the page. Reading another page creates a new generation.
    _unlink_generation(redis_as_ops, namespace, user_id)
    assert _events(data.activities.feed(user_id, limit=7)) == [1]
    assert _events(data.activities.feed(user_id)) == [1]


@promise("a record or page of more than 1 MiB is not cached")
def test_a_page_too_large_for_a_call_is_not_cached(
    data: Any, user_id: int, redis_as_ops: redis.Redis, namespace: str
) -> None:
    half = {"payload": "x" * (MOST_BYTES // 2)}
    for n in (1, 2):
        data.activities.add(replace(_made(user_id, n), data=half))
    for _ in range(2):
        assert _events(data.activities.feed(user_id)) == [2, 1]
        assert _pages(redis_as_ops, namespace) == []
    assert _events(data.activities.feed(user_id, limit=1)) == [2]
    assert len(_pages(redis_as_ops, namespace)) == 1


@promise("a page of a feed that was read before a write is not stored after it")
def test_a_waiting_reader_does_not_restore_a_generation(
    data: Any,
    user_id: int,
    redis_as_ops: redis.Redis,
    namespace: str,
    flavour: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The reader waits as long as the test needs it.
    monkeypatch.setattr(f"cache._{flavour}.feeds.WAIT_SECONDS", 60.0)
    feeds = data.activities.user_feeds
    keys = FeedKeys(namespace, data.activities.USER_FEED, feeds._keys.schema)
    generation, page = keys.generation(user_id), "50 after the top"
    # Another process reads this page, for longer than the time after which a lease passes on.
    redis_as_ops.set(keys.lease(user_id, page), "another's", px=600_000)

    async def load_async() -> str:
        return "page"

    load = load_async if flavour == "async" else lambda: "page"
    drawn = set()
    with ThreadPoolExecutor(1) as thread:
        waiting = thread.submit(feeds.find, user_id, page, load)
        for _ in range(5):
            wait_until(lambda: redis_as_ops.exists(generation))
            # Delete it as an invalidation does. A reader with this generation must never be able to fill.
            drawn.add(redis_as_ops.get(generation))
            redis_as_ops.unlink(generation)
        redis_as_ops.unlink(keys.lease(user_id, page))
        assert waiting.result(60) == "page"
    assert len(drawn) == 5


@promise("a page of a feed that was read before a write is not stored after it", control=True)
def test_a_counter_as_generation_makes_an_old_page_valid_again(
    redis_as_ops: redis.Redis, namespace: str
) -> None:
    """The control of the test above: the usual counter, with the same events."""
    generation, page = f"gwl:{namespace}:counter", f"gw:{namespace}:counter-page"
    redis_as_ops.set(generation, 1, px=60_000)
    redis_as_ops.set(page, "1:old", px=60_000)
    redis_as_ops.unlink(generation)
    # A missing counter starts again with an earlier value.
    redis_as_ops.set(generation, 1, px=60_000)
    assert redis_as_ops.get(page).partition(b":")[0] == redis_as_ops.get(generation)


@promise("an entry that cannot be decoded is replaced from the database")
def test_a_page_of_other_bytes_is_read_from_the_database(
    data: Any, user_id: int, redis_as_ops: redis.Redis, namespace: str
) -> None:
    data.activities.add(_made(user_id, 1))
    data.activities.feed(user_id)
    (key,) = _pages(redis_as_ops, namespace)
    raw = redis_as_ops.get(key)
    redis_as_ops.set(key, raw.partition(b":")[0] + b":" + secrets.token_bytes(20), px=60_000)
    assert _events(data.activities.feed(user_id)) == [1]
    assert _events(data.activities.feed(user_id)) == [1]


def test_a_page_lives_as_long_as_its_tier(
    data: Any, user_id: int, redis_as_ops: redis.Redis, namespace: str
) -> None:
    data.activities.feed(user_id)
    (key,) = _pages(redis_as_ops, namespace)
    assert 0.85 * 300_000 < redis_as_ops.pttl(key) <= 1.1 * 300_000
    (generation,) = redis_as_ops.scan_iter(f"gwl:{namespace}:*feed*")
    assert redis_as_ops.pttl(generation) > redis_as_ops.pttl(key)


def test_reads_in_a_transaction_bypass_the_cache_and_the_feed_is_invalidated_after_commit(
    data: Any, user_id: int, flavour: str
) -> None:
    if flavour == "async":
        pytest.skip("the suite drives async from another thread, which is in no transaction")
    assert data.activities.feed(user_id).items == []
    with data.transaction():
        data.activities.add(_made(user_id, 1))
        assert _events(data.activities.feed(user_id)) == [1]
    assert _events(data.activities.feed(user_id)) == [1]


def _unlink_generation(redis_as_ops: redis.Redis, namespace: str, user_id: int) -> None:
    keys = list(redis_as_ops.scan_iter(f"gwl:{namespace}:*user_feed:{{{user_id}}}"))
    assert keys
    redis_as_ops.unlink(*keys)
