"""Render an assessment as SARIF 2.1.0, which code hosts and editors show next to the declaring lines."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from infra.policy.finding import Finding, Status
from infra.policy.loss import Loss
from infra.policy.rule import Rule, Severity
from ops.policy.assessment import Assessment

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
# The location of findings without a position in the program.
_PROGRAM = "infra/__main__.py"
_LEVELS: Mapping[Severity, str] = {
    Severity.LOW: "note",
    Severity.MEDIUM: "warning",
    Severity.HIGH: "error",
    Severity.CRITICAL: "error",
}
# From 0 to 10. GitHub sorts by this score.
_SCORES: Mapping[Severity, str] = {
    Severity.LOW: "3.0",
    Severity.MEDIUM: "5.0",
    Severity.HIGH: "8.0",
    Severity.CRITICAL: "9.5",
}


def as_sarif(assessment: Assessment) -> dict[str, Any]:
    """Return a SARIF log with one run. Undetermined findings have kind `open`, waived ones are suppressed."""
    ids = [each.id for each in assessment.catalogue]
    return {
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {
                    "driver": {
                        "name": "groundwork",
                        "version": version("groundwork"),
                        "rules": [_rule(each) for each in assessment.catalogue],
                    }
                },
                # Keeps runs for the same commit apart if they are of different stacks or kinds.
                "automationDetails": {"id": f"groundwork/{assessment.kind}/{assessment.stack}/"},
                "originalUriBaseIds": {"ROOT": {"description": {"text": "The folder of Pulumi.yaml."}}},
                "columnKind": "unicodeCodePoints",
                "results": [_result(finding, ids) for finding in assessment.findings],
            }
        ],
    }


def _rule(each: Rule | Loss) -> dict[str, Any]:
    return {
        "id": each.id,
        "shortDescription": {"text": each.title},
        "help": {"text": each.fix},
        "defaultConfiguration": {"level": _LEVELS[each.severity]},
        "properties": {"security-severity": _SCORES[each.severity], "tags": ["security"]},
    }


def _result(finding: Finding, ids: list[str]) -> dict[str, Any]:
    is_open = finding.status is Status.UNDETERMINED
    result: dict[str, Any] = {
        "ruleId": finding.rule,
        "ruleIndex": ids.index(finding.rule),
        "kind": "open" if is_open else "fail",
        # SARIF has no level for a result that is not a failure.
        "level": "none" if is_open else _LEVELS[finding.severity],
        "message": {"text": f"{finding.resource}: {finding.property}: {finding.message}; {finding.fix}"},
        "locations": [_location(finding)],
        "partialFingerprints": {"resourceProperty/v1": _fingerprint(finding)},
    }
    if finding.waiver is not None:
        result["suppressions"] = [
            {
                "kind": "external",
                "status": "accepted",
                "justification": f"{finding.waiver.reason} (until {finding.waiver.expires})",
            }
        ]
    return result


def _location(finding: Finding) -> dict[str, Any]:
    file, _, line = (finding.position or f"{_PROGRAM}:1").rpartition(":")
    return {
        "physicalLocation": {
            "artifactLocation": {"uri": file, "uriBaseId": "ROOT"},
            "region": {"startLine": int(line)},
        },
        "logicalLocations": [
            {"name": finding.resource, "fullyQualifiedName": finding.urn, "kind": "resource"}
        ],
    }


def _fingerprint(finding: Finding) -> str:
    """Return a fingerprint that stays the same if lines move."""
    parts = "\0".join((finding.rule, finding.urn, finding.property, finding.message))
    return hashlib.sha256(parts.encode()).hexdigest()[:32]
