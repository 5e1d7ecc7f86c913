"""The assessment of a preview: findings, waived findings, and the exit code.

Text, JSON, SARIF and the pull request comment are rendered from it. It contains no property values.
"""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace

from infra.policy.data_loss_guard import losses
from infra.policy.finding import Finding, Status
from infra.policy.loss import LOSSES, Loss
from infra.policy.plan import Plan
from infra.policy.rule import Rule, Severity
from infra.policy.rules import RULES, judge
from infra.policy.waiver import Waiver
from ops.errors import Exit, OpsError

_SEVERITIES = list(Severity)
_STATUSES = list(Status)
# The kinds of assessments.
POLICY, DATA_LOSS = "policy", "firewall"
_CATALOGUES: Mapping[str, tuple[Rule | Loss, ...]] = {POLICY: RULES, DATA_LOSS: LOSSES}


@dataclass(frozen=True)
class WaiverNote:
    """A waiver that needs attention, because it has no effect or has expired."""

    waiver: Waiver
    problem: str


@dataclass(frozen=True)
class Assessment:
    """The result of checking a preview. `kind` is POLICY or DATA_LOSS; `findings` are sorted, the worst first.

    `applicable` counts the catalogue's entries that apply to at least one of the `resources`.
    """

    kind: str
    stack: str
    applicable: int
    resources: int
    findings: tuple[Finding, ...]
    notes: tuple[WaiverNote, ...]

    @property
    def catalogue(self) -> tuple[Rule | Loss, ...]:
        """The rules or guards that were checked."""
        return _CATALOGUES[self.kind]

    def of(self, status: Status) -> tuple[Finding, ...]:
        return tuple(finding for finding in self.findings if finding.status is status)

    @property
    def counts(self) -> dict[Status, int]:
        counted = Counter(finding.status for finding in self.findings)
        return {status: counted[status] for status in Status}

    @property
    def exit_code(self) -> Exit:
        counts = self.counts
        if self.kind == DATA_LOSS:
            # A possible loss is refused too.
            return Exit.REFUSED if counts[Status.VIOLATED] + counts[Status.UNDETERMINED] else Exit.FINE
        if counts[Status.VIOLATED]:
            return Exit.MISMATCH
        return Exit.PENDING if counts[Status.UNDETERMINED] else Exit.FINE


def check_policy(plan: Plan, waivers: Collection[Waiver], today: datetime.date) -> Assessment:
    """Check a preview's resources against the rules. Raise OpsError if the preview does not show all of them."""
    if plan.failed_on:
        raise _failed(plan)
    if plan.left_out:
        raise OpsError(
            f"the preview leaves out {plan.left_out} unchanged resources, which the rules need;"
            " create it with `groundwork preview --json` or `pulumi preview --json --show-sames`",
            Exit.USAGE,
        )
    resources = plan.resources
    applicable = sum(bool(resources.of(*rule.types)) for rule in RULES)
    return _assessed(
        POLICY,
        plan,
        applicable=applicable,
        resources=len(resources),
        findings=judge(resources),
        waivers=waivers,
        today=today,
    )


def check_losses(plan: Plan, waivers: Collection[Waiver], today: datetime.date) -> Assessment:
    """Find the data that a preview's steps would lose. Raise OpsError if the preview is incomplete."""
    urns = {step.urn for step in plan.steps}
    done = _assessed(
        DATA_LOSS,
        plan,
        applicable=len(LOSSES),
        resources=len(urns),
        findings=losses(plan.steps),
        waivers=waivers,
        today=today,
    )
    if plan.failed_on and done.exit_code is Exit.FINE:
        raise _failed(plan)
    return done


def _assessed(
    kind: str,
    plan: Plan,
    *,
    applicable: int,
    resources: int,
    findings: Iterable[Finding],
    waivers: Collection[Waiver],
    today: datetime.date,
) -> Assessment:
    found = list(findings)
    judged = [_waived(finding, waivers, today) for finding in found]
    judged.sort(key=lambda f: (_STATUSES.index(f.status), -_SEVERITIES.index(f.severity), f.rule, f.urn))
    ids = {each.id for each in _CATALOGUES[kind]}
    urns = {step.urn for step in plan.steps}
    notes = [
        WaiverNote(waiver, problem)
        for waiver in waivers
        # Waivers of the other kind are checked by the other command.
        if ids & set(waiver.rules)
        and (problem := _problem(waiver, plan, ids=ids, urns=urns, findings=found, today=today))
    ]
    return Assessment(
        kind=kind,
        stack=plan.stack,
        applicable=applicable,
        resources=resources,
        findings=tuple(judged),
        notes=tuple(notes),
    )


def _waived(finding: Finding, waivers: Collection[Waiver], today: datetime.date) -> Finding:
    for waiver in waivers:
        if waiver.covers(finding.urn, finding.rule) and not waiver.is_expired(today):
            return replace(finding, status=Status.WAIVED, waiver=waiver)
    return finding


def _problem(
    waiver: Waiver,
    plan: Plan,
    *,
    ids: Collection[str],
    urns: Collection[str],
    findings: Collection[Finding],
    today: datetime.date,
) -> str:
    """Return why a waiver needs attention, or an empty string."""
    if waiver.is_expired(today):
        return f"expired on {waiver.expires}; its findings count again"
    if waiver.urn not in urns:
        # An unchanged resource may be missing from the preview.
        return "" if plan.left_out else "names a resource that the stack does not have"
    waived = {finding.rule for finding in findings if finding.urn == waiver.urn}
    idle = [rule for rule in waiver.rules if rule in ids and rule not in waived]
    return f"has no effect on {', '.join(idle)}; remove it" if idle else ""


def _failed(plan: Plan) -> OpsError:
    where = ", ".join(urn.rpartition("::")[2] for urn in plan.failed_on if urn)
    return OpsError(
        f"the preview of stack {plan.stack!r} failed{f' at {where}' if where else ''} and is incomplete;"
        f" see why with `groundwork preview --stack {plan.stack}`"
    )
