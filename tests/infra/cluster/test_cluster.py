"""A stack whose replicas were turned on: data, settings, and who may log in."""

from __future__ import annotations

import json

from infra.docker.engine import docker
from infra.monitoring.replicas import REPLICA_DASHBOARDS, REPLICA_RULES
from infra.spec import etcd
from infra.spec.monitoring import PROMETHEUS
from infra.spec.postgres_cluster import MEMBERS
from infra.spec.redis_replication import SENTINEL_NAMES, SERVER_NAMES
from tests.containers import wait_until
from tests.infra.cluster.conftest import LiveCluster
from tests.infra.cluster.writers import TABLE
from tests.integration.monitoring.measured import Prometheus
from tests.promises import promise
from tests.promql import all_missing, dashboard_expressions, rule_expressions


@promise("turning replicas on keeps the data")
def test_the_rows_of_a_single_server_are_in_the_cluster(cluster: LiveCluster) -> None:
    assert cluster.sql(f"SELECT number FROM groundwork.{TABLE}") == "0"
    cluster.wait_until_whole()
    rows = json.loads(cluster.checkout.succeed("cluster", "status", "--service", "postgres", "--json"))
    assert [row["isWell"] for row in rows] == [True, True, True]


def test_doctor_finds_nothing_wrong_with_the_cluster(cluster: LiveCluster) -> None:
    checks = [option for name in ("replicas", "postgres-settings", "roles") for option in ("--only", name)]
    # The table breaks long lines.
    assert "2 replicas stream from it" in " ".join(cluster.checkout.succeed("doctor", *checks).split())


@promise("with replicas, each server is monitored under its own name")
def test_every_metric_of_the_rules_and_the_dashboard_of_replicas_exists(cluster: LiveCluster) -> None:
    address = docker("port", cluster.container(PROMETHEUS)).strip()
    prometheus = Prometheus(int(address.rpartition(":")[2]), {})
    expressions = rule_expressions(REPLICA_RULES) | dashboard_expressions(REPLICA_DASHBOARDS)
    # Rates need a second scrape.
    wait_until(lambda: not all_missing(expressions, prometheus.series()), 180)
    # Each target has its own moment in the interval of scrapes.
    expected = {*MEMBERS, *etcd.MEMBERS, *SERVER_NAMES, *SENTINEL_NAMES}
    wait_until(lambda: expected <= {each["instance"] for each in prometheus.series()["up"]}, 180)
    for expression, value in (
        ("min(up)", 1),
        ("sum(pg_up)", 3),
        ("sum(pg_member_is_primary)", 1),
        ("max(pg_member_streaming_replicas)", 2),
        ("sum(pg_member_receives_wal)", 2),
        ("max(pg_member_synchronous_replicas)", 1),
        ("count(pg_archiving_enabled)", 1),
        ("sum(redis_up)", 3),
        ("sum(redis_master_link_up)", 2),
        ("sum(redis_sentinel_up)", 3),
        ("sum(etcd_server_has_leader)", 3),
    ):
        wait_until(lambda e=expression, v=value: prometheus.value(e) == v, 180)  # type: ignore[misc]
    assert all(rule["health"] == "ok" for rule in prometheus.rules() if rule["type"] == "alerting")
