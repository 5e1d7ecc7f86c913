"""The passwords that Redis servers and Sentinels use among themselves are rotated while they run."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from infra.docker.engine import DockerError, docker
from infra.docker.redis_members import redis_members
from infra.spec import redis, redis_acl
from infra.spec.redis_replication import SENTINEL_NAMES, SERVER_NAMES
from infra.spec.rotation import REDIS_SERVER_ROLES
from ops.errors import Exit, OpsError
from ops.rotation.logins import try_out
from tests.containers import wait_until
from tests.promises import promise
from tests.redis_group import Group
from tests.scale import IS_FULL


def _stack(group: Group) -> Any:
    """Return the group as the stack that a rotation tests."""
    checkout = SimpleNamespace(name=lambda _, service: f"{group.prefix}{service}")
    return SimpleNamespace(checkout=checkout, name="unit", urls=lambda: ({}, {}))


def _links(group: Group) -> list[tuple[str, int]]:
    """Return how often each server accepted a replica's first contact, full or partial, and whether its link is up."""
    found = []
    for n in range(len(group.servers)):
        with group.administrator(n) as client:
            info = client.info("replication") | client.info("stats")
        found.append((info.get("master_link_status", ""), info["sync_full"] + info["sync_partial_ok"]))
    return found


def _reconnect(group: Group) -> None:
    """End the connections of all replicas, so that they log in again."""
    with group.administrator(group.primary()) as client:
        client.execute_command("CLIENT", "KILL", "TYPE", "replica")


@promise("the passwords that Redis servers use among themselves are rotated without an interruption")
def test_every_step_of_a_rotation_keeps_the_links(group: Group) -> None:
    """With SCALE=full, a failover follows the rotation."""
    primary = group.primary()
    old = {user: group.servers[0].passwords[user] for user in REDIS_SERVER_ROLES}
    new = {user: f"next-{password}" for user, password in old.items()}
    both = {user: (old[user], new[user]) for user in old}
    before = _links(group)
    steps = (
        (old, both),
        (new, both),
        (new, {user: (password,) for user, password in new.items()}),
    )
    for in_use, accepted in steps:
        group.use_passwords(in_use, accepted)
        try_out(_stack(group), REDIS_SERVER_ROLES)
        assert _links(group) == before
    assert group.primary() == primary
    for user, password in old.items():
        with pytest.raises(DockerError, match="WRONGPASS"):
            _log_in(group, user, password)
    _reconnect(group)
    group.primary()
    if not IS_FULL:
        return
    docker("kill", group.servers[primary].container)
    try:
        wait_until(lambda: any(group.accepts_writes(n) for n in range(3) if n != primary), 120)
    finally:
        docker("start", group.servers[primary].container)
    group.primary()


@promise(
    "the passwords that Redis servers use among themselves are rotated without an interruption", control=True
)
def test_a_password_that_the_others_do_not_accept_yet_is_noticed_before_the_old_one_is_removed(
    group: Group,
) -> None:
    members = redis_members(group.servers[0].container)
    replica = group.servers[0].passwords["replica"]
    accepted = f"ACL SETUSER replica resetpass >{'0' * 43}"
    primary = SERVER_NAMES[group.primary()]
    assert members[primary].ask(redis_acl.ROTATOR, accepted) == "OK"
    try:
        with pytest.raises(
            OpsError, match=rf"role replica cannot log in to {primary} .* WRONGPASS"
        ) as refused:
            try_out(_stack(group), ["replica"])
        assert refused.value.exit_code == Exit.ERROR
        assert replica not in str(refused.value)
        _reconnect_and_see_no_replica(group, SERVER_NAMES.index(primary))
    finally:
        docker("exec", members[primary].container, *redis.RELOAD)
    group.primary()


def _reconnect_and_see_no_replica(group: Group, primary: int) -> None:
    _reconnect(group)

    def is_alone() -> bool:
        with group.administrator(primary) as client:
            return bool(client.info("replication")["connected_slaves"] == 0)

    wait_until(is_alone, 60)


def _log_in(group: Group, user: str, password: str) -> None:
    """Log in with a password, from inside a server or Sentinel that knows the user."""
    container = f"{group.prefix}{(SENTINEL_NAMES if user == 'peer' else SERVER_NAMES)[0]}"
    port = 26379 if user == "peer" else 6379
    script = f"cd /etc/groundwork; echo 'AUTH {user} {password}' | redis-cli -p {port} --tls --cacert ca.crt"
    if "OK" not in (said := docker("exec", container, "sh", "-c", script)):
        raise DockerError(said.strip())
