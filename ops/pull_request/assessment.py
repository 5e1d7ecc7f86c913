"""What `groundwork policy check --json` and `policy firewall --json` found of a stack, read back from their files."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from ops.errors import Exit, OpsError

POLICY, FIREWALL = "policy", "firewall"
_FIELDS = ("rule", "title", "severity", "status", "urn", "property", "message", "fix")
_MADE_BY = "`policy check --json` and `policy firewall --json` make them"


@dataclass(frozen=True)
class Finding:
    """One of them, in the words of the command; `waived` says why and until when, or is empty."""

    rule: str
    title: str
    severity: str
    status: str
    urn: str
    property_name: str
    message: str
    fix: str
    waived: str

    @property
    def resource(self) -> str:
        return self.urn.rpartition("::")[2]


@dataclass(frozen=True)
class Assessment:
    """`kind` is POLICY or FIREWALL. `findings` are in the command's order, which has the worst first."""

    kind: str
    stack: str
    rules: int
    applicable: int
    findings: tuple[Finding, ...]
    notes: tuple[str, ...]

    def of(self, status: str) -> tuple[Finding, ...]:
        return tuple(finding for finding in self.findings if finding.status == status)


def parse_assessment(text: str, where: str) -> Assessment:
    """OpsError (2) for what is none."""
    try:
        content = json.loads(text)
        kind = content["kind"]
        if kind not in (POLICY, FIREWALL):
            raise ValueError(kind)
        return Assessment(
            kind,
            str(content["stack"]),
            int(content["rules"]),
            int(content["applicable"]),
            tuple(map(_finding, content["findings"])),
            tuple(f"{', '.join(w['rules'])} for {w['urn']}: {w['problem']}" for w in content["waivers"]),
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise OpsError(f"{where} holds no findings; {_MADE_BY}", Exit.USAGE) from error


def _finding(row: dict[str, Any]) -> Finding:
    waiver = row.get("waiver")
    waived = "" if waiver is None else f"until {waiver['expires']}: {waiver['reason']}"
    told = {"property_name" if name == "property" else name: str(row[name]) for name in _FIELDS}
    return Finding(**told, waived=waived)
