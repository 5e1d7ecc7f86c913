"""Redis down, frozen, full or refusing: answers are correct in bounded time, and Redis is used again afterwards."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Thread
from typing import Any

import pytest
import redis
from msgspec.structs import replace

from cache.breaker import Breaker
from cache.keys import EntityKeys, FeedKeys, epoch_nonce
from db.models import ACTIVITY_SCHEMA, USER_SCHEMA, NewUser
from tests import containers
from tests.cases import in_case
from tests.conftest import Database
from tests.containers import QUIET, Server, frozen, wait_until
from tests.integration.data_access import SHIPPED_TIMEOUT, cache_settings, data_access, database_settings
from tests.integration.redis_calls import left_alone, redis_calls
from tests.promises import promise
from tests.scale import limit

# The promise is 150 ms more on the first call and 5 ms more while the breaker is open. Postgres needs up to 0.1 s.
FIRST_CALL_SECONDS = limit(0.25)
LATER_CALL_SECONDS = limit(0.1)
RECOVERY_SECONDS = limit(2.0)
# Long enough for several probes.
ILL_SECONDS = 3.2


@pytest.fixture(scope="module")
def sick_redis(docker_engine: None) -> Iterator[Server]:
    """A Redis for this module only, because the tests break it. It rejects writes when it is full."""
    with containers.redis_server(
        maxmemory=8 * 1024**2, eviction_policy="noeviction", administrator=True
    ) as server:
        yield server


@pytest.fixture
def open_over_sick(
    flavour: str, database: Database, sick_redis: Server, namespace: str
) -> Callable[..., Any]:
    def open_one(**changes: Any) -> Any:
        changes = {"timeout_seconds": SHIPPED_TIMEOUT} | changes
        cache = cache_settings(sick_redis.redis_url("app"), namespace, **changes)
        return data_access(flavour, database_settings(database.url("app")), cache)

    return open_one


@contextmanager
def full(server: Server) -> Iterator[None]:
    """Fill Redis up to maxmemory, so that with noeviction it rejects every SET."""
    with redis.Redis.from_url(server.redis_url("ops"), **QUIET) as ops:
        with pytest.raises(redis.exceptions.OutOfMemoryError):  # noqa: PT012 - which of them fails is open
            for n in range(10_000):
                ops.set(f"gw:ballast:{{{n}}}", b"x" * 100_000)
        try:
            yield
        finally:
            for keys in _batches(ops.scan_iter("gw:ballast:*", count=1000)):
                ops.unlink(*keys)


def _batches(keys: Any) -> Iterator[list[bytes]]:
    found = list(keys)
    for start in range(0, len(found), 100):
        yield found[start : start + 100]


def timed(call: Callable[[], Any]) -> tuple[Any, float]:
    started = time.monotonic()
    result = call()
    return result, time.monotonic() - started


@promise("reads are correct while Redis is slow, frozen, full, absent or refuses the login")
@pytest.mark.parametrize("ill", [frozen, full])
def test_reads_and_writes_stay_right_and_quick(open_over_sick: Any, sick_redis: Server, ill: Any) -> None:
    with open_over_sick() as data:
        user = data.users.get(data.users.add(NewUser(github_id=7, username="before")).id)
        with ill(sick_redis):
            updated, first = timed(lambda: data.users.update(replace(user, username="after")))
            read, second = timed(lambda: data.users.get(user.id))
            added, third = timed(lambda: data.users.add(NewUser(github_id=8, username="new")))
            # From here on Redis is not called if the breaker is open.
            updated = data.users.update(replace(updated, username="after that"))
            found, fourth = timed(lambda: data.users.get_many([user.id, added.id]))
        assert read.username == "after"
        assert found == [updated, added]
        assert first < FIRST_CALL_SECONDS
        assert max(second, third, fourth) < LATER_CALL_SECONDS

        # After recovery, entries from before the fault must not be served.
        wait_until(lambda: not data.cache.breaker.is_open, RECOVERY_SECONDS)
        assert data.users.get(user.id) == updated
        assert data.users.get(added.id) == added


def test_a_first_read_from_a_frozen_redis_is_bounded(open_over_sick: Any, sick_redis: Server) -> None:
    with open_over_sick() as data:
        user = data.users.get(data.users.add(NewUser(github_id=7, username="x")).id)
        with frozen(sick_redis):
            read, seconds = timed(lambda: data.users.get(user.id))
        assert read == user
        assert seconds < FIRST_CALL_SECONDS


def _read_from_frozen(data: Any, server: Server) -> None:
    """Read repeatedly, and check that no calls go to Redis.

    It does not write, because a failed invalidation opens the breaker too. This tests that a failed read opens it.
    """
    user = data.users.get(data.users.add(NewUser(github_id=7, username="x")).id)
    # A busy machine may have exceeded the time limit of the first calls.
    wait_until(lambda: not data.cache.breaker.is_open, RECOVERY_SECONDS)
    with frozen(server):
        # This read notices the fault.
        assert data.users.get(user.id) == user
        with left_alone():
            give_up_at = time.monotonic() + ILL_SECONDS
            while time.monotonic() < give_up_at:
                assert data.users.get(user.id) == user
                time.sleep(0.01)


@promise("a frozen Redis receives one probe a second and no other calls")
def test_a_frozen_redis_receives_one_probe_a_second_and_no_other_calls(
    open_over_sick: Any, sick_redis: Server
) -> None:
    with open_over_sick(near_entries=0) as data:
        probes_before, _ = redis_calls()
        _read_from_frozen(data, sick_redis)
        # There were probes, which are needed to notice the recovery.
        assert redis_calls()[0] - probes_before >= 2


@promise("a frozen Redis receives one probe a second and no other calls", control=True)
def test_without_a_breaker_a_frozen_redis_is_called_repeatedly(
    open_over_sick: Any, sick_redis: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The negative control of the breaker."""
    monkeypatch.setattr(Breaker, "trip", lambda _: False)
    with (
        open_over_sick(near_entries=0) as data,
        pytest.raises(AssertionError, match="times besides the probes"),
    ):
        _read_from_frozen(data, sick_redis)


def test_a_fast_prober_calls_a_frozen_redis_more_than_once_a_second(
    flavour: str, open_over_sick: Any, sick_redis: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The negative control of the probes' rate."""
    monkeypatch.setattr(f"cache._{flavour}.client._PROBE_SECONDS", 0.1)
    with open_over_sick(near_entries=0) as data, pytest.raises(AssertionError, match="Redis was probed"):
        _read_from_frozen(data, sick_redis)


def test_the_plain_client_hangs_on_a_frozen_redis(sick_redis: Server) -> None:
    """The negative control of the time limit."""
    client = redis.Redis.from_url(sick_redis.redis_url("app"), **QUIET)
    client.ping()
    with frozen(sick_redis):
        reader = Thread(target=_ping, args=[client], daemon=True)
        reader.start()
        # Longer than the promise of 150 ms, and shorter than the default timeout of redis-py.
        reader.join(1.5)
        hung = reader.is_alive()
    reader.join(10)
    assert hung


@promise("the data access opens while Redis is frozen or absent")
def test_opening_while_redis_is_frozen_neither_fails_nor_hangs(
    open_over_sick: Any, sick_redis: Server
) -> None:
    with frozen(sick_redis):
        started = time.monotonic()
        with open_over_sick() as data:
            user = data.users.add(NewUser(github_id=7, username="x"))
            assert data.users.get(user.id) == user
            assert time.monotonic() - started < 3 * FIRST_CALL_SECONDS


@promise("the data access opens while Redis is frozen or absent")
def test_a_missing_redis_costs_only_the_cache(flavour: str, database: Database) -> None:
    nobody = cache_settings("redis://app:x@localhost:1/0", "nobody")
    with data_access(flavour, database_settings(database.url("app")), nobody) as data:
        user = data.users.add(NewUser(github_id=7, username="x"))
        read, seconds = timed(lambda: data.users.get(user.id))
        assert read == user
        assert seconds < LATER_CALL_SECONDS


@promise("reads are correct while Redis is slow, frozen, full, absent or refuses the login")
@pytest.mark.parametrize("spoil", ["password", "authority"])
def test_a_server_that_refuses_or_is_not_trusted_costs_nothing_but_the_cache(
    flavour: str, database: Database, sick_redis: Server, redis_server: Server, namespace: str, spoil: str
) -> None:
    url = sick_redis.redis_url("app")
    if spoil == "password":
        url = url.replace(sick_redis.passwords["app"], "wrong")
    else:
        url = url.replace(str(sick_redis.ca_file), str(redis_server.ca_file))
    cache = cache_settings(url, namespace, timeout_seconds=SHIPPED_TIMEOUT)
    with data_access(flavour, database_settings(database.url("app")), cache) as data:
        user = data.users.add(NewUser(github_id=7, username="x"))
        assert data.users.get(user.id) == user
        wait_until(lambda: data.cache.breaker.is_open, 60)


def test_a_restart_is_survived(open_over_sick: Any, sick_redis: Server) -> None:
    with open_over_sick() as data:
        user = data.users.get(data.users.add(NewUser(github_id=7, username="x")).id)
        with redis.Redis.from_url(sick_redis.redis_url("ops"), **QUIET) as ops:
            # Close every connection as a restart does. Restarting the container would change its port.
            ops.execute_command("CLIENT", "KILL", "USER", "app")
        for _ in range(3):
            assert data.users.get(user.id) == user
        wait_until(lambda: not data.cache.breaker.is_open, RECOVERY_SECONDS)


@promise("a key of another type costs one call, and Redis is still used")
def test_keys_of_another_type_are_deleted_and_the_breaker_stays_closed(
    open_over_sick: Any, sick_redis: Server, namespace: str
) -> None:
    record, pages = (
        EntityKeys(namespace, "user", USER_SCHEMA),
        FeedKeys(namespace, "user_feed", ACTIVITY_SCHEMA),
    )
    with (
        open_over_sick(near_entries=0, timeout_seconds=2.0) as data,
        redis.Redis.from_url(sick_redis.redis_url("administrator"), **QUIET) as foreign,
    ):
        user = data.users.add(NewUser(github_id=7, username="before"))
        page = data.activities.feed(user.id)
        calls: list[tuple[Any, Callable[[], Any], Any]] = [
            (record.value, lambda: data.users.get(user.id), user),
            (record.value, lambda: data.users.get_many([user.id]), [user]),
            (record.lease, lambda: data.users.get(user.id), user),
            (record.value, lambda: data.users.cached.replace(user.id, user), None),
            (record.value, lambda: data.users.cached.drop([(user.id, None)]), True),
            (pages.generation, lambda: data.activities.feed(user.id), page),
            (lambda _: epoch_nonce(namespace), lambda: data.cache.invalidate_entity("user"), None),
        ]
        for number, (key_of, call, expected) in enumerate(calls):
            key = key_of(user.id)
            foreign.unlink(record.value(user.id))
            foreign.unlink(key)
            foreign.lpush(key, "x")
            with in_case(number, key):
                assert call() == expected
                assert foreign.type(key) != b"list"
                assert not data.cache.breaker.is_open
        # It is stored again.
        assert data.users.get(user.id) == user
        assert foreign.type(record.value(user.id)) == b"string"


def test_a_nonce_of_another_type_is_replaced_on_a_new_connection(
    open_over_sick: Any, sick_redis: Server, namespace: str
) -> None:
    with redis.Redis.from_url(sick_redis.redis_url("administrator"), **QUIET) as foreign:
        foreign.lpush(epoch_nonce(namespace), "x")
        with open_over_sick(near_entries=0, timeout_seconds=2.0) as data:
            data.cache.ping()
            assert not data.cache.breaker.is_open
        assert foreign.type(epoch_nonce(namespace)) == b"string"


def _ping(client: Any) -> None:
    try:
        client.ping()
    except redis.exceptions.RedisError:
        pass
