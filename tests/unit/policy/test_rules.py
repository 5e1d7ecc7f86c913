"""Each rule by itself: its examples, what it says of values that are not known, and what it knows of pulumi-aws."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from infra.policy.resource import Resource, Resources
from infra.policy.rule import Example, Problem, Rule
from infra.policy.rules import RULES
from infra.policy.value import UNKNOWN
from tests.policy_stack import CANARY

every_rule = pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)

# The controls that a stack on AWS has to meet.
CONTROLS = {
    *(f"RDS.{n}" for n in (2, 3, 5, 6, 8, 9, 10, 11, 13, 17, 18, 20, 21, 22, 23, 25, 36, 38, 46)),
    *(f"ElastiCache.{n}" for n in range(1, 8)),
    *("EC2.2", "EC2.18", "EC2.19", "KMS.4", "SecretsManager.1", "SecretsManager.4"),
}
# Properties of examples that say nothing of whether the rule holds.
IRRELEVANT = {
    # Another user than `default` may be anything.
    ("ElastiCache.6", "app", "userId"),
    ("ElastiCache.6", "app", "userName"),
    ("ElastiCache.6", "app", "accessString"),
    ("ElastiCache.reserved-memory", "group", "family"),
    ("ElastiCache.maxmemory-policy", "group", "family"),
    # Whichever group the rule is of, it lets nobody in from everywhere.
    ("EC2.18", "ingress", "securityGroupId"),
    # That it is a group is what counts, and not which.
    ("EC2.19", "ingress", "referencedSecurityGroupId"),
    ("SecretsManager.1", "rotation", "rotationRules"),
}


def problems(rule: Rule, example: Example) -> list[Problem]:
    resources = Resources(example)
    return [p for r in resources.of(*rule.types) for p in rule.problems(r, resources)]


def with_one_value(example: Example, value: Any) -> Iterator[tuple[Resource, str, Example]]:
    """The example once for each of its properties, that one having another value."""
    for index, resource in enumerate(example):
        for name in resource.properties:
            changed = list(example)
            changed[index] = replace(resource, properties={**resource.properties, name: value})
            yield resource, name, changed


UNKNOWNS = [
    pytest.param(rule, example, (rule.id, resource.name, name), id=f"{rule.id}-{resource.name}.{name}")
    for rule in RULES
    for resource, name, example in with_one_value(rule.good, UNKNOWN)
]
SECRETS = [
    pytest.param(rule, changed, id=f"{rule.id}-{index}-{resource.name}.{name}")
    for rule in RULES
    for index, example in enumerate([rule.good, *rule.bad])
    for resource, name, changed in with_one_value(example, CANARY)
]


def test_every_control_has_its_rule() -> None:
    assert {rule.id for rule in RULES} >= CONTROLS


def test_no_two_rules_have_one_id() -> None:
    assert len({rule.id for rule in RULES}) == len(RULES)


@every_rule
def test_a_rule_holds_for_its_good_example(rule: Rule) -> None:
    assert rule.types[0] in {resource.type for resource in rule.good} or len(rule.types) > 1
    assert problems(rule, rule.good) == []


@pytest.mark.parametrize(
    ("rule", "example"),
    [pytest.param(rule, bad, id=f"{rule.id}-{n}") for rule in RULES for n, bad in enumerate(rule.bad, 1)],
)
def test_a_rule_is_violated_by_each_bad_example(rule: Rule, example: Example) -> None:
    assert any(problem.is_violation for problem in problems(rule, example))


@pytest.mark.parametrize(("rule", "example", "which"), UNKNOWNS)
def test_a_value_that_is_not_known_is_never_good(
    rule: Rule, example: Example, which: tuple[str, str, str]
) -> None:
    if which in IRRELEVANT:
        assert problems(rule, example) == []
    else:
        assert [problem.is_violation for problem in problems(rule, example)] != []
        assert not any(problem.is_violation for problem in problems(rule, example))


def test_what_is_called_irrelevant_is_in_an_example() -> None:
    assert {param.values[2] for param in UNKNOWNS} >= IRRELEVANT


@pytest.mark.parametrize(("rule", "example"), SECRETS)
def test_no_problem_shows_a_value(rule: Rule, example: Example) -> None:
    assert CANARY not in repr(problems(rule, example))


@pytest.mark.parametrize("rule", [r for r in RULES if r.alone], ids=lambda rule: rule.id)
def test_what_a_rule_that_is_asked_before_a_resource_is_made_finds_shows_on_it_alone(rule: Rule) -> None:
    for example in (rule.good, *rule.bad):
        resources = Resources(example)
        for resource in resources.of(*rule.types):
            around = [p for p in rule.problems(resource, resources) if p.is_violation]
            assert [p for p in rule.problems(resource, Resources([resource])) if p.is_violation] == around
