"""The program's own resources, as production has them, with one property changed: exactly that property's rule fires.

What test_mutations.py changes in a stack made for the rules is changed here in what the program really makes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import pytest

from infra.policy.finding import Status
from infra.policy.resource import Resource, Resources
from infra.policy.rules import RULES, judge
from tests.policy_stack import Secret, good_stack
from tests.unit.policy.test_aws_program import declared, settings_of
from tests.unit.policy.test_mutations import FLIPS

TYPES = {each.name: each.type for each in good_stack()}
NOT_MADE = {"aws:ec2/securityGroupRule:SecurityGroupRule", "aws:secretsmanager/secretRotation:SecretRotation"}
# A change that names another resource names one of the stack that was made for the rules.
HERE = [flip for flip in FLIPS if TYPES[flip[0]] not in NOT_MADE and "Ref(" not in repr(flip[1])]


@pytest.fixture(scope="module")
def production(tmp_path_factory: pytest.TempPathFactory) -> Resources:
    return declared(tmp_path_factory.mktemp("production"), settings_of("prod"))


def violated(stack: Resources) -> set[str]:
    return {found.rule for found in judge(stack) if found.status is Status.VIOLATED}


def mutants(stack: Resources, type_: str, properties: Mapping[str, Any]) -> Iterator[Resources]:
    """The stack with the change, in each resource of the type by turns."""
    for chosen in stack.of(type_):
        yield Resources(flipped(each, properties) if each is chosen else each for each in stack)


def flipped(resource: Resource, properties: Mapping[str, Any]) -> Resource:
    values = {
        **resource.properties,
        **{key: value.value if isinstance(value, Secret) else value for key, value in properties.items()},
    }
    protect = values.pop("protect", resource.is_protected)
    kept = {key: value for key, value in values.items() if value is not None}
    return replace(resource, properties=kept, is_protected=protect)


@pytest.mark.parametrize(
    ("name", "properties", "rule"), HERE, ids=[f"{n}.{'+'.join(p)}-{r}" for n, p, r in HERE]
)
def test_exactly_the_propertys_rule_fires(
    production: Resources, name: str, properties: Mapping[str, Any], rule: str
) -> None:
    """In one of its type at least: a group that nothing of ours wears is no server's."""
    assert {rule} in [violated(each) for each in mutants(production, TYPES[name], properties)]


def test_the_program_makes_nothing_that_is_left_out_here(production: Resources) -> None:
    assert production.of(*NOT_MADE) == []


def test_every_rule_is_tried_on_the_program() -> None:
    untried = {rule.id for rule in RULES} - {rule for *_, rule in HERE}
    # It rotates no secret of its own, and makes no other kind of server.
    assert untried == {"SecretsManager.1", "SecretsManager.4", "Groundwork.coverage"}
