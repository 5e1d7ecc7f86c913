"""Evaluation of pgBackRest's JSON, in the form that its command reference (`info`) describes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast

import pytest

from ops.backup.errors import BackupError
from ops.backup.rds import Instance
from ops.doctor.backups import backups, judge
from ops.doctor.check_result import CheckStatus
from ops.doctor.examination import Examination
from ops.doctor.thresholds import Thresholds
from tests.cases import in_case

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


def test_the_newest_complete_backup_is_checked_by_its_age() -> None:
    cases: list[tuple[list[dict[str, Any]], CheckStatus, str]] = [
        ([], CheckStatus.SKIPPED, "backups are not set up"),
        ([stanza(40, 3)], CheckStatus.OK, "2023-3F, is 3 hours old; the repository has 2 backups"),
        ([stanza(30)], CheckStatus.WARN, "30 hours old"),
        ([stanza(60)], CheckStatus.FAIL, "60 hours old"),
        ([stanza()], CheckStatus.WARN, "no complete backup yet"),
        # pgBackRest marks a backup in this way only if it has found wrong checksums.
        ([stanza(1, error=True)], CheckStatus.FAIL, "2023-1F, has pages with a wrong checksum"),
        ([stanza(3), stanza(1, error=True)], CheckStatus.FAIL, "2023-1F, has pages with a wrong checksum"),
        (
            [stanza(3, error=True), stanza(1)],
            CheckStatus.OK,
            "2023-1F, is 1 hour old; the repository has 2 backups",
        ),
        ([stanza(code=2, message="no valid backups")], CheckStatus.WARN, "no complete backup yet"),
        (
            [stanza(code=1, message="missing stanza path")],
            CheckStatus.FAIL,
            "cannot read the repository: missing stanza path",
        ),
    ]
    for stanzas, status, text in cases:
        with in_case(stanzas, status, text):
            found = judge(stanzas, NOW, Thresholds())
            assert found.status is status
            assert text in found.text


def asked_of_rds(rds_instance: tuple[str, str] | None) -> Examination:
    stack = SimpleNamespace(name="prod", postgres_container=None, rds_instance=rds_instance)
    return cast(Examination, SimpleNamespace(stack=stack, thresholds=Thresholds(), now=lambda: NOW))


@pytest.mark.parametrize(
    ("minutes", "status"),
    [(5, CheckStatus.OK), (14, CheckStatus.OK), (16, CheckStatus.WARN), (61, CheckStatus.FAIL)],
)
def test_on_rds_the_newest_restorable_time_is_checked(
    monkeypatch: pytest.MonkeyPatch, minutes: int, status: CheckStatus
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


def test_an_rds_instance_without_backups_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    def window() -> Any:
        raise BackupError("RDS keeps no backups of groundwork-prod")

    monkeypatch.setattr(Instance, "at", lambda *_: SimpleNamespace(window=window))
    found = backups(asked_of_rds(("eu-central-1", "groundwork-prod")))
    assert (found.status, found.text) == (CheckStatus.FAIL, "RDS keeps no backups of groundwork-prod")
    assert "rds:DescribeDBInstances" in found.advice


def test_an_unreachable_rds_api_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Inside the VPC the servers can be reached, but RDS's API cannot."""
    for name, value in {
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_ENDPOINT_URL": "http://127.0.0.1:1",
    }.items():
        monkeypatch.setenv(name, value)
    found = backups(asked_of_rds(("eu-central-1", "groundwork-prod")))
    assert found.status is CheckStatus.SKIPPED
    assert "cannot reach RDS" in found.text


def test_without_container_and_instance_nothing_is_queried() -> None:
    assert backups(asked_of_rds(None)).status is CheckStatus.SKIPPED
