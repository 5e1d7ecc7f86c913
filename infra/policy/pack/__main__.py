"""The rules as a pack for Pulumi's policy engine: `pulumi preview --policy-pack infra/policy/pack`.

Rules that need only one resource are checked before the resource is created, even without a preview. The other rules
are checked for the whole stack. A violation stops the `up`. An undetermined result is only reported, because `up`
checks it again when the values are known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pulumi_policy import (
    EnforcementLevel,
    PolicyPack,
    ReportViolation,
    ResourceValidationArgs,
    ResourceValidationPolicy,
    Severity,
    StackValidationArgs,
    StackValidationPolicy,
)
from pulumi_policy.proxy import UnknownValueError

from infra.policy.finding import Finding, Status
from infra.policy.resource import Resource, Resources
from infra.policy.rule import Rule
from infra.policy.rules import IDS, RULES, judge
from infra.policy.value import UNKNOWN
from infra.policy.waiver import Waiver, read_waivers, today, waivers_of


def known(value: Any) -> Any:
    """Convert a value of the policy SDK to plain data. Its mappings and lists raise an error for unknown items."""
    if isinstance(value, Mapping):
        return {key: item(value, key) for key in value}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [item(value, index) for index in range(len(value))]
    return value


def item(container: Any, key: Any) -> Any:
    try:
        return known(container[key])
    except UnknownValueError:
        return UNKNOWN


def policy_of(rule: Rule) -> ResourceValidationPolicy | StackValidationPolicy:
    about: dict[str, Any] = {
        "name": rule.id,
        "description": rule.title,
        "enforcement_level": EnforcementLevel.MANDATORY,
        "severity": Severity(rule.severity.value),
        "remediation_steps": rule.fix,
    }

    def one(args: ResourceValidationArgs, report: ReportViolation) -> None:
        if args.resource_type in rule.types:
            alone = Resource(args.urn, args.resource_type, known(args.props), is_protected=args.opts.protect)
            report_findings(judge(Resources([alone]), [rule]), report, Status.VIOLATED)

    def whole(args: StackValidationArgs, report: ReportViolation) -> None:
        report_findings(judge(stack_of(args), [rule]), report, Status.VIOLATED)

    if rule.alone:
        return ResourceValidationPolicy(validate=one, **about)
    return StackValidationPolicy(validate=whole, **about)


def undetermined() -> StackValidationPolicy:
    def whole(args: StackValidationArgs, report: ReportViolation) -> None:
        report_findings(judge(stack_of(args)), report, Status.UNDETERMINED)

    return StackValidationPolicy(
        name="undetermined",
        description="A rule cannot be checked before `up`",
        validate=whole,
        enforcement_level=EnforcementLevel.ADVISORY,
    )


def stack_of(args: StackValidationArgs) -> Resources:
    return Resources(
        Resource(
            each.urn,
            each.resource_type,
            known(each.props),
            is_protected=each.opts.protect,
            dependencies={name: [r.urn for r in found] for name, found in each.property_dependencies.items()},
        )
        for each in args.resources
    )


def report_findings(findings: list[Finding], report: ReportViolation, status: Status) -> None:
    for found in findings:
        if found.status is status and not is_waived(found):
            report(f"{found.rule}: {found.property}: {found.message}; {found.fix}", found.urn)


def is_waived(found: Finding) -> bool:
    day = today()
    stack = found.urn.split(":", 3)[2]
    waivers = _WAIVERS.get(stack)
    if waivers is None:
        path = waivers_of(stack)
        waivers = _WAIVERS[stack] = read_waivers(path, IDS, day) if path.is_file() else ()
    return any(each.covers(found.urn, found.rule) and not each.is_expired(day) for each in waivers)


_WAIVERS: dict[str, tuple[Waiver, ...]] = {}

PolicyPack(name="groundwork", policies=[*map(policy_of, RULES), undetermined()])
