"""What pgBackRest's JSON means; the form is that of its command reference (`info`)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast

import pytest

from ops.backup.errors import BackupError
from ops.backup.rds import Instance
from ops.doctor.backups import backups, judge
from ops.doctor.examination import Examination
from ops.doctor.finding import Status
from ops.doctor.thresholds import Thresholds

NOW = 1_700_000_000.0
HOUR = 3600


def stanza(*hours_ago: float, code: int = 0, message: str = "ok", error: bool = False) -> dict[str, Any]:
    return {
        "name": "groundwork",
        "status": {"code": code, "message": message, "lock": {"backup": {"held": False}}},
        "backup": [
            {
                "label": f"2023-{hours:g}F",
                "type": "full",
                "error": error,
                "timestamp": {"start": NOW - hours * HOUR - 60, "stop": NOW - hours * HOUR},
            }
            for hours in hours_ago
        ],
    }


@pytest.mark.parametrize(
    ("stanzas", "status", "text"),
    [
        ([], Status.SKIPPED, "no backups are set up"),
        ([stanza(40, 3)], Status.OK, "2023-3F, is 3 hours old; there are 2"),
        ([stanza(30)], Status.WARN, "30 hours old"),
        ([stanza(60)], Status.FAIL, "60 hours old"),
        ([stanza()], Status.WARN, "none yet that is whole"),
        ([stanza(1, error=True)], Status.WARN, "none yet that is whole"),
        ([stanza(code=2, message="no valid backups")], Status.WARN, "none yet that is whole"),
        ([stanza(code=1, message="missing stanza path")], Status.FAIL, "cannot be read: missing stanza path"),
    ],
)
def test_the_newest_whole_backup_is_judged_by_its_age(
    stanzas: list[dict[str, Any]], status: Status, text: str
) -> None:
    found = judge(stanzas, NOW, Thresholds())
    assert found.status is status
    assert text in found.text


def asked_of_rds(rds_instance: tuple[str, str] | None) -> Examination:
    stack = SimpleNamespace(name="prod", postgres_container=None, rds_instance=rds_instance)
    return cast(Examination, SimpleNamespace(stack=stack, thresholds=Thresholds(), now=lambda: NOW))


@pytest.mark.parametrize(
    ("minutes", "status"), [(5, Status.OK), (14, Status.OK), (16, Status.WARN), (61, Status.FAIL)]
)
def test_on_rds_the_newest_restorable_moment_is_judged(
    monkeypatch: pytest.MonkeyPatch, minutes: int, status: Status
) -> None:
    newest = datetime.fromtimestamp(NOW, UTC) - timedelta(minutes=minutes)
    made: list[tuple[str, str]] = []

    def at(region: str, name: str, stack: str, connect_seconds: float) -> Any:
        made.append((region, name))
        return SimpleNamespace(window=lambda: (newest - timedelta(days=14), newest))

    monkeypatch.setattr(Instance, "at", at)
    found = backups(asked_of_rds(("eu-central-1", "groundwork-prod")))
    assert made == [("eu-central-1", "groundwork-prod")]
    assert found.status is status
    assert f"is {minutes} minutes old, the oldest 14 days before it" in found.text


def test_an_rds_that_keeps_none_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    def window() -> Any:
        raise BackupError("RDS keeps no backups of groundwork-prod")

    monkeypatch.setattr(Instance, "at", lambda *_: SimpleNamespace(window=window))
    found = backups(asked_of_rds(("eu-central-1", "groundwork-prod")))
    assert (found.status, found.text) == (Status.FAIL, "RDS keeps no backups of groundwork-prod")
    assert "rds:DescribeDBInstances" in found.advice


def test_an_rds_that_is_not_reached_from_here_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    """The servers are seen from inside the VPC, where no way leads to RDS itself."""
    for name, value in {
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_ENDPOINT_URL": "http://127.0.0.1:1",
    }.items():
        monkeypatch.setenv(name, value)
    found = backups(asked_of_rds(("eu-central-1", "groundwork-prod")))
    assert found.status is Status.SKIPPED
    assert "RDS is not to be reached" in found.text


def test_with_neither_container_nor_instance_nobody_is_asked() -> None:
    assert backups(asked_of_rds(None)).status is Status.SKIPPED
