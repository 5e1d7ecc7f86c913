"""A stack whose replicas are turned on. The tests of this folder share it, and run in the order of their files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from infra.docker.engine import inspect, psql
from infra.docker.members import patronictl, primary_container
from infra.spec import etcd, postgres_cluster
from infra.spec.postgres_cluster import SCOPE
from infra.spec.roles import DATABASE
from tests.containers import wait_until
from tests.infra.checkout import CheckoutCopy
from tests.infra.cluster.writers import SCHEMA_SQL, TABLE

# A failover takes 30 s, on a busy machine longer.
LIMIT_SECONDS = 300


@dataclass(frozen=True)
class LiveCluster:
    """The stack, and the connection strings of role app from when it had replicas."""

    checkout: CheckoutCopy
    url: str
    read_url: str

    @classmethod
    def of(cls, checkout: CheckoutCopy) -> LiveCluster:
        """Return the checkout's stack when all its members stream."""
        urls = json.loads(checkout.succeed("env", "--role", "app", "--format", "json"))
        live = cls(checkout, urls["DATABASE_URL"], urls["DATABASE_READ_URL"])
        live.wait_until_whole()
        return live

    def container(self, service: str) -> str:
        return self.checkout.identity.name("dev", service)

    def primary(self) -> str:
        return primary_container(self.container("postgres"), wait_seconds=LIMIT_SECONDS)

    def sql(self, statement: str) -> str:
        return psql(self.primary(), statement, database=DATABASE).strip()

    def members(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(patronictl(self.primary(), "list", SCOPE, "--format=json"))
        return found

    def addresses(self) -> dict[str, str]:
        """Return the addresses of all servers and members of etcd."""
        (network,) = inspect("network", self.container("data"))
        subnet = network["IPAM"]["Config"][0]["Subnet"]
        return {
            **postgres_cluster.addresses(subnet, postgres_cluster.MEMBERS, postgres_cluster.FIRST_ADDRESS),
            **postgres_cluster.addresses(subnet, etcd.MEMBERS, etcd.FIRST_ADDRESS),
        }

    def wait_until_whole(self) -> None:
        """Wait until all members stream. A writer is not needed: see the health check of the image."""
        streaming = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'"

        def is_whole() -> bool:
            # Patroni's list takes a second of CPU time.
            if psql(self.primary(), streaming).strip() != "2":
                return False
            roles = [m["Role"] for m in self.members() if m["State"] in ("running", "streaming")]
            return sorted(roles) == ["Leader", "Replica", "Sync Standby"]

        wait_until(is_whole, LIMIT_SECONDS)


@pytest.fixture(scope="package")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CheckoutCopy]:
    """Yield a copy of the checkout. Its stack and data are removed after the last test of this folder."""
    with CheckoutCopy.temporary(tmp_path_factory.mktemp("checkout")) as copy:
        yield copy


@pytest.fixture(scope="package")
def cluster(checkout: CheckoutCopy) -> LiveCluster:
    """Return a cluster that was a single server with a row, and that has a backup."""
    checkout.succeed("up")
    psql(
        checkout.identity.name("dev", "postgres"),
        f"{SCHEMA_SQL} INSERT INTO groundwork.{TABLE} VALUES (0);",
        database=DATABASE,
    )
    # Monitoring and replicas of Redis are here because another stack with replicas would take a minute.
    checkout.settings(postgresReplicas=2, redisReplicas=2, monitoring="true", allowChaos=True)
    checkout.succeed("up")
    live = LiveCluster.of(checkout)
    checkout.succeed("backup")
    return live
