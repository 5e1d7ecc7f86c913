"""The resources that a property names, for known and unknown values."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from infra.policy.example import made
from infra.policy.resource import Resource, Resources
from infra.policy.value import UNKNOWN
from tests.cases import in_case

A, B, OTHER = made("t:a", "one", arn="arn-one"), made("t:a", "two"), made("t:b", "other")


def naming(value: Any, *made_from: Resource) -> Resource:
    return replace(made("t:c", "it", of=value), dependencies={"of": [each.urn for each in made_from]})


def test_a_property_names() -> None:
    cases: list[tuple[Any, tuple[Resource, ...], list[str], bool]] = [
        (None, (), [], True),
        ("one-id", (), ["one"], True),
        ("arn-one", (), ["one"], True),
        ("elsewhere", (), [], False),
        (UNKNOWN, (A,), ["one"], True),
        (UNKNOWN, (A, OTHER), ["one"], True),
        (UNKNOWN, (A, B), [], False),
        (UNKNOWN, (OTHER,), [], False),
        (UNKNOWN, (), [], False),
        ([UNKNOWN, UNKNOWN], (A, B), ["one", "two"], True),
        (["one-id", UNKNOWN], (A, B), ["one", "two"], True),
        ([UNKNOWN, UNKNOWN], (A,), [], False),
        (["one-id", "elsewhere"], (), ["one"], False),
        # A resource with an id would be named by the id.
        ("elsewhere", (A,), [], False),
        # A resource that does not exist yet, or whose id is not known.
        ("elsewhere", (replace(A, id=""),), ["one"], True),
    ]
    for value, made_from, names, is_complete in cases:
        with in_case(value, made_from, names, is_complete):
            it = naming(value, *made_from)
            known = {each.urn: each for each in (A, B, OTHER, *made_from)}
            found = Resources([*known.values(), it]).named_by(it, "of", "t:a")
            assert ([each.name for each in found.found], found.is_complete) == (names, is_complete)


def test_an_unknown_list_may_name_any_resource() -> None:
    it = naming(UNKNOWN, A)
    assert not Resources([A, it]).all_named_by(it, "of", "t:a").is_complete


def test_a_resource_is_named_by() -> None:
    cases: list[tuple[Any, tuple[Resource, ...], list[str], bool]] = [
        ("one-id", (), ["it"], True),
        ("two-id", (), [], True),
        (UNKNOWN, (A,), ["it"], True),
        (UNKNOWN, (B,), [], True),
        # Computed from both, or from an unknown resource, so it may be this one.
        (UNKNOWN, (A, B), [], False),
        (UNKNOWN, (), [], False),
    ]
    for value, made_from, names, is_complete in cases:
        with in_case(value, made_from, names, is_complete):
            it = naming(value, *made_from)
            found = Resources([A, B, it]).naming(A, "of", "t:c")
            assert ([each.name for each in found.found], found.is_complete) == (names, is_complete)


def test_a_replica_of_an_external_source_inherits_unknown_values() -> None:
    assert A.inheriting(None, ["port", "arn"]).properties == {"arn": "arn-one", "port": UNKNOWN}
    assert B.inheriting(A, ["port", "arn"]).properties == {"arn": "arn-one"}
