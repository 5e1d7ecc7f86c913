"""A Pulumi resource that prepares a Redis server with replicas for the replacement of its container."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import pulumi
from pulumi import dynamic

from infra.docker.engine import DockerError
from infra.docker.redis_members import (
    RedisMember,
    ask_for_failover,
    is_linked,
    primary_of,
    redis_members,
    replication,
)
from infra.dynamic import Provider
from infra.spec import redis_acl
from infra.spec.redis_replication import SENTINEL_NAMES, SERVER_NAMES

# A replica copies the data within seconds. After this time `up` continues, because Redis contains only a cache, and a
# server that does not start may need this change.
_WAIT_SECONDS = 60.0
_POLL_SECONDS = 1.0


def drain(first_container: str, name: str, maxmemory_bytes: int) -> bool:
    """Prepare a server for its replacement, and return whether the other servers are ready.

    1. Reduce the data of all servers to `maxmemory_bytes`, because a replica with less memory could not load it.
    2. Wait until the other running servers are the primary and its replicas.
    3. If this server is the primary, fail over to one of them.

    There is nothing to do for a server that does not run, or that no other one can replace.
    """
    deadline = time.monotonic() + _WAIT_SECONDS
    while True:
        members = redis_members(first_container)
        others = [each for each in SERVER_NAMES if each != name and _runs(members, each)]
        if not (_runs(members, name) and others and any(_runs(members, each) for each in SENTINEL_NAMES)):
            return False
        reports = replication(members)
        primary = primary_of(reports)
        is_complete = all(each == primary or is_linked(reports.get(each, {})) for each in others)
        if primary and is_complete and _fits(members, primary, maxmemory_bytes):
            if primary != name:
                return True
            try:
                ask_for_failover(members)
            except DockerError:
                return False
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_SECONDS)


def _runs(members: Mapping[str, RedisMember], name: str) -> bool:
    return name in members and members[name].is_running


def _fits(members: Mapping[str, RedisMember], primary: str, maxmemory_bytes: int) -> bool:
    """Reduce the limit of each server that has a higher one. Return whether the primary's data is below the limit."""
    try:
        for name in SERVER_NAMES:
            if _runs(members, name) and int(members[name].info("memory")["maxmemory"]) > maxmemory_bytes:
                members[name].ask(redis_acl.ROTATOR, f"CONFIG SET maxmemory {maxmemory_bytes}")
        memory = members[primary].info("memory")
    except DockerError:
        # A server has just stopped answering.
        return False
    return int(memory["used_memory"]) - int(memory["mem_not_counted_for_evict"]) <= maxmemory_bytes


class RedisDrainProvider(Provider):
    """Drains a server when its container is going to be replaced."""

    def create(self, props: dict[str, Any]) -> dynamic.CreateResult:
        self._drain(props)
        return dynamic.CreateResult(id_=f"{props['name']}/drain", outs=dict(props))

    def update(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> dynamic.UpdateResult:
        self._drain(_news)
        return dynamic.UpdateResult(outs=dict(_news))

    @staticmethod
    def _drain(props: dict[str, Any]) -> None:
        drain(props["first_container"], props["name"], int(props["maxmemory_bytes"]))


class RedisDrain(dynamic.Resource):
    """The preparation of a server's replacement. `digest` changes when the container is going to be replaced."""

    def __init__(
        self,
        name: str,
        *,
        first_container: str,
        maxmemory_bytes: int,
        digest: pulumi.Input[str],
        opts: pulumi.ResourceOptions,
    ) -> None:
        props = {
            "first_container": first_container,
            "name": name,
            "maxmemory_bytes": maxmemory_bytes,
            "digest": digest,
        }
        super().__init__(RedisDrainProvider(), f"{name}-drain", props, opts)
