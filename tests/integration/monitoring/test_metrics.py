"""Every metric and label that rules and dashboards use exists in a live scrape."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from infra.docker.engine import docker
from infra.spec.monitoring import POSTGRES_EXPORTER, REDIS_EXPORTER
from tests.containers import build_image, wait_until
from tests.integration.monitoring.conftest import Scene
from tests.integration.monitoring.measured import free_port, log, postgres_exporter, redis_exporter, scrape
from tests.promises import promise
from tests.promql import Series, all_missing, dashboard_expressions, rule_expressions

EXPRESSIONS = rule_expressions() | dashboard_expressions()


@pytest.fixture(scope="module")
def series(scene: Scene) -> Series:
    """Return the series of a live scrape, after nothing is missing or two minutes have passed."""
    try:
        wait_until(lambda: not all_missing(EXPRESSIONS, scene.prometheus.series()), 120)
    except AssertionError:
        pass  # The tests report what is missing.
    return scene.prometheus.series()


@promise("every metric that alert rules and dashboards use exists")
def test_every_metric_and_label_that_is_named_exists(series: Series) -> None:
    assert all_missing(EXPRESSIONS, series) == {}


@promise("every metric that alert rules and dashboards use exists", control=True)
def test_a_made_up_name_is_detected(series: Series) -> None:
    for expression, gap in (
        ("groundwork_cache_hitz_total", "no metric groundwork_cache_hitz_total"),
        ("rate(pg_upp[5m]) > 1", "no metric pg_upp"),
        ('up{jobb="access"}', "up has no label jobb"),
        ('up{job="acess"}', "up has no job='acess'"),
        (
            "sum by (entitee) (groundwork_cache_hits_total)",
            "groundwork_cache_hits_total has no label entitee",
        ),
        ("up and on (job) sum(pg_role_connectionz)", "no metric pg_role_connectionz"),
    ):
        assert gap in all_missing({"here": expression}, series)["here"], expression


def test_every_target_is_up(scene: Scene) -> None:
    jobs = ("postgres", "redis", "access", "application", "prometheus")
    wait_until(lambda: scene.prometheus.targets() == dict.fromkeys(jobs, "up"), 60)
    wait_until(lambda: scene.prometheus.value("min(pg_up) + min(redis_up)") == 2, 60)


def test_every_rule_is_evaluated_without_an_error(scene: Scene) -> None:
    wait_until(lambda: all(rule["health"] != "unknown" for rule in scene.prometheus.rules()), 60)
    assert {rule["name"]: rule.get("lastError", "") for rule in scene.prometheus.rules()} == dict.fromkeys(
        (rule["name"] for rule in scene.prometheus.rules()), ""
    )


def test_the_exporter_keeps_within_the_connections_of_its_login(series: Series, scene: Scene) -> None:
    most = scene.prometheus.value('max(max_over_time(pg_role_connections{rolname="monitor_a"}[5m]))')
    assert 1 <= most <= 2


@promise("no exporter's password is in a command line, an environment or a log")
@pytest.mark.parametrize("service", [POSTGRES_EXPORTER, REDIS_EXPORTER])
def test_no_password_is_in_a_command_an_environment_or_a_log(scene: Scene, service: str) -> None:
    container = scene.prometheus.containers[service]
    shown = docker("inspect", container) + log(container)
    shown += docker("exec", container, "sh", "-c", "cat /proc/1/environ /proc/1/cmdline")
    passwords = {**scene.postgres.passwords, **scene.redis.passwords}
    assert [name for name, password in passwords.items() if password in shown] == []


@pytest.mark.parametrize("service", [POSTGRES_EXPORTER, REDIS_EXPORTER])
def test_an_exporter_trusts_no_server_of_another_authority(scene: Scene, service: str) -> None:
    """Everything except the CA is as in the scene, where the exporters are up."""
    image, port = build_image("monitoring"), free_port()
    with ExitStack() as stack:
        if service == POSTGRES_EXPORTER:
            other = scene.redis.authority
            postgres_exporter(stack, image, port, scene.postgres, scene.database, other)
        else:
            redis_exporter(stack, image, port, scene.redis, scene.postgres.authority)
        metric = {POSTGRES_EXPORTER: "pg_up", REDIS_EXPORTER: "redis_up"}[service]
        wait_until(lambda: f"\n{metric} 0" in scrape(port), 30)
