"""An assessment as JSON: `policy check --json` and `policy firewall --json` print it, the comment is made from it."""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping
from typing import Any

from infra.policy.finding import Finding, Status
from infra.policy.rule import Severity
from infra.policy.waiver import Waiver
from ops.errors import Exit, OpsError
from ops.policy.assessment import FIREWALL, POLICY, Assessment, WaiverNote


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
    """What `as_json` wrote; OpsError (2) for anything else."""
    try:
        content = json.loads(text)
        kind = content["kind"]
        if kind not in (POLICY, FIREWALL):
            raise ValueError(kind)
        return Assessment(
            kind,
            str(content["stack"]),
            int(content["applicable"]),
            int(content["resources"]),
            tuple(map(_finding, content["findings"])),
            tuple(WaiverNote(_parsed(each), str(each["problem"])) for each in content["waivers"]),
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise OpsError(
            f"{where} holds no findings; `policy check --json` and `policy firewall --json` make them",
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
        str(row["rule"]),
        str(row["title"]),
        Severity(row["severity"]),
        Status(row["status"]),
        str(row["urn"]),
        str(row["property"]),
        str(row["message"]),
        str(row["fix"]),
        str(row["position"] or ""),
        None if waiver is None else _parsed(waiver),
    )


def _parsed(waiver: Mapping[str, Any]) -> Waiver:
    return Waiver(
        str(waiver["urn"]),
        tuple(map(str, waiver["rules"])),
        str(waiver["reason"]),
        datetime.date.fromisoformat(waiver["expires"]),
    )
