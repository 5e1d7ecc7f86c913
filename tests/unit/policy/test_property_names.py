"""Every resource type and property that the rules, the data-loss guard and the tests' stack use exists in pulumi-aws.

The test reads the package's source, because importing the package takes ten seconds.
"""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from infra.policy.rules import RULES
from infra.policy.stateful import STATEFUL
from tests.cases import in_case
from tests.policy_stack import good_stack

_FOUND = importlib.util.find_spec("pulumi_aws")
pytestmark = pytest.mark.skipif(_FOUND is None, reason="the aws extra is not installed")


def test_a_rules_examples_use_existing_names() -> None:
    """A rule with a misspelt property would always pass."""
    for rule in RULES:
        with in_case(rule):
            for example in (rule.good, *rule.bad):
                for resource in example:
                    assert set(resource.properties) <= inputs_of(resource.type), resource.urn


def test_the_compliant_stack_uses_existing_names() -> None:
    for declared in good_stack():
        assert set(declared.properties) <= inputs_of(declared.type), declared.urn


def test_the_data_loss_guard_uses_existing_names() -> None:
    for type_ in (t for t in STATEFUL if t.startswith("aws:")):
        with in_case(type_):
            assert {guard.property.partition(".")[0] for guard in STATEFUL[type_].guards} <= inputs_of(type_)


@pytest.mark.parametrize("property_", ["publicAccessible", "endpoint"])
def test_a_misspelt_input_and_an_output_are_reported_as_missing(property_: str) -> None:
    inputs = inputs_of("aws:rds/instance:Instance")
    assert "publiclyAccessible" in inputs
    assert property_ not in inputs


@cache
def inputs_of(type_: str) -> frozenset[str]:
    """Return the inputs of a resource by Pulumi's names: the getters of the SDK's class of arguments."""
    assert _FOUND is not None
    assert _FOUND.submodule_search_locations
    folder = Path(_FOUND.submodule_search_locations[0], type_.split(":")[1].partition("/")[0])
    source = next(text for path in folder.glob("*.py") if f"'{type_}'," in (text := path.read_text()))
    arguments = next(
        node
        for node in ast.parse(source).body
        if isinstance(node, ast.ClassDef)
        and not node.name.startswith("_")
        and any("input_type" in ast.unparse(decorator) for decorator in node.decorator_list)
    )
    return frozenset(_getters(arguments))


def _getters(arguments: ast.ClassDef) -> Iterator[str]:
    for function in arguments.body:
        if isinstance(function, ast.FunctionDef):
            for decorator in function.decorator_list:
                if isinstance(decorator, ast.Call):
                    name = decorator.keywords[0].value if decorator.keywords else ast.Constant(function.name)
                    assert isinstance(name, ast.Constant)
                    yield str(name.value)
                elif ast.unparse(decorator) == "pulumi.getter":
                    yield function.name
