"""A stack whose Redis gets replicas, loses its primary, and is one server again.

Each test continues from the previous one.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from infra.docker import ownership
from infra.docker.engine import docker, inspect
from infra.docker.redis_members import redis_members, sentinels
from infra.spec import redis_acl
from infra.spec.redis_replication import GROUP, SENTINEL_NAMES, SERVER_NAMES
from tests.containers import wait_until
from tests.infra.checkout import CheckoutCopy
from tests.infra.redis_replicas import environment, is_ready, primary_of
from tests.promises import promise
from tests.scale import IS_FULL

pytestmark = pytest.mark.skipif(not IS_FULL, reason="takes eight minutes: SCALE=full runs it")
# A busy machine: the failover takes 9 s.
_WAIT_SECONDS = 180.0


@pytest.fixture(scope="module")
def replicated(checkout: CheckoutCopy) -> CheckoutCopy:
    """A stack that had one Redis, and got replicas."""
    checkout.settings(backups=False)
    checkout.succeed("up")
    checkout.settings(backups=False, redisReplicas=2)
    checkout.succeed("up")
    return checkout


def _resources(checkout: CheckoutCopy) -> set[tuple[str, str, str]]:
    return {(each.kind, each.name, each.id) for each in ownership.resources(checkout.identity, "dev")}


def _replicas(checkout: CheckoutCopy) -> dict[str, Any]:
    """Return doctor's result about the replicas."""
    checks = json.loads(checkout.run("doctor", "--json").stdout)["checks"]
    (found,) = (check for check in checks if check["name"] == "redis-replicas")
    return dict(found)


@promise("replicas of Redis are turned on and off without a new stack")
def test_the_stack_has_all_servers_and_is_well(replicated: CheckoutCopy) -> None:
    assert {row["service"] for row in json.loads(replicated.succeed("status", "--json"))} >= {
        *SERVER_NAMES,
        *SENTINEL_NAMES,
    }
    assert _replicas(replicated)["status"] == "ok"
    assert is_ready(replicated)


def test_an_up_of_an_unchanged_stack_changes_nothing(replicated: CheckoutCopy) -> None:
    before = _resources(replicated)
    assert "unchanged" in replicated.succeed("up")
    assert _resources(replicated) == before


@promise("the access service follows a failover of Redis without a restart")
def test_the_access_service_follows_a_failover(replicated: CheckoutCopy) -> None:
    access = replicated.identity.name("dev", "access")
    started = inspect("container", access)[0]["State"]["StartedAt"]
    primary = primary_of(replicated)
    docker("kill", primary)
    wait_until(lambda: "REDIS_PRIMARY_URL" in environment(replicated), _WAIT_SECONDS)
    assert primary_of(replicated) != primary
    wait_until(lambda: is_ready(replicated), _WAIT_SECONDS)
    assert _replicas(replicated)["status"] == "warn"
    assert replicated.run("cache", "stats").returncode == 0
    docker("start", primary)
    wait_until(lambda: _replicas(replicated)["status"] == "ok", _WAIT_SECONDS)
    assert primary_of(replicated) != primary
    assert inspect("container", access)[0]["State"]["StartedAt"] == started


def _containers(checkout: CheckoutCopy, names: tuple[str, ...]) -> list[str]:
    return [inspect("container", checkout.identity.name("dev", name))[0]["Id"] for name in names]


def _failovers(checkout: CheckoutCopy) -> int:
    """Return how many failovers there have been, as the Sentinels count them."""
    members = redis_members(checkout.identity.name("dev", "redis"))
    words = next(sentinels(members)).ask(redis_acl.MONITOR, f"SENTINEL MASTER {GROUP}").splitlines()
    return int(words[words.index("config-epoch") + 1])


@promise("`up` replaces the servers and Sentinels of Redis one after the other, and the primary last")
def test_a_change_replaces_all_servers_with_one_failover(replicated: CheckoutCopy) -> None:
    primary, servers, failovers = (
        primary_of(replicated),
        _containers(replicated, SERVER_NAMES),
        _failovers(replicated),
    )
    replicated.settings(backups=False, redisReplicas=2, redisMemory="320MB")
    replicated.succeed("up")
    assert not set(servers) & set(_containers(replicated, SERVER_NAMES))
    assert primary_of(replicated) != primary
    assert _failovers(replicated) == failovers + 1
    assert _replicas(replicated)["status"] == "ok"


@promise("the passwords that Redis servers use among themselves are rotated without an interruption")
def test_the_passwords_among_servers_are_rotated(replicated: CheckoutCopy) -> None:
    servers, sentinels = (_containers(replicated, names) for names in (SERVER_NAMES, SENTINEL_NAMES))
    failovers = _failovers(replicated)
    replicated.succeed("rotate", "passwords", "replica", "sentinel", "peer", "--grace", "0", "--yes")
    assert _containers(replicated, SERVER_NAMES) == servers
    assert not set(sentinels) & set(_containers(replicated, SENTINEL_NAMES))
    assert _failovers(replicated) == failovers
    assert _replicas(replicated)["status"] == "ok"


@promise("a switchover of Redis moves the primary once, to the named server")
def test_the_primary_moves_to_the_named_server(replicated: CheckoutCopy) -> None:
    names = [name for name in SERVER_NAMES if replicated.identity.name("dev", name) != primary_of(replicated)]
    replicated.succeed("cluster", "switchover", "--service", "redis", "--to", names[-1], "--yes")
    assert primary_of(replicated) == replicated.identity.name("dev", names[-1])
    assert "primary" in replicated.succeed("cluster", "status", "--service", "redis")


@promise("replicas of Redis are turned on and off without a new stack")
def test_without_replicas_there_is_one_server_again(replicated: CheckoutCopy) -> None:
    volume = replicated.identity.name("dev", "redis-data")
    created = inspect("volume", volume)[0]["CreatedAt"]
    replicated.settings(backups=False)
    replicated.succeed("up")
    others = [replicated.identity.name("dev", name) for name in (*SERVER_NAMES[1:], *SENTINEL_NAMES)]
    assert not [name for name in replicated.leftovers() if name.startswith(tuple(others))]
    assert inspect("volume", volume)[0]["CreatedAt"] == created
    assert _replicas(replicated)["status"] == "skipped"
    assert is_ready(replicated)
    # The first server's earlier role does not come back.
    replicated.settings(backups=False, redisReplicas=2)
    replicated.succeed("up")
    assert _replicas(replicated)["status"] == "ok"
