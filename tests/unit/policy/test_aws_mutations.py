"""One changed property in the program's own resources, with production's settings: exactly that property's rule fires.

test_mutations.py does the same with a stack that was written for the rules.
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
# A change that refers to another resource uses one of the stack that was written for the rules.
HERE = [flip for flip in FLIPS if TYPES[flip[0]] not in NOT_MADE and "Ref(" not in repr(flip[1])]


@pytest.fixture(scope="module")
def production(tmp_path_factory: pytest.TempPathFactory) -> Resources:
    return declared(tmp_path_factory.mktemp("production"), settings_of("prod"))


def violated(stack: Resources) -> set[str]:
    return {found.rule for found in judge(stack) if found.status is Status.VIOLATED}


def mutants(stack: Resources, type_: str, properties: Mapping[str, Any]) -> Iterator[Resources]:
    """Yield the stack with the change, applied to each resource of the type in turn."""
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


def test_exactly_the_propertys_rule_fires(production: Resources) -> None:
    """In at least one resource of the type: a security group without a server, for example, violates no server rule."""
    for name, properties, rule in HERE:
        found = [violated(each) for each in mutants(production, TYPES[name], properties)]
        assert {rule} in found, (name, properties)


def test_no_resource_type_of_the_program_is_left_out(production: Resources) -> None:
    assert production.of(*NOT_MADE) == []


def test_every_rule_is_tested_with_the_program() -> None:
    untried = {rule.id for rule in RULES} - {rule for *_, rule in HERE}
    # The program rotates no secrets itself, and creates no other kinds of data stores.
    assert untried == {"SecretsManager.1", "SecretsManager.4", "Groundwork.coverage"}
