"""Alerts fire in Prometheus on their conditions, and not before.

These tests run last in the scene, because they break it.
"""

from __future__ import annotations

from typing import Any

from infra.docker.engine import docker
from tests.conftest import Database
from tests.containers import wait_until
from tests.integration.monitoring.conftest import Scene
from tests.promises import promise

RAISED = {"pending", "firing"}
# A scrape takes 3 s, and longer on a busy machine.
PATIENCE_SECONDS = 240
_FILL = """
    INSERT INTO groundwork.cache_outbox (entity, entity_id) SELECT 'user', n FROM generate_series(1, 8000) AS n
"""


def raised(scene: Scene, alert: str) -> bool:
    return scene.prometheus.alerts().get(alert) in RAISED


@promise("each alert fires on its condition, and none fires on a healthy stack")
def test_an_alert_fires(scene: Scene) -> None:
    """An alert whose condition is true from the start: Redis has just been started."""
    wait_until(lambda: scene.prometheus.alerts().get("RedisRestarted") == "firing", PATIENCE_SECONDS)


@promise("each alert fires on its condition, and none fires on a healthy stack", control=True)
def test_nothing_is_raised_while_all_is_well(scene: Scene) -> None:
    wait_until(lambda: set(scene.prometheus.targets().values()) == {"up"}, PATIENCE_SECONDS)
    wait_until(lambda: scene.prometheus.value("redis_up") == 1, PATIENCE_SECONDS)
    for alert in ("TargetDown", "RedisDown", "PostgresDown", "OutboxDeep", "OutboxNotEmptied"):
        assert not raised(scene, alert), alert


def test_alerts_fire_for_a_stopped_redis_and_a_growing_outbox(scene: Scene) -> None:
    docker("stop", scene.redis.container)
    try:
        Database(scene.postgres, scene.database).psql(_FILL)
        for alert in ("RedisDown", "OutboxDeep", "CacheBreakerOpen"):
            wait_until(lambda alert=alert: raised(scene, alert), PATIENCE_SECONDS)  # type: ignore[misc]
    finally:
        docker("start", scene.redis.container)
    for alert in ("RedisDown", "OutboxDeep"):
        wait_until(lambda alert=alert: not raised(scene, alert), PATIENCE_SECONDS)  # type: ignore[misc]


def test_an_alert_fires_while_postgres_is_stopped(scene: Scene) -> None:
    docker("stop", scene.postgres.container)
    try:
        wait_until(lambda: raised(scene, "PostgresDown"), PATIENCE_SECONDS)
        # The exporter is still up; only the server is down.
        assert scene.prometheus.targets()["postgres"] == "up"
    finally:
        docker("start", scene.postgres.container)
    wait_until(lambda: scene.prometheus.value("pg_up") == 1, PATIENCE_SECONDS)
    wait_until(lambda: not raised(scene, "PostgresDown"), PATIENCE_SECONDS)


def test_an_alert_fires_for_an_application_that_exited(scene: Scene) -> None:
    scene.application.kill()
    wait_until(lambda: bool(_down(scene)), PATIENCE_SECONDS)
    (alert,) = _down(scene)
    assert alert["labels"]["severity"] == "critical"
    assert alert["annotations"]["runbook"] == "docs/monitoring.md#targetdown"


def _down(scene: Scene) -> list[dict[str, Any]]:
    """Return the alerts that the application does not answer."""
    return [
        alert
        for alert in scene.prometheus.get("alerts")["alerts"]
        if (alert["labels"]["alertname"], alert["labels"].get("job")) == ("TargetDown", "application")
    ]
