"""What a preview was found to be: the findings, those that are waived, and the exit code they come to.

The model that text, JSON, SARIF and a comment are written from. It holds no value of any property.
"""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace

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
# The kinds, and what each asks.
POLICY, FIREWALL = "policy", "firewall"
_CATALOGUES: Mapping[str, tuple[Rule | Loss, ...]] = {POLICY: RULES, FIREWALL: LOSSES}


@dataclass(frozen=True)
class WaiverNote:
    """A waiver that is to be looked at: it does nothing, or nothing any longer."""

    waiver: Waiver
    problem: str


@dataclass(frozen=True)
class Assessment:
    """`kind` is POLICY or FIREWALL, `findings` have the worst first.

    `applicable` counts what of the catalogue had a resource to look at, of `resources`.
    """

    kind: str
    stack: str
    applicable: int
    resources: int
    findings: tuple[Finding, ...]
    notes: tuple[WaiverNote, ...]

    @property
    def catalogue(self) -> tuple[Rule | Loss, ...]:
        """What was asked."""
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
        if self.kind == FIREWALL:
            # What may be a loss is refused too.
            return Exit.REFUSED if counts[Status.VIOLATED] + counts[Status.UNDETERMINED] else Exit.FINE
        if counts[Status.VIOLATED]:
            return Exit.MISMATCH
        return Exit.PENDING if counts[Status.UNDETERMINED] else Exit.FINE


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
    return _assessed(POLICY, plan, applicable, len(resources), judge(resources), waivers, today)


def check_losses(plan: Plan, waivers: Collection[Waiver], today: datetime.date) -> Assessment:
    """Find what a preview's steps would lose. OpsError where it ended before it showed all of them."""
    urns = {step.urn for step in plan.steps}
    done = _assessed(FIREWALL, plan, len(LOSSES), len(urns), losses(plan.steps), waivers, today)
    if plan.failed_on and done.exit_code is Exit.FINE:
        raise _failed(plan)
    return done


def _assessed(
    kind: str,
    plan: Plan,
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
        # The other command's waivers are its own affair.
        if ids & set(waiver.rules) and (problem := _problem(waiver, ids, urns, found, plan, today))
    ]
    return Assessment(kind, plan.stack, applicable, resources, tuple(judged), tuple(notes))


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
