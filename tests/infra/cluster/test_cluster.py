"""A stack whose replicas are turned on, whose primary fails in several ways, and whose replicas are turned off again.

The tests share the stack of one checkout, and run in the order of this file.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest

from infra.docker.access import SECRETS_DIR
from infra.docker.engine import docker, inspect, psql
from infra.docker.members import patronictl, primary_container
from infra.monitoring.replicas import REPLICA_DASHBOARDS, REPLICA_RULES
from infra.spec import etcd, postgres_cluster
from infra.spec.monitoring import PROMETHEUS
from infra.spec.postgres import CONFIG_DIR
from infra.spec.postgres_cluster import MEMBERS, SCOPE
from infra.spec.redis_replication import SENTINEL_NAMES, SERVER_NAMES
from infra.spec.roles import DATABASE
from tests.containers import wait_until
from tests.infra.checkout import CheckoutCopy
from tests.infra.cluster.writers import SCHEMA_SQL, TABLE, Writers, writing
from tests.integration.monitoring.measured import Prometheus
from tests.promises import promise
from tests.promql import all_missing, dashboard_expressions, rule_expressions
from tests.scale import IS_FULL

# A failover takes 30 s, on a busy machine longer.
_LIMIT_SECONDS = 300
# Without these, an acknowledged write may be on the primary alone.
_CARELESS = "options=-c%20synchronous_commit%3Dlocal"


@dataclass(frozen=True)
class LiveCluster:
    """The stack, and a connection string of role app from when it had replicas."""

    checkout: CheckoutCopy
    url: str

    def container(self, service: str) -> str:
        return self.checkout.identity.name("dev", service)

    def primary(self) -> str:
        return primary_container(self.container("postgres"), wait_seconds=_LIMIT_SECONDS)

    def sql(self, statement: str) -> str:
        return psql(self.primary(), statement, database=DATABASE).strip()

    def members(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(patronictl(self.primary(), "list", SCOPE, "--format=json"))
        return found

    def wait_until_whole(self) -> None:
        """Wait until all members stream. A writer is not needed: see the health check of the image."""

        def is_whole() -> bool:
            roles = [m["Role"] for m in self.members() if m["State"] in ("running", "streaming")]
            return sorted(roles) == ["Leader", "Replica", "Sync Standby"]

        wait_until(is_whole, _LIMIT_SECONDS)


@pytest.fixture(scope="module")
def cluster(checkout: CheckoutCopy) -> LiveCluster:
    """Return a cluster that was a single server with a row."""
    checkout.succeed("up")
    psql(
        checkout.identity.name("dev", "postgres"),
        f"{SCHEMA_SQL} INSERT INTO groundwork.{TABLE} VALUES (0);",
        database=DATABASE,
    )
    # Monitoring and replicas of Redis are here because another stack with replicas would take a minute.
    checkout.settings(postgresReplicas=2, redisReplicas=2, monitoring="true")
    checkout.succeed("up")
    url = json.loads(checkout.succeed("env", "--role", "app", "--format", "json"))["DATABASE_URL"]
    return LiveCluster(checkout, url)


@promise("turning replicas on keeps the data")
def test_the_rows_of_a_single_server_are_in_the_cluster(cluster: LiveCluster) -> None:
    assert cluster.sql(f"SELECT number FROM groundwork.{TABLE}") == "0"
    cluster.wait_until_whole()
    rows = json.loads(cluster.checkout.succeed("cluster", "status", "--json"))
    assert [row["isWell"] for row in rows] == [True, True, True]


def test_an_up_of_an_unchanged_cluster_changes_nothing(cluster: LiveCluster) -> None:
    cluster.checkout.succeed("preview", "--expect-no-changes")


def test_doctor_finds_nothing_wrong_with_the_cluster(cluster: LiveCluster) -> None:
    checks = [option for name in ("replicas", "postgres-settings", "roles") for option in ("--only", name)]
    # The table breaks long lines.
    assert "2 replicas stream from it" in " ".join(cluster.checkout.succeed("doctor", *checks).split())


@promise("with replicas, each server is monitored under its own name")
def test_every_metric_of_the_rules_and_the_dashboard_of_replicas_exists(cluster: LiveCluster) -> None:
    rows = json.loads(cluster.checkout.succeed("status", "--json"))
    (address,) = (row["address"] for row in rows if row["service"] == PROMETHEUS)
    prometheus = Prometheus(int(address.rpartition(":")[2]), {})
    expressions = rule_expressions(REPLICA_RULES) | dashboard_expressions(REPLICA_DASHBOARDS)
    # Rates need a second scrape.
    wait_until(lambda: not all_missing(expressions, prometheus.series()), 180)
    up = {each["instance"] for each in prometheus.series()["up"]}
    assert up >= {*MEMBERS, *etcd.MEMBERS, *SERVER_NAMES, *SENTINEL_NAMES}
    for expression, value in (
        ("min(up)", 1),
        ("sum(pg_up)", 3),
        ("sum(pg_member_is_primary)", 1),
        ("max(pg_member_streaming_replicas)", 2),
        ("max(pg_member_synchronous_replicas)", 1),
        ("count(pg_archiving_enabled)", 1),
        ("sum(redis_up)", 3),
        ("sum(redis_sentinel_up)", 3),
        ("sum(etcd_server_has_leader)", 3),
    ):
        wait_until(lambda e=expression, v=value: prometheus.value(e) == v, 180)  # type: ignore[misc]
    assert all(rule["health"] == "ok" for rule in prometheus.rules() if rule["type"] == "alerting")


_ASK = """
import socket, ssl, sys
folder, has_certificate, *targets = sys.argv[1:]
context = ssl.create_default_context(cafile=folder + "/ca.crt")
if has_certificate == "yes":
    context.load_cert_chain(folder + "/server.crt", folder + "/server.key")
for target in targets:
    host, _, port = target.partition(":")
    try:
        with context.wrap_socket(socket.create_connection((host, int(port)), 5), server_hostname=host) as stream:
            # With TLS 1.3 a client sees a refusal when it reads.
            stream.sendall(b"GET /health HTTP/1.0\\r\\n\\r\\n")
            print("answers" if stream.recv(100) else "closes")
    except OSError:
        print("refuses")
"""


@promise("members log in to each other and to etcd with certificates, and there is no password for it")
def test_etcd_and_patroni_refuse_clients_without_a_certificate(cluster: LiveCluster) -> None:
    (network,) = inspect("network", cluster.container("data"))
    subnet = network["IPAM"]["Config"][0]["Subnet"]
    stores = postgres_cluster.addresses(subnet, etcd.MEMBERS, etcd.FIRST_ADDRESS).values()
    servers = postgres_cluster.addresses(subnet, MEMBERS, postgres_cluster.FIRST_ADDRESS).values()
    targets = [f"{address}:{etcd.CLIENT_PORT}" for address in stores]
    targets += [f"{address}:{postgres_cluster.REST_PORT}" for address in servers]

    def ask(service: str, folder: str, has_certificate: str) -> list[str]:
        container = cluster.container(service)
        return docker("exec", container, "python3", "-c", _ASK, folder, has_certificate, *targets).split()

    assert ask("access", SECRETS_DIR, "no") == ["refuses"] * len(targets)
    assert ask("postgres", CONFIG_DIR, "no") == ["refuses"] * len(targets)
    assert ask("postgres", CONFIG_DIR, "yes") == ["answers"] * len(targets)


def test_a_role_with_a_password_cannot_replicate(cluster: LiveCluster) -> None:
    with pytest.raises(psycopg.OperationalError, match=r"no pg_hba\.conf entry for replication connection"):
        psycopg.connect(f"{cluster.url}&replication=true")


def _freeze(cluster: LiveCluster, writers: Writers, old: str) -> None:
    docker("pause", old)
    try:
        _await_writes(writers)
    finally:
        docker("unpause", old)


def _kill(cluster: LiveCluster, writers: Writers, old: str) -> None:
    docker("kill", old)
    try:
        _await_writes(writers)
    finally:
        docker("start", old)


def _switch_over(cluster: LiveCluster, writers: Writers, old: str) -> None:
    cluster.checkout.succeed("cluster", "switchover", "--yes")


def _await_writes(writers: Writers) -> None:
    """Wait until writes are acknowledged that began after the fault."""
    began = time.monotonic() + 2
    wait_until(lambda: writers.has_written_since(began), _LIMIT_SECONDS)


FAULTS = {"freeze": _freeze, "switchover": _switch_over, "kill": _kill}
# A kill ends like a freeze: with the lease.
_RUNS = [*FAULTS, *FAULTS, *FAULTS] if IS_FULL else ["freeze", "switchover"]


@promise("no acknowledged write is lost when the primary is killed, frozen or moved")
@pytest.mark.parametrize(("number", "fault"), list(enumerate(_RUNS)))
def test_no_acknowledged_write_is_lost(cluster: LiveCluster, number: int, fault: str) -> None:
    cluster.wait_until_whole()
    old = cluster.primary()
    with writing(cluster.url) as writers:
        wait_until(lambda: len(writers.acknowledged) >= 100, _LIMIT_SECONDS)
        FAULTS[fault](cluster, writers, old)
        _await_writes(writers)
        # The old primary comes back while the others write.
        cluster.wait_until_whole()
    assert cluster.primary() != old
    assert writers.acknowledged.keys() - writers.rows() == set(), f"longest wait {writers.gap():.1f} s"


@pytest.mark.skipif(not IS_FULL, reason="SCALE=full: it waits for the end of a lease")
@promise("no acknowledged write is lost when the primary is killed, frozen or moved", control=True)
def test_writes_that_do_not_wait_for_a_replica_are_lost(cluster: LiveCluster) -> None:
    cluster.wait_until_whole()
    old = cluster.primary()
    replicas = [cluster.container(member) for member in MEMBERS if cluster.container(member) != old]
    with writing(f"{cluster.url}&{_CARELESS}") as writers:
        docker("pause", *replicas)
        began = time.monotonic()
        wait_until(lambda: writers.has_written_since(began + 0.5), _LIMIT_SECONDS)
        docker("kill", old)
    docker("unpause", *replicas)
    try:
        # Of the replicas, one was synchronous, and is promoted.
        assert cluster.primary() in replicas
        assert writers.acknowledged.keys() - writers.rows()
    finally:
        docker("start", old)


@promise("turning replicas off keeps the data, and is refused while another server is the primary")
def test_turning_replicas_off_keeps_the_rows(cluster: LiveCluster) -> None:
    cluster.wait_until_whole()
    if cluster.primary() == cluster.container("postgres"):
        cluster.checkout.succeed("cluster", "switchover", "--yes")
    before = int(cluster.sql(f"SELECT count(*) FROM groundwork.{TABLE}"))
    cluster.checkout.settings()
    refused = cluster.checkout.run("up")
    assert refused.returncode != 0
    assert "groundwork:postgresReplicas cannot become 0 while postgres-" in refused.stderr + refused.stdout
    cluster.checkout.succeed("cluster", "switchover", "--to", "postgres", "--yes")
    cluster.checkout.succeed("up")
    container = cluster.container("postgres")
    assert int(psql(container, f"SELECT count(*) FROM groundwork.{TABLE}", database=DATABASE)) == before
    assert psql(container, "SELECT count(*) FROM pg_roles WHERE rolname = 'replicator'").strip() == "0"
    left = {name.removeprefix(cluster.container("")) for name in _names(cluster)}
    assert left & {*MEMBERS[1:], *etcd.MEMBERS, "postgres-2-data", "etcd-1-data"} == set()
    cluster.checkout.succeed("doctor", "--only", "roles", "--only", "postgres-settings")


def _names(cluster: LiveCluster) -> list[str]:
    containers = docker("container", "ls", "--all", "--format", "{{.Names}}").split()
    return [*containers, *docker("volume", "ls", "--quiet").split()]
