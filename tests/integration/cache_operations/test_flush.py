"""After a flush, no read returns what was cached before, in whatever way it was cached."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
import redis

import cache.flushing
from cache.keys import EntityKeys, epoch_nonce
from db.models import USER_SCHEMA, NewActivity, NewOrganization, NewUser
from ops.errors import Exit
from tests.containers import Server
from tests.integration.cache_operations.conftest import OpenReader, Operate, Overtake, cached_user
from tests.promises import promise

SCOPES = [("--all",), ("--entity", "user"), ("--pattern", "*:user:{ID}"), ("--pattern", "v1:user:*")]
FEED_SCOPES = [("--all",), ("--entity", "user_feed"), ("--pattern", "*:user_feed:{ID}"), ("--pattern", "*")]
every_scope = pytest.mark.parametrize("scope", SCOPES, ids=" ".join)


def _flush(operate: Operate, scope: tuple[str, ...], user_id: int) -> None:
    arguments = [word.replace("ID", str(user_id)) for word in scope]
    outcome = operate("flush", *arguments, "--yes")
    assert outcome.code == Exit.FINE, outcome.error


@promise("after a flush, no read returns an entry cached before it")
@every_scope
@pytest.mark.parametrize("near_entries", [0, 1000])
def test_after_a_flush_no_reader_returns_the_older_value(
    operate: Operate, reader: OpenReader, overtake: Overtake, scope: tuple[str, ...], near_entries: int
) -> None:
    data = reader(near_entries)
    user = cached_user(data)
    overtake()
    assert data.users.get(user.id).username == "before"
    _flush(operate, scope, user.id)
    assert data.users.get(user.id).username == "after"
    assert data.users.get_many([user.id])[0].username == "after"


@pytest.mark.parametrize("scope", SCOPES[:2], ids=" ".join)
@pytest.mark.parametrize("near_entries", [0, 1000])
def test_a_reader_without_a_probe_is_not_stale_either(
    operate: Operate, reader: OpenReader, overtake: Overtake, scope: tuple[str, ...], near_entries: int
) -> None:
    data = reader(near_entries)
    user = cached_user(data)
    data.cache._probing.stop()
    overtake()
    _flush(operate, scope, user.id)
    assert data.users.get(user.id).username == "after"


@promise("after a flush, no read returns an entry cached before it", control=True)
@pytest.mark.parametrize("scope", SCOPES[:2], ids=" ".join)
def test_without_the_wait_a_reader_returns_the_older_value(
    operate: Operate,
    reader: OpenReader,
    overtake: Overtake,
    scope: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The control of the test above: right after the nonce is replaced, not every process knows it."""
    monkeypatch.setattr(cache.flushing, "RELIANCE_SECONDS", 0)
    monkeypatch.setattr("cache.epoch.RELIANCE_SECONDS", 60)
    data = reader(0)
    user = cached_user(data)
    data.cache._probing.stop()
    data.cache._know_epoch()
    overtake()
    _flush(operate, scope, user.id)
    assert data.users.get(user.id).username == "before"


@pytest.fixture
def long_leases(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make leases long, so that they do not expire on a busy machine."""
    monkeypatch.setattr("cache._sync.read_through.LEASE_MS", 60_000)


def _fill_across(data: Any, user: Any, meanwhile: Callable[[], None]) -> None:
    """Read the database before `meanwhile`, and fill the cache after it."""

    def load(_: int) -> Any:
        meanwhile()
        return user

    assert data.users.cached.find(user.id, load) == user


@promise("after a flush, no read returns an entry cached before it")
@pytest.mark.usefixtures("long_leases")
@pytest.mark.parametrize("flavour", ["sync"])
@pytest.mark.parametrize("scope", [*SCOPES, ("--all", "--reclaim")], ids=" ".join)
def test_a_fill_in_progress_does_not_restore_the_older_value(
    operate: Operate, reader: OpenReader, overtake: Overtake, scope: tuple[str, ...]
) -> None:
    data = reader(0)
    user = data.users.add(NewUser(github_id=7, username="before"))

    def meanwhile() -> None:
        overtake()
        _flush(operate, scope, user.id)

    _fill_across(data, user, meanwhile)
    assert data.users.get(user.id).username == "after"


@promise("after a flush, no read returns an entry cached before it", control=True)
@pytest.mark.usefixtures("long_leases")
@pytest.mark.parametrize("flavour", ["sync"])
def test_deleting_only_values_lets_a_fill_restore_the_older_value(
    reader: OpenReader, overtake: Overtake, redis_as_ops: redis.Redis, namespace: str
) -> None:
    """The control of the test above: the lease must be deleted."""
    data = reader(0)
    user = data.users.add(NewUser(github_id=7, username="before"))

    def meanwhile() -> None:
        overtake()
        for key in redis_as_ops.scan_iter(f"gw:{namespace}:*"):
            redis_as_ops.unlink(key)

    _fill_across(data, user, meanwhile)
    assert data.users.get(user.id).username == "before"


@pytest.mark.parametrize("scope", FEED_SCOPES, ids=" ".join)
def test_a_flush_of_a_feed_invalidates_all_its_pages(
    operate: Operate, reader: OpenReader, overtake: Overtake, scope: tuple[str, ...]
) -> None:
    data = reader(0)
    user = data.users.add(NewUser(github_id=7, username="ada"))
    for _ in range(3):
        data.activities.add(NewActivity(user_id=user.id, type="old", timestamp=datetime.now(UTC)))
    first = data.activities.feed(user.id, limit=2)
    data.activities.feed(user.id, limit=2, after=first.next)
    overtake()
    assert data.activities.feed(user.id, limit=2) == first
    _flush(operate, scope, user.id)
    again = data.activities.feed(user.id, limit=2)
    rest = data.activities.feed(user.id, limit=2, after=again.next)
    assert {each.type for each in (*again.items, *rest.items)} == {"after"}


@pytest.mark.parametrize("flavour", ["sync"])
@pytest.mark.parametrize("scope", FEED_SCOPES, ids=" ".join)
def test_a_page_being_filled_is_not_restored_after_a_flush(
    operate: Operate, reader: OpenReader, scope: tuple[str, ...]
) -> None:
    data = reader(0)
    user = data.users.add(NewUser(github_id=7, username="ada"))
    old = data.activities.feed(user.id)
    data.activities.add(NewActivity(user_id=user.id, type="x", timestamp=datetime.now(UTC)))

    def load() -> Any:
        _flush(operate, scope, user.id)
        return old

    page = "50 after the top"
    assert data.activities.user_feeds.find(user.id, page, load) == old
    assert len(data.activities.feed(user.id).items) == 1


@promise("a flush of one entity does not evict the others")
@pytest.mark.parametrize("scope", SCOPES[1:3], ids=" ".join)
def test_entries_outside_the_flush_stay_cached(
    operate: Operate, reader: OpenReader, overtake: Overtake, scope: tuple[str, ...]
) -> None:
    data = reader(0)
    user = cached_user(data)
    org = data.organizations.add(NewOrganization(github_id=1, name="before"))
    data.organizations.get(org.id)
    overtake()
    _flush(operate, scope, user.id)
    assert data.users.get(user.id).username == "after"
    assert data.organizations.get(org.id).name == "before"


def test_a_nonce_evicted_later_restores_nothing(
    operate: Operate, reader: OpenReader, overtake: Overtake, redis_as_ops: redis.Redis, namespace: str
) -> None:
    data = reader(0)
    user = cached_user(data)
    overtake()
    _flush(operate, ("--entity", "user"), user.id)
    redis_as_ops.unlink(epoch_nonce(namespace))
    data.cache._know_epoch()
    assert data.users.get(user.id).username == "after"


def test_two_entities_flushed_one_after_the_other_are_both_invalidated(
    operate: Operate, reader: OpenReader, overtake: Overtake, redis_as_ops: redis.Redis, namespace: str
) -> None:
    user = cached_user(reader(0))
    overtake()
    _flush(operate, ("--entity", "user"), user.id)
    _flush(operate, ("--entity", "organization", "--entity", "user_feed"), user.id)
    nonce = redis_as_ops.get(epoch_nonce(namespace))
    assert isinstance(nonce, bytes)
    assert [part.partition(b"=")[0] for part in nonce.split()[1:]] == [b"user", b"organization", b"user_feed"]
    assert reader(0).users.get(user.id).username == "after"


@pytest.mark.parametrize("flavour", ["sync"])
@every_scope
def test_a_dry_run_counts_and_invalidates_nothing(
    operate: Operate,
    reader: OpenReader,
    redis_as_ops: redis.Redis,
    namespace: str,
    scope: tuple[str, ...],
) -> None:
    user = cached_user(reader(0))
    key = EntityKeys(namespace, "user", USER_SCHEMA).value(user.id)
    nonce = redis_as_ops.get(epoch_nonce(namespace))
    arguments = [word.replace("ID", str(user.id)) for word in scope]
    outcome = operate("flush", *arguments, "--dry-run", "--json")
    found = json.loads(outcome.out)
    assert (found["dryRun"], found["keys"], found["entities"]) == (True, 1, {"user": 1})
    assert found["bytes"] == redis_as_ops.memory_usage(key)
    assert [each["key"] for each in found["sample"]] == [key]
    assert redis_as_ops.exists(key)
    assert redis_as_ops.get(epoch_nonce(namespace)) == nonce


@pytest.mark.parametrize("flavour", ["sync"])
def test_the_hottest_records_are_cached_again_after_a_flush(
    operate: Operate, reader: OpenReader, overtake: Overtake, redis_as_ops: redis.Redis, namespace: str
) -> None:
    data = reader(0)
    user = cached_user(data)
    data.activities.add(NewActivity(user_id=user.id, type="x", timestamp=datetime.now(UTC)))
    overtake()
    outcome = operate("flush", "--all", "--yes", "--warm", "5", "--json")
    found = json.loads(outcome.out)
    assert (found["scope"], found["keys"]) == ("all", None)
    assert found["warmed"] == {"users": 1, "repositories": 0, "organizations": 0}
    raw = redis_as_ops.get(EntityKeys(namespace, "user", USER_SCHEMA).value(user.id))
    assert isinstance(raw, bytes)
    assert b"after" in raw


@pytest.mark.parametrize("flavour", ["sync"])
@pytest.mark.parametrize("scope", SCOPES[:2], ids=" ".join)
def test_reclaiming_leaves_no_key(
    operate: Operate,
    reader: OpenReader,
    redis_as_ops: redis.Redis,
    namespace: str,
    scope: tuple[str, ...],
) -> None:
    data = reader(0)
    cached_user(data)
    data.organizations.get(data.organizations.add(NewOrganization(github_id=1, name="kept")).id)
    outcome = operate("flush", *scope, "--reclaim", "--yes", "--json")
    left = {key.decode().split(":")[3] for key in redis_as_ops.scan_iter(f"gw:{namespace}:*")}
    assert left == ({"organization"} if "user" in scope else set())
    assert json.loads(outcome.out)["keys"] == (1 if "user" in scope else 2)


@promise("keys are deleted at a bounded rate")
def test_keys_are_deleted_at_a_bounded_rate(
    operate: Operate, redis_as_ops: redis.Redis, namespace: str
) -> None:
    keys = EntityKeys(namespace, "user", USER_SCHEMA)
    for number in range(40):
        redis_as_ops.set(keys.value(number), b"x", ex=60)
    outcome = operate("flush", "--pattern", "*:user:*", "--rate", "20", "--yes", "--json")
    found = json.loads(outcome.out)
    assert found["keys"] == 40
    assert found["seconds"] >= 2


@promise("a full Redis can be flushed")
@pytest.mark.parametrize("scope", ["--all", "--entity=user"])
def test_a_full_redis_can_be_flushed(
    operate: Operate, namespace: str, full_redis: Server, monkeypatch: pytest.MonkeyPatch, scope: str
) -> None:
    monkeypatch.setenv("REDIS_URL", full_redis.redis_url("ops"))
    url = full_redis.redis_url("administrator")
    with redis.Redis.from_url(url, driver_info=None) as administrator:
        administrator.config_set("maxmemory", 0)
        administrator.set(epoch_nonce(namespace), "as it was")
        administrator.config_set("maxmemory", 1)
        outcome = operate("flush", scope, "--yes", "--json")
        assert json.loads(outcome.out)["scope"] == "all"
        assert administrator.get(epoch_nonce(namespace)) is None
