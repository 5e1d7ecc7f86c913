"""Each rule on its own: its examples, and its result for unknown values."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from infra.policy.resource import Resource, Resources
from infra.policy.rule import Example, Problem, Rule
from infra.policy.rules import RULES
from infra.policy.value import UNKNOWN
from tests.policy_stack import CANARY
from tests.promises import promise

# The controls that a stack on AWS must meet.
CONTROLS = {
    *(f"RDS.{n}" for n in (2, 3, 5, 6, 8, 9, 10, 11, 13, 17, 18, 20, 21, 22, 23, 25, 36, 38, 46)),
    *(f"ElastiCache.{n}" for n in range(1, 8)),
    *("EC2.2", "EC2.18", "EC2.19", "KMS.4", "SecretsManager.1", "SecretsManager.4"),
}
# Properties of examples that do not affect the rule's result.
IRRELEVANT = {
    # A user other than `default` may have any properties.
    ("ElastiCache.6", "app", "userId"),
    ("ElastiCache.6", "app", "userName"),
    ("ElastiCache.6", "app", "accessString"),
    ("ElastiCache.reserved-memory", "group", "family"),
    ("ElastiCache.maxmemory-policy", "group", "family"),
    # The result does not depend on the group to which the rule belongs.
    ("EC2.18", "ingress", "securityGroupId"),
    # It matters that a group is set, not which one.
    ("EC2.19", "ingress", "referencedSecurityGroupId"),
    ("SecretsManager.1", "rotation", "rotationRules"),
}


def problems(rule: Rule, example: Example) -> list[Problem]:
    resources = Resources(example)
    return [p for r in resources.of(*rule.types) for p in rule.problems(r, resources)]


def with_one_value(example: Example, value: Any) -> Iterator[tuple[Resource, str, Example]]:
    """Yield the example once for each of its properties, with another value for that property."""
    for index, resource in enumerate(example):
        for name in resource.properties:
            changed = list(example)
            changed[index] = replace(resource, properties={**resource.properties, name: value})
            yield resource, name, changed


UNKNOWNS = [
    (rule, example, (rule.id, resource.name, name))
    for rule in RULES
    for resource, name, example in with_one_value(rule.good, UNKNOWN)
]
SECRETS = {
    f"{rule.id}-{index}-{resource.name}.{name}": (rule, changed)
    for rule in RULES
    for index, example in enumerate([rule.good, *rule.bad])
    for resource, name, changed in with_one_value(example, CANARY)
}


def test_every_control_has_its_rule() -> None:
    assert {rule.id for rule in RULES} >= CONTROLS


def test_rule_ids_are_unique() -> None:
    assert len({rule.id for rule in RULES}) == len(RULES)


@promise("each rule accepts its good example and reports each bad one", control=True)
def test_a_rule_accepts_its_good_example() -> None:
    for rule in RULES:
        assert rule.types[0] in {resource.type for resource in rule.good} or len(rule.types) > 1, rule.id
        assert problems(rule, rule.good) == [], rule.id


@promise("each rule accepts its good example and reports each bad one")
def test_a_rule_rejects_each_bad_example() -> None:
    for rule in RULES:
        for n, example in enumerate(rule.bad, 1):
            assert any(problem.is_violation for problem in problems(rule, example)), f"{rule.id}-{n}"


@promise("an unknown value never passes a rule")
def test_an_unknown_value_never_passes() -> None:
    for rule, example, which in UNKNOWNS:
        found = {problem.is_violation for problem in problems(rule, example)}
        assert found == (set() if which in IRRELEVANT else {False}), which


def test_every_irrelevant_property_is_in_an_example() -> None:
    assert {which for *_, which in UNKNOWNS} >= IRRELEVANT


def test_no_problem_contains_a_value() -> None:
    assert [id_ for id_, (rule, example) in SECRETS.items() if CANARY in repr(problems(rule, example))] == []


def test_an_alone_rule_needs_only_the_resource_itself() -> None:
    for rule in (rule for rule in RULES if rule.alone):
        for example in (rule.good, *rule.bad):
            resources = Resources(example)
            for resource in resources.of(*rule.types):
                around = [p for p in rule.problems(resource, resources) if p.is_violation]
                alone = [p for p in rule.problems(resource, Resources([resource])) if p.is_violation]
                assert alone == around, rule.id
