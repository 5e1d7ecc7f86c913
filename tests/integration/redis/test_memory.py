"""Redis 7 under memory pressure, for each eviction policy, and the expiry of keys."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from redis.exceptions import OutOfMemoryError, RedisError

from cache.entry import MOST_BYTES
from infra.spec.redis import EVICTION_POLICIES, KEPT_OF_CLIENTS
from infra.spec.redis_acl import LOCAL_USERS
from tests import containers
from tests.cases import in_case
from tests.containers import Server, wait_until
from tests.integration.redis.conftest import As, client_of
from tests.promises import promise

MAXMEMORY = 8 * 1024**2
VALUE = b"x" * 200_000
# Twice as many as fit.
KEYS = 2 * MAXMEMORY // len(VALUE)
# Not the default.
STARTED_WITH = "volatile-ttl"
ALLKEYS = [policy for policy in EVICTION_POLICIES if policy.startswith("allkeys-")]
VOLATILE = [policy for policy in EVICTION_POLICIES if policy.startswith("volatile-")]


@pytest.fixture(scope="module")
def small_redis(docker_engine: None) -> Iterator[Server]:
    with containers.redis_server(
        maxmemory=MAXMEMORY, eviction_policy=STARTED_WITH, memory="64m", administrator=True
    ) as server:
        yield server


@pytest.fixture(params=EVICTION_POLICIES)
def policy(request: pytest.FixtureRequest, small_redis: Server) -> Iterator[str]:
    """Each policy, in a server that was started with another one, because a server takes seconds to start."""
    with client_of(small_redis, "administrator") as administrator:
        administrator.config_set("maxmemory-policy", request.param)
        yield request.param
        administrator.config_set("maxmemory-policy", STARTED_WITH)


@pytest.fixture
def ops(small_redis: Server, policy: str) -> Iterator[Any]:
    """A client as user ops. All keys are deleted afterwards."""
    with client_of(small_redis, "ops") as client:
        yield client
        for key in list(client.scan_iter("gw:*", count=1000)):
            client.unlink(key)


def write_too_much(ops: Any, **options: Any) -> int:
    """Write KEYS keys, twice as many as fit, and return how many writes were accepted."""
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


@promise("`redisEvictionPolicy` and `redisMaxmemory` are in force")
def test_maxmemory_and_policy_are_in_force(small_redis: Server) -> None:
    """The configuration file of every policy is tested without a server."""
    with client_of(small_redis, "ops") as ops:
        assert ops.config_get("maxmemory*policy") == {"maxmemory-policy": STARTED_WITH}
        assert ops.config_get("maxmemory")["maxmemory"] == str(MAXMEMORY)
        memory = ops.info("memory")
        assert (memory["maxmemory"], memory["maxmemory_policy"]) == (MAXMEMORY, STARTED_WITH)


def test_under_pressure_keys_with_a_ttl_are_evicted_except_with_noeviction(ops: Any, policy: str) -> None:
    before = evicted(ops)
    accepted = write_too_much(ops, ex=600)
    if policy == "noeviction":
        assert 0 < accepted < KEYS
        assert evicted(ops) == before
    else:
        assert accepted == KEYS
        assert evicted(ops) > before
    assert ops.info("memory")["used_memory"] <= MAXMEMORY * 1.1


def test_under_pressure_keys_without_a_ttl_are_evicted_only_with_allkeys(ops: Any, policy: str) -> None:
    before = evicted(ops)
    accepted = write_too_much(ops)
    if policy in ALLKEYS:
        assert accepted == KEYS
        assert evicted(ops) > before
    else:
        # The negative control: if no key can be evicted, writes are rejected and nothing is lost.
        assert 0 < accepted < KEYS
        assert evicted(ops) == before
        assert ops.get("gw:pressure:0") == VALUE


@pytest.mark.parametrize("policy", ["noeviction", *VOLATILE], indirect=True)
def test_reads_and_deletes_work_while_writes_are_refused(ops: Any) -> None:
    write_too_much(ops)
    with pytest.raises(OutOfMemoryError):
        ops.set("gw:pressure:more", VALUE)
    assert ops.get("gw:pressure:1") == VALUE
    for n in range(KEYS):
        ops.delete(f"gw:pressure:{n}")
    assert ops.set("gw:pressure:more", VALUE)


def evicted_by_large_buffers(server: Server, user: str, ops: Any) -> int:
    """Occupy buffers with an incomplete request, and with answers that are not read. Return what was evicted."""
    for key in range(10):
        ops.set(f"gw:kept:{key}", VALUE)
    before = evicted(ops)
    incomplete = b"*2\r\n$4\r\nPING\r\n$%d\r\n" % (3 * MAXMEMORY) + b"x" * MAXMEMORY
    unread = (b"*2\r\n$4\r\nPING\r\n$100000\r\n" + b"x" * 100_000 + b"\r\n") * (2 * MAXMEMORY // 100_000)
    with client_of(server, "administrator") as administrator:
        # With its own limit, the server would refuse the incomplete request at once.
        administrator.config_set("proto-max-bulk-len", 512 * 1024**2)
    for request in (incomplete, unread):
        with client_of(server, user) as client:
            connected = client.connection_pool.get_connection()._sock
            connected.settimeout(2)
            # The server closes the connection, or waits until its answers are read.
            with suppress(OSError):
                connected.sendall(request)
            ops.get("gw:kept:0")
    with client_of(server, "administrator") as administrator:
        administrator.config_set("proto-max-bulk-len", int(KEPT_OF_CLIENTS["proto-max-bulk-len"]))
    return evicted(ops) - before


@promise("a Redis user cannot evict entries with its requests and unread answers alone")
@pytest.mark.parametrize("policy", ["allkeys-lfu"], indirect=True)
def test_large_buffers_of_a_client_evict_nothing(small_redis: Server, ops: Any) -> None:
    for user in LOCAL_USERS:
        with in_case(user.name):
            assert evicted_by_large_buffers(small_redis, user.name, ops) == 0
    assert int(ops.info("stats")["evicted_clients"]) >= len(LOCAL_USERS)


@promise("a Redis user cannot evict entries with its requests and unread answers alone", control=True)
@pytest.mark.parametrize("policy", ["allkeys-lfu"], indirect=True)
def test_without_the_limit_of_buffers_monitor_evicts_entries(small_redis: Server, ops: Any) -> None:
    with client_of(small_redis, "administrator") as administrator:
        configured = administrator.config_get("maxmemory-clients")["maxmemory-clients"]
        administrator.config_set("maxmemory-clients", 0)
        try:
            assert evicted_by_large_buffers(small_redis, "monitor", ops) > 0
        finally:
            administrator.config_set("maxmemory-clients", configured)


def used(ops: Any) -> int:
    return int(ops.info("memory")["used_memory"])


def fail_to_log_in(server: Server) -> None:
    """Fail to log in as users with long names."""
    with client_of(server, "monitor") as client:
        for number in range(4):
            with suppress(RedisError):
                client.execute_command("AUTH", str(number) + "x" * 1024**2, "x")


@promise("a Redis user cannot evict entries with its requests and unread answers alone")
@pytest.mark.parametrize("policy", ["allkeys-lfu"], indirect=True)
def test_redis_keeps_nothing_of_a_failed_login(small_redis: Server, ops: Any) -> None:
    before = used(ops)
    fail_to_log_in(small_redis)
    wait_until(lambda: used(ops) < before + 1024**2, 60)
    # The control: the names would stay in the ACL log.
    with client_of(small_redis, "administrator") as administrator:
        administrator.config_set("acllog-max-len", 128)
        try:
            fail_to_log_in(small_redis)
            assert used(ops) > before + 2 * 1024**2
        finally:
            administrator.config_set("acllog-max-len", 0)
            administrator.execute_command("ACL LOG RESET")


@pytest.mark.parametrize("policy", ["allkeys-lfu"], indirect=True)
def test_a_longer_name_or_value_than_any_entry_is_refused(small_redis: Server, ops: Any) -> None:
    for command in (("HELLO", "2", "SETNAME"), ("SET", "gw:too-large")):
        with in_case(command), client_of(small_redis, "ops") as client:
            with pytest.raises((RedisError, OSError)):
                client.execute_command(*command, b"x" * (2 * 1024**2 + 1))


@pytest.mark.parametrize("policy", ["allkeys-lfu"], indirect=True)
def test_the_largest_entry_fits_into_the_buffers_of_a_small_server(small_redis: Server, ops: Any) -> None:
    """An entry is at most MOST_BYTES and some metadata."""
    entry = b"x" * (MOST_BYTES + 1000)
    before = int(ops.info("stats")["evicted_clients"])
    for _ in range(3):
        assert ops.set("gw:largest", entry)
        assert ops.get("gw:largest") == entry
    assert int(ops.info("stats")["evicted_clients"]) == before


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
    wait_until(lambda: not app.exists(f"gw:{namespace}:short"), 60)
    assert app.exists(f"gw:{namespace}:long", f"gw:{namespace}:for ever") == 2
    assert app.pttl(f"gw:{namespace}:for ever") == -1


def test_expired_keys_are_removed_without_being_read(as_user: As, namespace: str) -> None:
    app, monitor = as_user("app"), as_user("monitor")
    before = int(monitor.info("stats")["expired_keys"])
    for n in range(20):
        app.set(f"gw:{namespace}:{n}", "1", px=50)
    wait_until(lambda: int(monitor.info("stats")["expired_keys"]) >= before + 20, 60)


def test_a_ttl_set_later_is_effective_too(as_user: As, namespace: str) -> None:
    app = as_user("app")
    app.set(f"gw:{namespace}:x", "1")
    assert app.expire(f"gw:{namespace}:x", 1)
    wait_until(lambda: not app.exists(f"gw:{namespace}:x"), 60)
