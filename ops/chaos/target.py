"""The stack of a run: whether it allows chaos, its containers by role, and its present problems."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import redis

from infra import outputs
from infra.docker import ownership
from infra.docker.engine import DockerError, inspect, psql
from infra.docker.members import member_containers, primary_container
from infra.images.build import ensure
from infra.images.context import image_context
from infra.settings import AWS, StackSettings
from infra.spec import etcd
from infra.spec.checkout import Checkout
from infra.spec.errors import InfraError
from infra.spec.postgres_cluster import MEMBERS, SCOPE
from infra.spec.redis_replication import SENTINEL_NAMES, SERVER_NAMES
from ops.chaos.faults import FaultImpossible, FaultInjector
from ops.chaos.journal import Journal
from ops.chaos.plan import PRIMARY, Topology
from ops.consent import production_name
from ops.errors import Exit, OpsError
from ops.servers.errors import one_line
from ops.servers.http_client import fetch
from ops.servers.redis_primary import client_of, primary_url
from ops.stack import cluster, redis_cluster
from ops.stack.cluster import Cluster, Member
from ops.stack.pulumi_stack import PulumiStack
from ops.stack.redis_cluster import RedisCluster
from ops.stack.stack_status import ALL_SERVICES, needed_services

_IMAGE = "chaos"
_READY_SECONDS = 10
# The services whose servers replace each other.
_GROUPS = (MEMBERS, etcd.MEMBERS, SERVER_NAMES, SENTINEL_NAMES)


def require_allowed(settings: StackSettings, stack: str) -> None:
    """Raise OpsError (7) unless a stack's settings allow chaos, and its name does not look like production."""
    reason = ""
    if settings.target == AWS:
        reason = "it is on AWS"
    elif production_name([stack]) is not None:
        reason = "its name looks like production"
    elif settings.protect_data:
        reason = "groundwork:protectData is true"
    elif not settings.allow_chaos:
        reason = "groundwork:allowChaos is not true; set it for a stack whose data you can afford to lose"
    if reason:
        raise OpsError(f"chaos is refused on stack {stack!r}: {reason} (docs/chaos.md)", Exit.REFUSED)


def topology_of(settings: StackSettings) -> Topology:
    return Topology(settings.postgres_replicas > 0, settings.redis_replicas > 0)


def injector_of(checkout: Checkout, stack: str) -> FaultInjector:
    """Return what causes and undoes the faults of a stack."""
    return FaultInjector(
        ownership.labels(checkout, stack),
        lambda: ensure(image_context(checkout, _IMAGE)),
        lambda service: _other_addresses(checkout, stack, service),
        Journal(checkout, stack).add,
    )


@dataclass(frozen=True)
class ChaosTarget:
    """A running stack. `containers` maps services to the names of containers that this state owns."""

    checkout: Checkout
    stack: str
    containers: Mapping[str, str]
    values: Mapping[str, Any]

    @classmethod
    def of(cls, checkout: Checkout, stack: str) -> ChaosTarget:
        """Return the stack. Raise OpsError: 6 if it is not up, 7 if another state owns it."""
        values = PulumiStack(checkout, stack).outputs()
        own = {
            each.name for each in ownership.require_own(checkout, stack) if each.kind == ownership.CONTAINER
        }
        names = {service: checkout.name(stack, service) for service in ALL_SERVICES}
        return cls(checkout, stack, {s: name for s, name in names.items() if name in own}, values)

    def server(self, target: str) -> str:
        """Return the service that a step's target means now. Raise FaultImpossible if no server has the role."""
        kind, _, role = target.partition(" ")
        if not role:
            return self._own(target)
        try:
            primary = self._postgres_primary() if kind == "postgres" else self._redis_primary()
        except (InfraError, OpsError) as error:
            raise FaultImpossible(str(error)) from error
        if role == PRIMARY:
            return self._own(primary)
        names = MEMBERS if kind == "postgres" else SERVER_NAMES
        return self._own(next(name for name in names if name != primary))

    def container(self, service: str) -> str:
        return self.containers[service]

    def switch_over(self, service: str) -> None:
        """Make a replica of Postgres or Redis the primary. `service` is one of its servers. Raise OpsError."""
        kind = RedisCluster if service in SERVER_NAMES else Cluster
        kind.of(self.checkout, self.stack).switch_over(None, lambda _: None)

    def problems(self) -> list[str]:
        """Return what is wrong with the stack's servers now. Empty if all of them work."""
        states = {
            each["Name"].lstrip("/"): each["State"]["Status"]
            for each in inspect("container", *self.containers.values())
        }
        found = [
            f"{service} is {state}"
            for service, name in self.containers.items()
            if (state := states.get(name, "missing")) != "running"
        ]
        found += [
            f"{each} is missing" for each in needed_services(self.values) if each not in self.containers
        ]
        return found or [*self._postgres_problems(), *self._redis_problems(), *self._access_problems()]

    def _own(self, service: str) -> str:
        if service not in self.containers:
            raise FaultImpossible(f"{service} is missing")
        return service

    def _postgres_primary(self) -> str:
        first = self.checkout.name(self.stack, MEMBERS[0])
        return primary_container(first, wait_seconds=0).removeprefix(self.checkout.name(self.stack, ""))

    def _redis_primary(self) -> str:
        url = self._redis_url
        return SERVER_NAMES[outputs.server_urls(url).index(primary_url(url, self.stack))]

    @property
    def _redis_url(self) -> str:
        return str(self.values[outputs.REDIS_URLS]["monitor"])

    def _postgres_problems(self) -> list[str]:
        first = self.checkout.name(self.stack, MEMBERS[0])
        try:
            if containers := member_containers(first):
                return self._cluster_problems(Cluster(self.stack, containers).members())
            psql(first, "SELECT 1", timeout_seconds=_READY_SECONDS)
        except (DockerError, OpsError) as error:
            return [f"Postgres: {one_line(error)}"]
        return []

    def _cluster_problems(self, members: Sequence[Member]) -> list[str]:
        stores = {each: self.containers[each] for each in etcd.MEMBERS if each in self.containers}
        if found := [*cluster.problems(members), *cluster.store_problems(stores)]:
            return found
        if paused := cluster.paused_container(members):
            return [f"failover is paused; resume it with `docker exec {paused} patronictl resume {SCOPE}`"]
        return []

    def _redis_problems(self) -> list[str]:
        replicas = len(outputs.server_urls(self._redis_url)) - 1
        try:
            with client_of(primary_url(self._redis_url, self.stack)) as client:
                connected = int(client.info("replication")["connected_slaves"])
            if connected != replicas:
                return [f"Redis: {connected} of {replicas} replicas follow the primary"]
            if not replicas:
                return []
            first = self.checkout.name(self.stack, SERVER_NAMES[0])
            return redis_cluster.problems(RedisCluster(self.stack, first).members())
        except (redis.RedisError, OSError, OpsError, DockerError) as error:
            return [f"Redis: {one_line(error)}"]

    def _access_problems(self) -> list[str]:
        url = f"{self.values[outputs.ACCESS_URL]}/readyz"
        try:
            status, _ = fetch(url, _READY_SECONDS)
        except OSError as error:
            return [f"access: {one_line(error)}"]
        return [] if status == 200 else [f"access: not ready ({status})"]


def _other_addresses(checkout: Checkout, stack: str, service: str) -> list[str]:
    """Return the addresses of a stack's other containers; for a server without replicas the host's too.

    A server with replicas keeps its clients on this machine. This is the dangerous case: it must refuse their writes.
    """
    container = checkout.name(stack, service)
    (network,) = inspect("network", checkout.name(stack, "data"))
    members = network["Containers"].values()
    found = [each["IPv4Address"].partition("/")[0] for each in members if each["Name"] != container]
    if not _has_peers(service, {each["Name"].removeprefix(checkout.name(stack, "")) for each in members}):
        found.append(network["IPAM"]["Config"][0]["Gateway"])
    return found


def _has_peers(service: str, services: set[str]) -> bool:
    # Not by the beginning of a name: `postgres-exporter` is not a member.
    group = next((group for group in _GROUPS if service in group), ())
    return bool(services & {*group} - {service})
