"""What pgBackRest's JSON means; the form is that of its command reference (`info`)."""

from __future__ import annotations

from typing import Any

import pytest

from ops.doctor.backups import judge
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
