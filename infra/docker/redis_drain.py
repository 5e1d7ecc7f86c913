"""A Pulumi resource that prepares a Redis server for the replacement of its container."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import pulumi
from pulumi import dynamic

from infra.docker.engine import DockerError
from infra.docker.redis_members import (
    RedisMember,
    ask_for_failover,
    existing_members,
    is_linked,
    primary_of,
    redis_members,
    replication,
)
from infra.dynamic import Provider
from infra.settings.declaration import full
from infra.spec import redis_acl
from infra.spec.errors import SettingError
from infra.spec.quantity import format_mb
from infra.spec.redis_replication import SENTINEL_NAMES, SERVER_NAMES

# A replica copies the data within seconds. After this time `up` continues, because Redis contains only a cache, and a
# server that does not start may need this change.
_WAIT_SECONDS = 60.0
# The time for loading the data, and for writing the reduced data to the disk.
_REWRITE_SECONDS = 600.0
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
                # A refusal may end: a Sentinel sees a new replica only after a while.
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
    return _data_bytes(memory) <= maxmemory_bytes


def shrink(
    first_container: str, maxmemory_bytes: int, eviction_policy: str, *, was_more: bool = False
) -> None:
    """Reduce the data of the first server to a lower limit, if it runs, before its replacement loads the data.

    Redis evicts nothing while it loads, so a server with less memory would be killed at each start. `was_more` is
    whether the last complete `up` had a higher limit. Raises SettingError if the data do not fit. The servers then have
    their former limit and policy again.
    """
    servers = [each for each in existing_members(first_container).values() if each.name in SERVER_NAMES]
    first = next((each for each in servers if each.name == SERVER_NAMES[0] and each.is_running), None)
    if first is None:
        return
    try:
        former = first.info("memory")
    except DockerError:
        # A server that does not answer may need this change.
        return
    if int(former["maxmemory"]) <= maxmemory_bytes:
        if was_more:
            # A killed `up` has set the limit, and may not have rewritten the AOF.
            rewrite_aof(first)
        return
    size = _data_of(first)
    evicts = eviction_policy != "noeviction"
    deadline = time.monotonic() + (_WAIT_SECONDS if evicts else 0)
    try:
        if evicts or size <= maxmemory_bytes:
            _limit(servers, maxmemory_bytes, eviction_policy)
        while size > maxmemory_bytes:
            if time.monotonic() > deadline:
                raise SettingError(
                    full("redisMaxmemory"),
                    f"Redis holds {format_mb(size)}, and redisEvictionPolicy {eviction_policy} does not evict enough to"
                    f" reach {format_mb(maxmemory_bytes)}",
                    f"raise {full('redisMaxmemory')}, delete keys, or set {full('redisEvictionPolicy')} to allkeys-lfu",
                )
            time.sleep(_POLL_SECONDS)
            size = _data_of(first)
        rewrite_aof(first)
    except BaseException:
        _limit(servers, int(former["maxmemory"]), former["maxmemory_policy"])
        raise


def rewrite_aof(server: RedisMember) -> None:
    """Rewrite a server's AOF, if it has one: until then, loading it needs the memory of the evicted data too.

    Raises DockerError if the server does not answer, or cannot rewrite it.
    """
    deadline = time.monotonic() + _REWRITE_SECONDS
    is_begun = False
    while True:
        info = server.info("persistence")
        if info["aof_enabled"] != "1":
            return
        if info["aof_rewrite_in_progress"] == info["aof_rewrite_scheduled"] == "0":
            if is_begun and info["aof_last_bgrewrite_status"] == "ok":
                return
            if is_begun:
                raise DockerError(
                    f"{server.container} cannot rewrite its AOF; see `docker logs {server.container}` for the reason"
                )
            # Only rotator can be given a command without a restart. The new server does not have this permission.
            server.ask(redis_acl.ROTATOR, f"ACL SETUSER {redis_acl.ROTATOR.name} +bgrewriteaof")
            is_begun = server.ask(redis_acl.ROTATOR, "BGREWRITEAOF").startswith("Background")
        if time.monotonic() > deadline:
            raise DockerError(
                f"{server.container} has not rewritten its AOF within {_REWRITE_SECONDS:.0f} s;"
                f" see `docker logs {server.container}`, and run the same command again"
            )
        time.sleep(_POLL_SECONDS)


def _data_of(server: RedisMember) -> int:
    """Return the bytes of a server's data, when it has loaded them. Raises DockerError if it does not end."""
    deadline = time.monotonic() + _REWRITE_SECONDS
    while True:
        with suppress(DockerError):
            info = server.info("memory persistence")
            if info["loading"] == "0":
                return _data_bytes(info)
        if time.monotonic() > deadline:
            raise DockerError(
                f"{server.container} has not loaded its data within {_REWRITE_SECONDS:.0f} s;"
                f" see `docker logs {server.container}`, and run the same command again"
            )
        time.sleep(_POLL_SECONDS)


def _limit(servers: Sequence[RedisMember], maxmemory_bytes: int, eviction_policy: str) -> None:
    for server in servers:
        with suppress(DockerError):
            server.ask(
                redis_acl.ROTATOR,
                f"CONFIG SET maxmemory {maxmemory_bytes} maxmemory-policy {eviction_policy}",
            )


def _data_bytes(memory: Mapping[str, str]) -> int:
    return int(memory["used_memory"]) - int(memory["mem_not_counted_for_evict"])


class RedisDrainProvider(Provider):
    """Drains a server when its container is going to be replaced.

    Without replicas, or to turn them on or off, only the first server's data is reduced.
    """

    def create(self, props: dict[str, Any]) -> dynamic.CreateResult:
        self._drain(props)
        return dynamic.CreateResult(id_=f"{props['name']}/drain", outs=dict(props))

    def update(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> dynamic.UpdateResult:
        self._drain(_news, int(_olds["maxmemory_bytes"]) > int(_news["maxmemory_bytes"]))
        return dynamic.UpdateResult(outs=dict(_news))

    @staticmethod
    def _drain(props: dict[str, Any], was_more: bool = False) -> None:
        first, maxmemory_bytes = props["first_container"], int(props["maxmemory_bytes"])
        members = redis_members(first)
        if props["has_replicas"] and members:
            drain(first, props["name"], maxmemory_bytes)
            if was_more and _runs(members, props["name"]):
                # The other servers have the data.
                with suppress(DockerError):
                    rewrite_aof(members[props["name"]])
        elif props["keeps_data"]:
            shrink(first, maxmemory_bytes, props["eviction_policy"], was_more=was_more)


class RedisDrain(dynamic.Resource):
    """The preparation of a server's replacement. `digest` changes when the container is going to be replaced.

    `keeps_data` is whether the new server loads the data of the old one.
    """

    def __init__(
        self,
        name: str,
        *,
        first_container: str,
        maxmemory_bytes: int,
        eviction_policy: str,
        keeps_data: bool,
        has_replicas: bool,
        digest: pulumi.Input[str],
        opts: pulumi.ResourceOptions,
    ) -> None:
        props = {
            "first_container": first_container,
            "name": name,
            "maxmemory_bytes": maxmemory_bytes,
            "eviction_policy": eviction_policy,
            "keeps_data": keeps_data,
            "has_replicas": has_replicas,
            "digest": digest,
        }
        super().__init__(RedisDrainProvider(), f"{name}-drain", props, opts)
