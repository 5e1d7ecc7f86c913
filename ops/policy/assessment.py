"""What a preview was found to be: the findings, those that are waived, and the exit code they come to.

The model that text, JSON, SARIF and a report are written from. It holds no value of any property.
"""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from typing import Any

from infra.policy.finding import Finding, Status
from infra.policy.firewall import losses
from infra.policy.loss import LOSSES, Loss
from infra.policy.plan import Plan
from infra.policy.rule import Rule, Severity
from infra.policy.rules import RULES, judge
from infra.policy.waiver import Waiver
from ops.errors import Exit, OpsError

_SEVERITIES = list(Severity)
_STATUSES = list(Status)


@dataclass(frozen=True)
class WaiverNote:
    """A waiver that is to be looked at: it does nothing, or nothing any longer."""

    waiver: Waiver
    problem: str


@dataclass(frozen=True)
class Assessment:
    """`kind` is policy or firewall, `catalogue` what was asked, `findings` the worst first.

    `applicable` counts what of the catalogue had a resource to look at, of `resources`.
    """

    kind: str
    stack: str
    catalogue: tuple[Rule | Loss, ...]
    applicable: int
    resources: int
    findings: tuple[Finding, ...]
    notes: tuple[WaiverNote, ...]

    @property
    def counts(self) -> dict[Status, int]:
        counted = Counter(finding.status for finding in self.findings)
        return {status: counted[status] for status in Status}

    @property
    def exit_code(self) -> Exit:
        counts = self.counts
        if self.kind == "firewall":
            # What may be a loss is refused too.
            return Exit.REFUSED if counts[Status.VIOLATED] + counts[Status.UNDETERMINED] else Exit.FINE
        if counts[Status.VIOLATED]:
            return Exit.MISMATCH
        return Exit.PENDING if counts[Status.UNDETERMINED] else Exit.FINE

    def as_json(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "stack": self.stack,
            "rules": len(self.catalogue),
            "applicable": self.applicable,
            "resources": self.resources,
            "counts": {status.value: count for status, count in self.counts.items()},
            "findings": [_row(finding) for finding in self.findings],
            "waivers": [{**_waiver(note.waiver), "problem": note.problem} for note in self.notes],
            "exit_code": int(self.exit_code),
        }


def check_policy(plan: Plan, waivers: Collection[Waiver], today: datetime.date) -> Assessment:
    """Judge the resources that a preview would lead to. OpsError where it does not show all of them."""
    if plan.failed_on:
        raise _failed(plan)
    if plan.left_out:
        raise OpsError(
            f"the preview leaves out {plan.left_out} unchanged resources, which the rules look at too;"
            " make it by `groundwork preview --json`, or by `pulumi preview --json --show-sames`",
            Exit.USAGE,
        )
    resources = plan.resources
    applicable = sum(bool(resources.of(*rule.types)) for rule in RULES)
    return _assessed("policy", plan, RULES, applicable, len(resources), judge(resources), waivers, today)


def check_losses(plan: Plan, waivers: Collection[Waiver], today: datetime.date) -> Assessment:
    """Find what a preview's steps would lose. OpsError where it ended before it showed all of them."""
    urns = {step.urn for step in plan.steps}
    done = _assessed("firewall", plan, LOSSES, len(LOSSES), len(urns), losses(plan.steps), waivers, today)
    if plan.failed_on and done.exit_code is Exit.FINE:
        raise _failed(plan)
    return done


def _assessed(
    kind: str,
    plan: Plan,
    catalogue: tuple[Rule, ...] | tuple[Loss, ...],
    applicable: int,
    resources: int,
    findings: Iterable[Finding],
    waivers: Collection[Waiver],
    today: datetime.date,
) -> Assessment:
    found = list(findings)
    judged = [_waived(finding, waivers, today) for finding in found]
    judged.sort(key=lambda f: (_STATUSES.index(f.status), -_SEVERITIES.index(f.severity), f.rule, f.urn))
    ids = {each.id for each in catalogue}
    urns = {step.urn for step in plan.steps}
    notes = [
        WaiverNote(waiver, problem)
        for waiver in waivers
        # The other command's waivers are its own affair.
        if ids & set(waiver.rules) and (problem := _problem(waiver, ids, urns, found, plan, today))
    ]
    return Assessment(kind, plan.stack, tuple(catalogue), applicable, resources, tuple(judged), tuple(notes))


def _waived(finding: Finding, waivers: Collection[Waiver], today: datetime.date) -> Finding:
    for waiver in waivers:
        if waiver.covers(finding.urn, finding.rule) and not waiver.is_expired(today):
            return replace(finding, status=Status.WAIVED, waiver=waiver)
    return finding


def _problem(
    waiver: Waiver,
    ids: Collection[str],
    urns: Collection[str],
    findings: Collection[Finding],
    plan: Plan,
    today: datetime.date,
) -> str:
    """Why a waiver is to be looked at; empty where it does what it is for."""
    if waiver.is_expired(today):
        return f"expired on {waiver.expires}: what it waived counts again"
    if waiver.urn not in urns:
        # A resource that does not change may be left out.
        return "" if plan.left_out else "names a resource that the stack does not have"
    waived = {finding.rule for finding in findings if finding.urn == waiver.urn}
    idle = [rule for rule in waiver.rules if rule in ids and rule not in waived]
    return f"waives nothing of {', '.join(idle)}: take it out" if idle else ""


def _failed(plan: Plan) -> OpsError:
    where = ", ".join(urn.rpartition("::")[2] for urn in plan.failed_on if urn)
    return OpsError(
        f"the preview of stack {plan.stack!r} failed{f' at {where}' if where else ''}, and shows not everything;"
        f" `groundwork preview --stack {plan.stack}` says why"
    )


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
