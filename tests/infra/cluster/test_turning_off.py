"""Replicas that are turned off: the data of the first server stays. This file is the last one of the folder."""

from __future__ import annotations

import ipaddress
import subprocess

from infra.docker.engine import docker, inspect, psql
from infra.spec import etcd
from infra.spec.postgres_cluster import MEMBERS
from infra.spec.redis_replication import SENTINEL_NAMES, SERVER_NAMES
from infra.spec.roles import DATABASE
from tests.infra.cluster.conftest import LiveCluster
from tests.infra.cluster.writers import TABLE
from tests.infra.redis_replicas import is_ready
from tests.promises import promise
from tests.scale import IS_FULL


@promise("the subnet changes together with turning replicas off, and not while there are replicas")
@promise("turning replicas off keeps the data, and is refused while another server is the primary")
@promise("replicas of Redis are turned on and off without a new stack")
def test_turning_replicas_off_keeps_the_rows(cluster: LiveCluster) -> None:
    """With SCALE=full, `up` also refuses what is not possible, and is killed while it replaces the first server."""
    cluster.wait_until_whole()
    before = int(cluster.sql(f"SELECT count(*) FROM groundwork.{TABLE}"))
    subnet = _another_subnet(cluster)
    if IS_FULL:
        _require_refusals(cluster, subnet)
    if cluster.primary() != cluster.container("postgres"):
        cluster.checkout.succeed("cluster", "switchover", "--to", "postgres", "--yes")
    cluster.checkout.settings(networkSubnet=subnet)
    if IS_FULL:
        cluster.checkout.run_until("Container postgres deleting", "up")
    cluster.checkout.succeed("up")
    (network,) = inspect("network", cluster.container("data"))
    assert network["IPAM"]["Config"][0]["Subnet"] == subnet
    container = cluster.container("postgres")
    assert int(psql(container, f"SELECT count(*) FROM groundwork.{TABLE}", database=DATABASE)) == before
    assert psql(container, "SELECT count(*) FROM pg_roles WHERE rolname = 'replicator'").strip() == "0"
    left = {name.removeprefix(cluster.container("")) for name in _names(cluster)}
    assert left & {*MEMBERS[1:], *etcd.MEMBERS, "postgres-2-data", "etcd-1-data"} == set()
    assert left & {*SERVER_NAMES[1:], *SENTINEL_NAMES, "redis-2-data", "sentinel-1-data"} == set()
    assert is_ready(cluster.checkout)
    cluster.checkout.succeed("doctor", "--only", "roles", "--only", "postgres-settings")


def _require_refusals(cluster: LiveCluster, subnet: str) -> None:
    """Check that `up` refuses another subnet for replicas, and a single server that is not the primary."""
    if cluster.primary() == cluster.container("postgres"):
        cluster.checkout.succeed("cluster", "switchover", "--yes")
    cluster.checkout.settings(postgresReplicas=2, networkSubnet=subnet)
    refused = cluster.checkout.run("up")
    assert refused.returncode != 0
    assert f"to {subnet} while Postgres has replicas; set groundwork:postgresReplicas" in _said(refused)
    cluster.checkout.settings(networkSubnet=subnet)
    refused = cluster.checkout.run("up")
    assert refused.returncode != 0
    assert "groundwork:postgresReplicas cannot become 0 while postgres-" in _said(refused)


def _another_subnet(cluster: LiveCluster) -> str:
    """Return the next network after that of the stack, which no other stack is likely to have."""
    (network,) = inspect("network", cluster.container("data"))
    used = ipaddress.IPv4Network(network["IPAM"]["Config"][0]["Subnet"])
    return str(ipaddress.IPv4Network((int(used.broadcast_address) + 1, used.prefixlen)))


def _said(done: subprocess.CompletedProcess[str]) -> str:
    return done.stderr + done.stdout


def _names(cluster: LiveCluster) -> list[str]:
    containers = docker("container", "ls", "--all", "--format", "{{.Names}}").split()
    return [*containers, *docker("volume", "ls", "--quiet").split()]
