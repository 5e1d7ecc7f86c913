"""Alerts are raised by what they are about, seen through Prometheus, and not before. The last tests of the scene:
it is broken here."""

from __future__ import annotations

import pytest

from infra.docker.engine import docker
from tests.conftest import Database
from tests.containers import wait_until
from tests.integration.monitoring.conftest import Scene

RAISED = {"pending", "firing"}
_FILL = """
    INSERT INTO groundwork.cache_outbox (entity, entity_id) SELECT 'user', n FROM generate_series(1, 8000) AS n
"""


def raised(scene: Scene, alert: str) -> bool:
    return scene.prometheus.alerts().get(alert) in RAISED


def test_an_alert_fires(scene: Scene) -> None:
    """The one that is true from the start: Redis has just been started."""
    wait_until(lambda: scene.prometheus.alerts().get("RedisRestarted") == "firing", 60)


@pytest.mark.parametrize("alert", ["TargetDown", "RedisDown", "OutboxDeep", "OutboxNotEmptied"])
def test_nothing_is_raised_while_all_is_well(scene: Scene, alert: str) -> None:
    wait_until(lambda: set(scene.prometheus.targets().values()) == {"up"}, 60)
    wait_until(lambda: scene.prometheus.value("redis_up") == 1, 60)
    assert not raised(scene, alert)


def test_a_stopped_redis_and_the_outbox_that_it_leaves_full_are_told(scene: Scene) -> None:
    docker("stop", scene.redis.container)
    try:
        Database(scene.postgres, scene.database).psql(_FILL)
        for alert in ("RedisDown", "OutboxDeep", "CacheBreakerOpen"):
            wait_until(lambda alert=alert: raised(scene, alert), 90)  # type: ignore[misc]
    finally:
        docker("start", scene.redis.container)
    for alert in ("RedisDown", "OutboxDeep"):
        wait_until(lambda alert=alert: not raised(scene, alert), 90)  # type: ignore[misc]


def test_an_application_that_ended_is_told(scene: Scene) -> None:
    scene.application.kill()
    wait_until(lambda: raised(scene, "TargetDown"), 60)
    (alert,) = [
        alert
        for alert in scene.prometheus.get("alerts")["alerts"]
        if alert["labels"]["alertname"] == "TargetDown"
    ]
    assert alert["labels"]["job"] == "application"
    assert alert["labels"]["severity"] == "critical"
    assert alert["annotations"]["runbook"] == "docs/monitoring.md#targetdown"
