"""Redis with replicas loses its primary under load: no read is stale, and no caller gets an error.

Three servers and three Sentinels as in a stack. The control needs no replica for a write.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager

import pytest

from cache._sync.client import Client
from cache.errors import CacheUnavailable
from infra.docker.engine import docker
from infra.docker.redis_drain import drain
from infra.outputs import address_of
from infra.spec.redis_replication import SERVER_NAMES
from ops.cache.server import connected
from ops.errors import Exit, OpsError
from ops.servers.errors import ServerUnreachable
from ops.servers.monitored_redis import MonitoredRedis
from ops.servers.redis_primary import primary_url
from tests.conftest import Database
from tests.containers import frozen, wait_until
from tests.faults.network import cut_off
from tests.faults.redis_replicas.drill import Drill
from tests.integration.data_access import cache_settings
from tests.monitored import monitored
from tests.promises import promise
from tests.redis_group import Group
from tests.scale import scaled

Fault = Callable[[Group, int], AbstractContextManager[None]]


@contextmanager
def killed(group: Group, position: int) -> Iterator[None]:
    container = group.servers[position].container
    docker("kill", container)
    try:
        yield
    finally:
        docker("start", container)


def frozen_then_thawed(group: Group, position: int) -> AbstractContextManager[None]:
    return frozen(group.servers[position])


def isolated(group: Group, position: int) -> AbstractContextManager[None]:
    """Cut a server off from the others and from the Sentinels. Clients still reach it."""
    others = [address for n, address in enumerate(group.addresses) if n != position]
    return cut_off(group.servers[position].container, [*others, *group.sentinel_addresses])


@contextmanager
def drained(group: Group, position: int) -> Iterator[None]:
    """Fail over as `up` does before it replaces the primary's container."""
    assert drain(group.servers[0].container, SERVER_NAMES[position], group.maxmemory_bytes)
    yield


@contextmanager
def accepting_writes_alone(group: Group) -> Iterator[None]:
    """Let a primary accept writes without replicas."""

    def require(replicas: int) -> None:
        for n in range(len(group.servers)):
            with group.administrator(n) as client:
                client.config_set("min-replicas-to-write", replicas)

    require(0)
    try:
        yield
    finally:
        require(1)


@promise("no read is stale during a failover of Redis, and no caller gets an error")
@promise("never do two Redis servers accept writes at the same time")
@pytest.mark.parametrize("fault", [killed, frozen_then_thawed, isolated, drained])
@pytest.mark.timeout(scaled(600, 3600))
def test_a_failover_harms_no_caller(fault: Fault, group: Group, database: Database, namespace: str) -> None:
    for n in range(scaled(1, 20)):
        drill = Drill(group, database, f"{namespace}-{n}")
        try:
            drill.wait_for_use()
            with fault(group, drill.primary):
                drill.wait_for_failover()
                drill.replace_writer()
                drill.wait_for_use()
            # The former primary returns as a replica.
            group.primary()
            drill.wait_for_use()
        finally:
            outcome = drill.finish()
        assert outcome.errors == []
        assert outcome.stale == 0, outcome
        assert outcome.overlaps == 0, outcome


def test_the_commands_find_the_primary(group: Group, database: Database) -> None:
    primary = group.primary()
    others = [n for n in range(len(group.servers)) if n != primary]
    address = f"localhost:{group.servers[primary].port}"
    settings = cache_settings(group.redis_url("ops", [*others, primary]), "main")
    with connected(settings, None) as server:
        assert (server.address, server.has_replicas) == (address, True)
        assert server.redis.info("replication")["role"] == "master"
    assert address_of(primary_url(group.redis_url("app", [*others, primary]), "dev")) == address
    urls = {"redis_url": group.redis_url("monitor"), "ops_redis_url": group.redis_url("ops")}
    redis = MonitoredRedis(monitored(database, group.servers[0], **urls))
    try:
        assert redis.info("replication")["role"] == "master"
        roles = [answer["role"] for answer in redis.replication().values() if isinstance(answer, dict)]
        assert sorted(roles) == ["master", "slave", "slave"]
    finally:
        redis.close()


def test_the_client_counts_the_replicas_that_follow_the_primary(group: Group, namespace: str) -> None:
    replica = (group.primary() + 1) % len(group.servers)
    with closing(Client(cache_settings(group.redis_url("app"), namespace))) as client:
        client.open()

        def following() -> tuple[int, int] | None:
            try:
                return client.replicas()
            except CacheUnavailable:
                return None

        wait_until(lambda: following() == (2, 2), 60)
        with killed(group, replica):
            wait_until(lambda: following() == (1, 2), 60)
        wait_until(lambda: following() == (2, 2), 60)
    with closing(Client(cache_settings(group.servers[0].redis_url("app"), namespace))) as client:
        # The control: a single server has no replicas that could be missing.
        assert client.replicas() == (0, 0)
    group.primary()


def test_without_a_primary_a_command_names_the_reason_of_each_server(group: Group) -> None:
    primary = group.primary()
    others = [n for n in range(len(group.servers)) if n != primary]
    url = group.redis_url("ops", others)
    with pytest.raises(OpsError) as refused, connected(cache_settings(url, "main"), None):
        pass
    assert refused.value.exit_code == Exit.UNREACHABLE
    assert str(refused.value).count("read only replica") == len(others)
    with pytest.raises(ServerUnreachable) as missing:
        primary_url(url, "prod")
    assert str(missing.value).count("is a replica") == len(others)
    assert "`groundwork logs --stack prod`" in str(missing.value)
    assert "\n" not in str(refused.value) + str(missing.value)


@promise("no read is stale during a failover of Redis, and no caller gets an error", control=True)
@promise("never do two Redis servers accept writes at the same time", control=True)
def test_without_a_required_replica_two_servers_accept_writes_and_reads_are_stale(
    group: Group, database: Database, namespace: str
) -> None:
    with accepting_writes_alone(group):
        drill = Drill(group, database, namespace)
        try:
            drill.wait_for_use()
            with isolated(group, drill.primary):
                drill.wait_for_failover()
                drill.replace_writer()
                # The readers stay with the former primary.
                wait_until(lambda: drill.outcome.stale > 0, 180)
        finally:
            outcome = drill.finish()
    assert outcome.overlaps
    group.primary()
