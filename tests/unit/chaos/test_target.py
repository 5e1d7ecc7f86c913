"""The stack of a run: what a partition cuts off, and what counts as a problem."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from infra import outputs
from infra.docker import members
from infra.docker.engine import DockerError
from infra.spec import etcd, monitoring
from infra.spec.checkout import Checkout
from infra.spec.postgres_cluster import MEMBERS
from infra.spec.redis_replication import SENTINEL_NAMES, SERVER_NAMES
from ops.chaos import target as targets
from ops.chaos.target import ChaosTarget, injector_of
from ops.stack import cluster
from ops.stack.cluster import PRIMARY, REPLICA, SYNCHRONOUS, Cluster, Member
from ops.stack.redis_cluster import RedisCluster, RedisRow

SINGLE = ("postgres", "redis", "access", *monitoring.SERVICES)
REPLICATED = (*SINGLE, *MEMBERS[1:], *etcd.MEMBERS, *SERVER_NAMES[1:], *SENTINEL_NAMES)
GATEWAY = "172.30.0.1"


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path, "0a1b2c", tmp_path / "state" / "clone-0a1b2c", tmp_path / "cache")


@pytest.mark.parametrize(
    ("services", "cut_off_from_the_host"),
    [
        # With monitoring, the names of exporters begin like those of the servers.
        (SINGLE, {"postgres", "redis", "access"}),
        (REPLICATED, {"access"}),
        (("postgres", *SERVER_NAMES, *SENTINEL_NAMES, "access"), {"postgres", "access"}),
    ],
    ids=["single", "replicated", "only Redis replicated"],
)
def test_a_partition_cuts_off_a_server_from_the_host_unless_it_has_replicas(
    checkout: Checkout,
    monkeypatch: pytest.MonkeyPatch,
    services: tuple[str, ...],
    cut_off_from_the_host: set[str],
) -> None:
    names = [checkout.name("dev", service) for service in services]
    containers = {
        name: {"Name": name, "IPv4Address": f"172.30.0.{10 + number}/24"} for number, name in enumerate(names)
    }
    network = {"Containers": containers, "IPAM": {"Config": [{"Gateway": GATEWAY}]}}
    monkeypatch.setattr(targets, "inspect", lambda *_: [network])
    injector = injector_of(checkout, "dev")
    for service in {*services} - {*monitoring.SERVICES}:
        addresses: Any = injector.addresses(service)
        assert (GATEWAY in addresses) == (service in cut_off_from_the_host), service
        own = containers[checkout.name("dev", service)]["IPv4Address"].partition("/")[0]
        others = {each["IPv4Address"].partition("/")[0] for each in containers.values()} - {own}
        assert {*addresses} - {GATEWAY} == others


class Servers:
    """The servers of a stack with replicas. `ill` are etcd members and Sentinels that run and do not answer."""

    def __init__(self, checkout: Checkout, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ill: set[str] = set()
        self.config = "loop_wait: 2\n"
        self._checkout = checkout
        self.existing = [*REPLICATED]
        well = [
            Member(name, checkout.name("dev", name), role, "streaming")
            for name, role in zip(MEMBERS, (PRIMARY, SYNCHRONOUS, REPLICA), strict=True)
        ]
        client = SimpleNamespace(info=lambda _: {"connected_slaves": 2})
        for name, value in (
            ("inspect", self._inspect),
            ("member_containers", lambda _: {each.name: each.container for each in well}),
            ("primary_url", lambda url, _: url),
            ("client_of", lambda _: nullcontext(client)),
            ("fetch", lambda *_: (200, b"")),
        ):
            monkeypatch.setattr(targets, name, value)
        monkeypatch.setattr(Cluster, "members", lambda _: well)
        monkeypatch.setattr(cluster, "docker", self._docker)
        monkeypatch.setattr(members, "patronictl", lambda *_, **__: self.config)
        primary = RedisRow("redis", "", "primary", "running", is_well=True)
        monkeypatch.setattr(
            RedisCluster, "members", lambda _: [primary, *map(self._sentinel, SENTINEL_NAMES)]
        )

    def problems(self) -> list[str]:
        containers = {name: self._checkout.name("dev", name) for name in self.existing}
        values = {
            outputs.CONTAINERS: dict.fromkeys([*REPLICATED, "network"]),
            outputs.REDIS_URLS: {"monitor": "rediss://monitor:x@a:1,b:2,c:3/0"},
            outputs.ACCESS_URL: "http://localhost:1",
        }
        return ChaosTarget(self._checkout, "dev", containers, values).problems()

    def _inspect(self, kind: str, *names: str) -> list[dict[str, Any]]:
        return [{"Name": f"/{name}", "State": {"Status": "running"}} for name in names]

    def _docker(self, _: str, container: str, *command: str, timeout_seconds: float) -> str:
        if container in {self._checkout.name("dev", name) for name in self.ill}:
            raise DockerError("`docker exec` failed: no majority")
        return "true"

    def _sentinel(self, name: str) -> RedisRow:
        is_well = name not in self.ill
        return RedisRow(name, "", "sentinel", "running" if is_well else "not answering", is_well=is_well)


@pytest.fixture
def servers(checkout: Checkout, monkeypatch: pytest.MonkeyPatch) -> Servers:
    return Servers(checkout, monkeypatch)


def test_a_stack_whose_servers_all_answer_has_no_problem(servers: Servers) -> None:
    assert servers.problems() == []


@pytest.mark.parametrize("ill", [*etcd.MEMBERS, *SENTINEL_NAMES])
def test_a_member_of_a_majority_that_runs_and_does_not_answer_is_a_problem(
    servers: Servers, ill: str
) -> None:
    servers.ill = {ill}
    (problem,) = servers.problems()
    assert problem.startswith(ill)


def test_a_missing_container_is_a_problem(servers: Servers) -> None:
    servers.existing.remove("etcd-2")
    assert servers.problems() == ["etcd-2 is missing"]


def test_a_paused_failover_is_a_problem(servers: Servers, checkout: Checkout) -> None:
    servers.config = "pause: true\n"
    (problem,) = servers.problems()
    assert "failover is paused" in problem
    assert f"docker exec {checkout.name('dev', 'postgres')} patronictl resume" in problem
