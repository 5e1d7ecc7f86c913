"""An assessment's JSON: it is read back unchanged, and other JSON is refused."""

from __future__ import annotations

import datetime
import json
from typing import Any

import pytest

from infra.policy.finding import Status
from infra.policy.plan import Plan
from infra.policy.waiver import Waiver
from ops.errors import OpsError
from ops.policy.assessment import Assessment, check_losses, check_policy
from ops.policy.document import as_json, parse_assessment
from tests.cases import in_case
from tests.policy_stack import changed, good_stack, preview

TODAY = datetime.date(2026, 3, 1)
URN = next(each.urn for each in good_stack() if each.name == "postgres")
BAD = changed(good_stack(), "postgres", multiAz=False, deletionProtection=False, engineVersion="14.1")
PLAN = Plan.parse(json.dumps(preview(good_stack(), BAD)))
WAIVERS = [
    Waiver(URN, ("RDS.5", "DataLoss.downgrade"), "a trial", TODAY),
    Waiver(URN, ("RDS.2", "DataLoss.delete"), "idle", TODAY),
]


@pytest.mark.parametrize("judge", [check_policy, check_losses])
def test_an_assessment_is_read_back_unchanged(judge: Any) -> None:
    assessment: Assessment = judge(PLAN, WAIVERS, TODAY)
    assert {finding.status for finding in assessment.findings} == {Status.VIOLATED, Status.WAIVED}
    assert assessment.notes
    content = as_json(assessment)
    assert parse_assessment(json.dumps(content), "findings.json") == assessment


def test_a_finding_in_an_unknown_format_is_refused() -> None:
    """A finding with an unknown status would not be counted, and so would not stop an `up`."""
    cases: list[tuple[str, Any]] = [
        ("status", "fine"),
        ("severity", "dire"),
        ("status", None),
        ("waiver", {}),
        ("waiver", "yes"),
    ]
    for field, value in cases:
        with in_case(field, value):
            content = as_json(check_losses(PLAN, [], TODAY))
            content["findings"][0][field] = value
            with pytest.raises(OpsError, match=r"^findings\.json has no findings; "):
                parse_assessment(json.dumps(content), "findings.json")
