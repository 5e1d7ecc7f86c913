"""Alerts are raised by what they are about, seen through Prometheus, and not before. The last tests of the scene:
it is broken here."""

from __future__ import annotations

from typing import Any

import pytest

from infra.docker.engine import docker
from tests.conftest import Database
from tests.containers import wait_until
from tests.integration.monitoring.conftest import Scene

RAISED = {"pending", "firing"}
# A scrape takes 3 s, and longer where the machine is busy.
PATIENCE_SECONDS = 240
_FILL = """
    INSERT INTO groundwork.cache_outbox (entity, entity_id) SELECT 'user', n FROM generate_series(1, 8000) AS n
"""


def raised(scene: Scene, alert: str) -> bool:
    return scene.prometheus.alerts().get(alert) in RAISED


def test_an_alert_fires(scene: Scene) -> None:
    """The one that is true from the start: Redis has just been started."""
    wait_until(lambda: scene.prometheus.alerts().get("RedisRestarted") == "firing", PATIENCE_SECONDS)


@pytest.mark.parametrize(
    "alert", ["TargetDown", "RedisDown", "PostgresDown", "OutboxDeep", "OutboxNotEmptied"]
)
def test_nothing_is_raised_while_all_is_well(scene: Scene, alert: str) -> None:
    wait_until(lambda: set(scene.prometheus.targets().values()) == {"up"}, PATIENCE_SECONDS)
    wait_until(lambda: scene.prometheus.value("redis_up") == 1, PATIENCE_SECONDS)
    assert not raised(scene, alert)


def test_a_stopped_redis_and_the_outbox_that_it_leaves_full_are_told(scene: Scene) -> None:
    docker("stop", scene.redis.container)
    try:
        Database(scene.postgres, scene.database).psql(_FILL)
        for alert in ("RedisDown", "OutboxDeep", "CacheBreakerOpen"):
            wait_until(lambda alert=alert: raised(scene, alert), PATIENCE_SECONDS)  # type: ignore[misc]
    finally:
        docker("start", scene.redis.container)
    for alert in ("RedisDown", "OutboxDeep"):
        wait_until(lambda alert=alert: not raised(scene, alert), PATIENCE_SECONDS)  # type: ignore[misc]


def test_a_stopped_postgres_is_told_until_it_runs_again(scene: Scene) -> None:
    docker("stop", scene.postgres.container)
    try:
        wait_until(lambda: raised(scene, "PostgresDown"), PATIENCE_SECONDS)
        # The exporter itself goes on: it is the server that is down.
        assert scene.prometheus.targets()["postgres"] == "up"
    finally:
        docker("start", scene.postgres.container)
    wait_until(lambda: scene.prometheus.value("pg_up") == 1, PATIENCE_SECONDS)
    wait_until(lambda: not raised(scene, "PostgresDown"), PATIENCE_SECONDS)


def test_an_application_that_ended_is_told(scene: Scene) -> None:
    scene.application.kill()
    wait_until(lambda: bool(_down(scene)), PATIENCE_SECONDS)
    (alert,) = _down(scene)
    assert alert["labels"]["severity"] == "critical"
    assert alert["annotations"]["runbook"] == "docs/monitoring.md#targetdown"


def _down(scene: Scene) -> list[dict[str, Any]]:
    """The alerts that say of the application that it does not answer."""
    return [
        alert
        for alert in scene.prometheus.get("alerts")["alerts"]
        if (alert["labels"]["alertname"], alert["labels"].get("job")) == ("TargetDown", "application")
    ]
