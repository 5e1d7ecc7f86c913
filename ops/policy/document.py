"""An assessment as JSON, as `policy check --json` and `policy firewall --json` print it and the comment reads it."""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping
from typing import Any

from infra.policy.finding import Finding, Status
from infra.policy.rule import Severity
from infra.policy.waiver import Waiver
from ops.errors import Exit, OpsError
from ops.policy.assessment import DATA_LOSS, POLICY, Assessment, WaiverNote


def as_json(assessment: Assessment) -> dict[str, Any]:
    return {
        "kind": assessment.kind,
        "stack": assessment.stack,
        "rules": len(assessment.catalogue),
        "applicable": assessment.applicable,
        "resources": assessment.resources,
        "counts": {status.value: count for status, count in assessment.counts.items()},
        "findings": [_row(finding) for finding in assessment.findings],
        "waivers": [{**_waiver(note.waiver), "problem": note.problem} for note in assessment.notes],
        "exit_code": int(assessment.exit_code),
    }


def parse_assessment(text: str, where: str) -> Assessment:
    """Parse the output of `as_json`. Raise OpsError (2) for anything else."""
    try:
        content = json.loads(text)
        kind = content["kind"]
        if kind not in (POLICY, DATA_LOSS):
            raise ValueError(kind)
        return Assessment(
            kind=kind,
            stack=str(content["stack"]),
            applicable=int(content["applicable"]),
            resources=int(content["resources"]),
            findings=tuple(map(_finding, content["findings"])),
            notes=tuple(WaiverNote(_parsed(each), str(each["problem"])) for each in content["waivers"]),
        )
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
        raise OpsError(
            f"{where} has no findings; create it with `policy check --json` or `policy firewall --json`",
            Exit.USAGE,
        ) from error


def _row(finding: Finding) -> dict[str, Any]:
    return {
        "rule": finding.rule,
        "title": finding.title,
        "severity": finding.severity.value,
        "status": finding.status.value,
        "urn": finding.urn,
        "property": finding.property,
        "message": finding.message,
        "fix": finding.fix,
        "position": finding.position or None,
        "waiver": None if finding.waiver is None else _waiver(finding.waiver),
    }


def _waiver(waiver: Waiver) -> dict[str, Any]:
    return {
        "urn": waiver.urn,
        "rules": list(waiver.rules),
        "reason": waiver.reason,
        "expires": waiver.expires.isoformat(),
    }


def _finding(row: Mapping[str, Any]) -> Finding:
    waiver = row["waiver"]
    return Finding(
        rule=str(row["rule"]),
        title=str(row["title"]),
        severity=Severity(row["severity"]),
        status=Status(row["status"]),
        urn=str(row["urn"]),
        property=str(row["property"]),
        message=str(row["message"]),
        fix=str(row["fix"]),
        position=str(row["position"] or ""),
        waiver=None if waiver is None else _parsed(waiver),
    )


def _parsed(waiver: Mapping[str, Any]) -> Waiver:
    return Waiver(
        str(waiver["urn"]),
        tuple(map(str, waiver["rules"])),
        str(waiver["reason"]),
        datetime.date.fromisoformat(waiver["expires"]),
    )
