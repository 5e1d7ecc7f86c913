"""The rules as a pack for Pulumi's policy engine: `pulumi preview --policy-pack infra/policy/pack`.

Rules that look at a resource alone are asked before it is made, also without a preview; the others of the whole
stack. A violation is mandatory. What cannot be said before `up` is told, and refuses nothing: `up` asks again, and
knows.
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

from infra.policy.catalogue import IDS
from infra.policy.finding import Finding, Status
from infra.policy.resource import Resource, Resources
from infra.policy.rule import Rule
from infra.policy.rules import RULES, judge
from infra.policy.value import UNKNOWN
from infra.policy.waiver import Waiver, read_waivers, today, waivers_of


def known(value: Any) -> Any:
    """A value of the policy SDK, whose mappings and lists raise where one is not known."""
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
            tell(judge(Resources([alone]), [rule]), report, Status.VIOLATED)

    def whole(args: StackValidationArgs, report: ReportViolation) -> None:
        tell(judge(stack_of(args), [rule]), report, Status.VIOLATED)

    if rule.alone:
        return ResourceValidationPolicy(validate=one, **about)
    return StackValidationPolicy(validate=whole, **about)


def undetermined() -> StackValidationPolicy:
    def whole(args: StackValidationArgs, report: ReportViolation) -> None:
        tell(judge(stack_of(args)), report, Status.UNDETERMINED)

    return StackValidationPolicy(
        name="undetermined",
        description="Whether a rule holds cannot be said",
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


def tell(findings: list[Finding], report: ReportViolation, status: Status) -> None:
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
