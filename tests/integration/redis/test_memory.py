"""Redis 7 under memory pressure, policy by policy: what is evicted, what is refused; and keys that expire."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from redis.exceptions import OutOfMemoryError

from infra.spec.redis import EVICTION_POLICIES
from tests import containers
from tests.containers import Server, wait_until
from tests.integration.redis.conftest import As, client_of

MAXMEMORY = 8 * 1024**2
VALUE = b"x" * 100_000
# Four times what fits.
KEYS = 4 * MAXMEMORY // len(VALUE)
ALLKEYS = [policy for policy in EVICTION_POLICIES if policy.startswith("allkeys-")]
VOLATILE = [policy for policy in EVICTION_POLICIES if policy.startswith("volatile-")]


@pytest.fixture(scope="module", params=EVICTION_POLICIES)
def policy(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def small_redis(docker_engine: None, policy: str) -> Iterator[Server]:
    with containers.redis_server(maxmemory=MAXMEMORY, eviction_policy=policy, memory="64m") as server:
        yield server


@pytest.fixture
def ops(small_redis: Server) -> Iterator[Any]:
    """An operator, before whom and after whom there is no key."""
    with client_of(small_redis, "ops") as client:
        yield client
        for key in list(client.scan_iter("gw:*", count=1000)):
            client.unlink(key)


def write_too_much(ops: Any, **options: Any) -> int:
    """How many of KEYS writes were accepted: four times of what fits is offered."""
    accepted = 0
    for n in range(KEYS):
        try:
            accepted += bool(ops.set(f"gw:pressure:{n}", VALUE, **options))
        except OutOfMemoryError:
            continue
    return accepted


def evicted(ops: Any) -> int:
    return int(ops.info("stats")["evicted_keys"])


def test_the_server_is_redis_7(as_user: As) -> None:
    assert as_user("ops").info("server")["redis_version"].startswith("7.")


def test_maxmemory_and_policy_are_in_force(ops: Any, policy: str) -> None:
    assert ops.config_get("maxmemory*policy") == {"maxmemory-policy": policy}
    assert ops.config_get("maxmemory")["maxmemory"] == str(MAXMEMORY)
    memory = ops.info("memory")
    assert (memory["maxmemory"], memory["maxmemory_policy"]) == (MAXMEMORY, policy)


def test_under_pressure_keys_with_a_ttl_give_way_but_to_noeviction(ops: Any, policy: str) -> None:
    before = evicted(ops)
    accepted = write_too_much(ops, ex=600)
    if policy == "noeviction":
        assert 0 < accepted < KEYS
        assert evicted(ops) == before
    else:
        assert accepted == KEYS
        assert evicted(ops) > before
    assert ops.info("memory")["used_memory"] <= MAXMEMORY * 1.1


def test_under_pressure_keys_without_a_ttl_give_way_to_allkeys_only(ops: Any, policy: str) -> None:
    before = evicted(ops)
    accepted = write_too_much(ops)
    if policy in ALLKEYS:
        assert accepted == KEYS
        assert evicted(ops) > before
    else:
        # The negative control: without a victim a write is refused, and nothing written is lost.
        assert 0 < accepted < KEYS
        assert evicted(ops) == before
        assert ops.get("gw:pressure:0") == VALUE


@pytest.mark.parametrize("policy", ["noeviction", *VOLATILE], indirect=True, scope="module")
def test_where_writes_are_refused_reads_and_deletes_go_on(ops: Any) -> None:
    write_too_much(ops)
    with pytest.raises(OutOfMemoryError):
        ops.set("gw:pressure:more", VALUE)
    assert ops.get("gw:pressure:1") == VALUE
    for n in range(KEYS):
        ops.delete(f"gw:pressure:{n}")
    assert ops.set("gw:pressure:more", VALUE)


def test_a_key_expires_by_its_ttl_and_no_earlier(as_user: As, namespace: str) -> None:
    app = as_user("app")
    begun = time.monotonic()
    app.set(f"gw:{namespace}:short", "1", px=700)
    assert 0 < app.pttl(f"gw:{namespace}:short") <= 700
    while app.exists(f"gw:{namespace}:short"):
        assert time.monotonic() - begun < 5
        time.sleep(0.02)
    assert time.monotonic() - begun >= 0.65


def test_a_key_with_a_longer_ttl_or_none_outlives_it(as_user: As, namespace: str) -> None:
    app = as_user("app")
    app.set(f"gw:{namespace}:short", "1", px=200)
    app.set(f"gw:{namespace}:long", "1", ex=600)
    app.set(f"gw:{namespace}:for ever", "1")
    wait_until(lambda: not app.exists(f"gw:{namespace}:short"), 5)
    assert app.exists(f"gw:{namespace}:long", f"gw:{namespace}:for ever") == 2
    assert app.pttl(f"gw:{namespace}:for ever") == -1


def test_expired_keys_are_removed_although_nobody_asks_for_them(as_user: As, namespace: str) -> None:
    app, monitor = as_user("app"), as_user("monitor")
    before = int(monitor.info("stats")["expired_keys"])
    for n in range(20):
        app.set(f"gw:{namespace}:{n}", "1", px=50)
    wait_until(lambda: int(monitor.info("stats")["expired_keys"]) >= before + 20, 10)


def test_a_ttl_given_later_holds_too(as_user: As, namespace: str) -> None:
    app = as_user("app")
    app.set(f"gw:{namespace}:x", "1")
    assert app.expire(f"gw:{namespace}:x", 1)
    wait_until(lambda: not app.exists(f"gw:{namespace}:x"), 5)
