"""The stack of a run: what a partition cuts off, and what counts as a problem."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from infra.spec import etcd, monitoring
from infra.spec.checkout import Checkout
from infra.spec.postgres_cluster import MEMBERS
from infra.spec.redis_replication import SENTINEL_NAMES, SERVER_NAMES
from ops.chaos import target as targets
from ops.chaos.target import injector_of

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
