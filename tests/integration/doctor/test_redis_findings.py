"""Each fault of Redis is caused on a real server and found by its check, which was ok before."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest
import redis

from ops.doctor.check_result import CheckStatus
from ops.servers.monitored_stack import MonitoredStack
from tests import containers
from tests.conftest import Database
from tests.containers import Server
from tests.integration.doctor.asking import Ask, ask
from tests.monitored import monitored
from tests.promises import promise

MB = 1024**2


@contextmanager
def client(server: Server, user: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(server.redis_url(user), driver_info=None, decode_responses=True) as found:
        yield found


@pytest.fixture
def own_redis(docker_engine: None, request: pytest.FixtureRequest) -> Iterator[Server]:
    """A Redis for one test, with the settings of its parameters."""
    with containers.redis_server(**request.param) as server:
        yield server


@pytest.fixture
def own_stack(database: Database, own_redis: Server) -> MonitoredStack:
    return monitored(database, own_redis)


def fill(server: Server, megabytes: int, largest: int = 20_000) -> int:
    """Write values of many sizes, up to `largest` bytes, as user app. Return their number."""
    count = megabytes * 2_000_000 // largest
    sizes = random.Random(1)
    with client(server, "app") as app, app.pipeline(transaction=False) as pipeline:
        for number in range(count):
            pipeline.set(f"gw:probe:{number}", "x" * sizes.randint(100, largest))
        pipeline.execute(raise_on_error=False)
    return count


def test_clients_near_the_limit_are_counted_by_user(asked: Ask, redis_server: Server) -> None:
    assert asked("redis-connections").status is CheckStatus.OK
    with ExitStack() as stack:
        for _ in range(5):
            stack.enter_context(client(redis_server, "app")).ping()
        found = asked("redis-connections", connections_warn=5 / 1000, connections_fail=0.9)
        assert found.status is CheckStatus.WARN
        assert "app: 5" in found.details


@pytest.mark.parametrize("own_redis", [{}], indirect=True)
def test_lookups_that_find_nothing_are_a_poor_hit_rate(own_redis: Server, own_stack: MonitoredStack) -> None:
    assert ask(own_stack, "redis-hit-rate").status is CheckStatus.OK
    with client(own_redis, "app") as app:
        app.set("gw:known", "1")
        app.mget(["gw:known"] * 400 + ["gw:unknown"] * 800)
        found = ask(own_stack, "redis-hit-rate", redis_lookups_judged=1000)
        assert found.status is CheckStatus.WARN
        assert found.text.startswith("33.3% of 1200")
        app.mget(["gw:known"] * 1000)
    assert ask(own_stack, "redis-hit-rate", redis_lookups_judged=1000).status is CheckStatus.OK


@pytest.mark.parametrize("own_redis", [{"maxmemory": 8 * MB, "eviction_policy": "noeviction"}], indirect=True)
def test_a_server_that_may_not_evict_and_is_full_fails(own_redis: Server, own_stack: MonitoredStack) -> None:
    assert ask(own_stack, "redis-memory").status is CheckStatus.OK
    fill(own_redis, 10)
    found = ask(own_stack, "redis-memory")
    assert found.status is CheckStatus.FAIL
    assert "8 of 8 MB in use, policy noeviction" in found.text
    # It rejects writes and evicts nothing.
    assert ask(own_stack, "evictions").status is CheckStatus.OK


@pytest.mark.parametrize("own_redis", [{"maxmemory": 8 * MB}], indirect=True)
def test_a_cache_that_is_too_small_evicts(own_redis: Server, own_stack: MonitoredStack) -> None:
    assert ask(own_stack, "evictions").status is CheckStatus.OK
    fill(own_redis, 10)
    found = ask(own_stack, "evictions")
    assert found.status is CheckStatus.WARN, found
    # A server that evicts may be full.
    assert ask(own_stack, "redis-memory").status is CheckStatus.OK


@pytest.mark.parametrize("own_redis", [{"maxmemory": 64 * MB}], indirect=True)
def test_memory_that_is_held_and_not_used_is_fragmentation(
    own_redis: Server, own_stack: MonitoredStack
) -> None:
    # Several values share a page, so that the allocator cannot return a page while one of them is left.
    count = fill(own_redis, 30, largest=1_000)
    assert ask(own_stack, "fragmentation").status is CheckStatus.OK
    with client(own_redis, "app") as app:
        for start in range(0, count, 1_000):
            app.delete(*(f"gw:probe:{n}" for n in range(start, start + 1_000) if n % 6))

    found = ask(own_stack, "fragmentation")
    assert found.status is CheckStatus.WARN, found


def test_a_directive_that_was_changed_is_drift(asked_ill: Ask, ill_redis: Server) -> None:
    changes = (
        ("maxmemory-policy", "noeviction", "allkeys-lfu"),
        ("maxclients", "500", "1000"),
        ("appendonly", "yes", "no"),
    )
    assert asked_ill("redis-settings").status is CheckStatus.OK
    with client(ill_redis, "administrator") as administrator:
        for directive, value, _ in changes:
            administrator.config_set(directive, value)
        found = asked_ill("redis-settings")
        for directive, _, usual in changes:
            administrator.config_set(directive, usual)
    assert found.status is CheckStatus.FAIL
    assert sorted(found.details) == sorted(
        f"{directive} is {value!r} and should be {usual!r}" for directive, value, usual in changes
    )


def test_a_user_too_many_is_drift(asked_ill: Ask) -> None:
    found = asked_ill("redis-users")
    assert found.status is CheckStatus.FAIL
    assert found.details == ("administrator is not in the specification",)


@promise("a changed parameter, role, grant or ACL rule is reported as drift")
def test_a_user_with_more_or_fewer_permissions_is_drift(asked_ill: Ask, ill_redis: Server) -> None:
    together = {
        "+flushall": "app may FLUSHALL",
        "+client|kill": "app may CLIENT KILL",
        "-get": "app may not GET",
        "~other:*": "app has ~other:*",
        "&*": "app has &*",
        "off": "app has off",
        "nopass": "app has nopass",
        "(+get ~secret:*)": "app has (~secret:*",
    }
    for changes in (together, {"+@all": "app may FLUSHALL"}):
        with client(ill_redis, "administrator") as administrator:
            administrator.execute_command("ACL", "SETUSER", "app", *changes)
            found = asked_ill("redis-users")
            # The file is unchanged, so this restores the rules.
            administrator.acl_load()
        assert found.status is CheckStatus.FAIL
        for rule, difference in changes.items():
            assert any(line.startswith(difference) for line in found.details), (rule, found.details)
    assert asked_ill("redis-users").details == ("administrator is not in the specification",)


def test_a_user_who_was_removed_is_drift(asked_ill: Ask, ill_redis: Server) -> None:
    with client(ill_redis, "administrator") as administrator:
        administrator.acl_deluser("app")
        found = asked_ill("redis-users")
        administrator.acl_load()
    assert "app is missing" in found.details
