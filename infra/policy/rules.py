"""All the rules, and what they find in a stack's resources."""

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
    """What the rules find, by rule and resource; where nothing is found, all of them hold."""
    return [
        Finding(
            rule.id,
            rule.title,
            rule.severity,
            Status.VIOLATED if problem.is_violation else Status.UNDETERMINED,
            resource.urn,
            problem.property,
            problem.message,
            rule.fix,
            resource.position,
        )
        for rule in rules
        for resource in resources.of(*rule.types)
        if not resource.is_external
        for problem in rule.problems(resource, resources)
    ]
