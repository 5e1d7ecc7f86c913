"""Entries near their expiry are refreshed by one reader in the background, and never overwrite a newer write."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis
from msgspec.structs import replace

from cache.entry import entry, header_of, packed_in
from cache.keys import EntityKeys
from cache.metrics import REFRESHES, STALE_SERVES
from db.models import USER_SCHEMA, NewUser
from tests.conftest import Database
from tests.containers import wait_until
from tests.promises import promise

# A cost so high that every reader finds the entry due, although it does not expire soon.
_DEAR_MS = 10**12
_LIFE_MS = 60_000


@pytest.fixture
def user(data: Any) -> Any:
    """A cached user."""
    return data.users.get(data.users.add(NewUser(github_id=7, username="before")).id)


@pytest.fixture
def key(namespace: str, user: Any) -> str:
    return EntityKeys(namespace, "user", USER_SCHEMA).value(user.id)


@pytest.fixture
def make_due(redis_as_ops: redis.Redis, key: str) -> Callable[[], bytes]:
    """make_due() makes the cached user due for a refresh, and returns the entry."""

    def make() -> bytes:
        raw: Any = redis_as_ops.get(key)
        epoch, version = raw.split(b":")[:2]
        due = entry(epoch, int(version), _LIFE_MS, _DEAR_MS, packed_in(raw) or b"")
        redis_as_ops.set(key, due, px=_LIFE_MS)
        return due

    return make


def _elsewhere(database: Database) -> None:
    database.psql("UPDATE groundwork.users SET username = 'elsewhere'")


def _refreshes(outcome: str) -> float:
    value = REFRESHES.labels("user", outcome)._value.get()
    return float(value)


@promise("an entry is refreshed before it expires, while readers get the old value")
def test_the_old_entry_is_served_and_a_new_one_stored_meanwhile(
    data: Any, user: Any, database: Database, make_due: Callable[[], bytes]
) -> None:
    _elsewhere(database)
    make_due()
    stored, served = _refreshes("stored"), STALE_SERVES.labels("user")._value.get()
    assert data.users.get(user.id) == user
    wait_until(lambda: data.users.get(user.id).username == "elsewhere", 60)
    assert _refreshes("stored") == stored + 1
    assert STALE_SERVES.labels("user")._value.get() > served


def test_an_entry_that_is_not_due_stays(data: Any, user: Any, database: Database) -> None:
    _elsewhere(database)
    stored = _refreshes("stored")
    for _ in range(20):
        assert data.users.get(user.id) == user
    assert _refreshes("stored") == stored


def test_many_readers_in_two_processes_cost_one_read(
    data: Any, open_data: Any, user: Any, key: str, redis_as_ops: redis.Redis, make_due: Callable[[], bytes]
) -> None:
    """Two data accesses share only the servers, as two processes do."""
    other = open_data()
    other.users.get(user.id)
    due = make_due()
    stored = _refreshes("stored")
    with ThreadPoolExecutor(16) as readers:
        found = readers.map(lambda n: (data, other)[n % 2].users.get(user.id), range(64))
        assert {each.id for each in found} == {user.id}
    wait_until(lambda: redis_as_ops.get(key) != due, 60)
    wait_until(lambda: not any(each.name == "cache-background-task" for each in threading.enumerate()), 60)
    assert _refreshes("stored") == stored + 1


def _overtaken(data: Any, user: Any, flavour: str, raw: bytes) -> None:
    """Refresh with a record that was read before a write that has finished since."""

    def load(_: int) -> Any:
        data.users.update(replace(user, username="after"))
        return user

    cached = data.users.cached
    if flavour == "async":
        pytest.skip("a load that waits for its own event loop would never end")
    cached._refresh(user.id, header_of(raw), load)


@promise("an entry is refreshed before it expires, while readers get the old value")
def test_a_refresh_that_a_write_overtook_stores_nothing(
    data: Any, user: Any, flavour: str, make_due: Callable[[], bytes]
) -> None:
    refused = _refreshes("refused")
    _overtaken(data, user, flavour, make_due())
    assert _refreshes("refused") == refused + 1
    assert data.users.get(user.id).username == "after"


@promise("an entry is refreshed before it expires, while readers get the old value", control=True)
def test_a_refresh_without_a_lease_overwrites_the_write(
    data: Any, user: Any, key: str, redis_as_ops: redis.Redis, make_due: Callable[[], bytes]
) -> None:
    """The control of the test above: a plain SET of what was read."""
    read_before = make_due()
    updated = data.users.update(replace(user, username="after"))
    assert data.users.get(user.id) == updated
    redis_as_ops.set(key, read_before, px=_LIFE_MS)
    assert data.users.get(user.id) == user


def test_a_feeds_page_is_refreshed_too(
    data: Any, user: Any, database: Database, redis_as_ops: redis.Redis, namespace: str
) -> None:
    assert data.activities.feed(user.id).items == []
    database.psql(
        f"INSERT INTO groundwork.activities (user_id, type, timestamp) VALUES ({user.id}, 'x', now())"
    )
    (page,) = redis_as_ops.scan_iter(f"gw:{namespace}:*feed*")
    raw: Any = redis_as_ops.get(page)
    due = entry(raw.partition(b":")[0], 0, _LIFE_MS, _DEAR_MS, packed_in(raw) or b"")
    redis_as_ops.set(page, due, px=_LIFE_MS)
    assert data.activities.feed(user.id).items == []
    wait_until(lambda: len(data.activities.feed(user.id).items) == 1, 60)
