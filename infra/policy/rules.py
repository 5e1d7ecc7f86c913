"""All rules, and the function that applies them to a stack's resources."""

from __future__ import annotations

from collections.abc import Iterable

from infra.policy import coverage, elasticache, kms, network, rds, rds_surroundings, secrets
from infra.policy.finding import Finding, Status
from infra.policy.resource import Resources
from infra.policy.rule import Rule

RULES: tuple[Rule, ...] = tuple(
    found
    for module in (rds, rds_surroundings, elasticache, network, kms, secrets, coverage)
    for found in vars(module).values()
    if isinstance(found, Rule)
)


def judge(resources: Resources, rules: Iterable[Rule] = RULES) -> list[Finding]:
    """Return the findings of the rules, ordered by rule and resource."""
    return [
        Finding(
            rule=rule.id,
            title=rule.title,
            severity=rule.severity,
            status=Status.VIOLATED if problem.is_violation else Status.UNDETERMINED,
            urn=resource.urn,
            property=problem.property,
            message=problem.message,
            fix=rule.fix,
            position=resource.position,
        )
        for rule in rules
        for resource in resources.of(*rule.types)
        if not resource.is_external
        for problem in rule.problems(resource, resources)
    ]
