"""No request that creates the program's resources is refused by AWS's API models or contradicts its documentation.

The provider's requests are rebuilt from the resources' properties. What AWS does with them is not tested.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, seed
from hypothesis import settings as run
from hypothesis import strategies as st

from tests.cases import in_case
from tests.promises import promise
from tests.scale import scaled
from tests.unit.infra.aws.iam.test_needs import TABLE
from tests.unit.infra.aws.models import documented, drawn, shapes
from tests.unit.infra.aws.models.calls import CALLS, WITHOUT_REQUEST, Request, requests
from tests.unit.infra.aws.models.shapes import service
from tests.unit.infra.aws.program import run_aws_program
from tests.unit.infra.program import Program


def sent(program: Program) -> Iterator[tuple[str, Request]]:
    for resource in program.resources:
        if resource.type in CALLS:
            for request in requests(resource.type, resource.inputs):
                yield resource.name, request


def refusals(program: Program) -> list[str]:
    found = []
    for name, request in sent(program):
        found += shapes.problems(request.members, request.shape, f"{name}: {request.operation}")
        found += documented.problems(request, name)
    return found


@promise("AWS's API models accept every request for settings that groundwork accepts")
def test_every_resource_has_a_request(program: Program, existing_vpc: Program) -> None:
    made = {r.type for r in [*program.resources, *existing_vpc.resources] if r.type.startswith("aws:")}
    assert made == set(CALLS) | WITHOUT_REQUEST


@promise("AWS's API models accept every request for settings that groundwork accepts")
@pytest.mark.parametrize("name", ["program", "existing_vpc", "own_way_out", "unprotected", "bounded"])
def test_requests_are_accepted(name: str, request: pytest.FixtureRequest) -> None:
    assert refusals(request.getfixturevalue(name)) == []


# A run of the program takes 0.5 s of CPU time. On a busy machine, 300 runs take longer than a test may.
@promise("AWS's API models accept every request for settings that groundwork accepts")
@pytest.mark.parametrize("part", range(scaled(1, 10)))
def test_requests_are_accepted_with_any_settings(tmp_path_factory: pytest.TempPathFactory, part: int) -> None:
    @seed(part)
    @run(max_examples=scaled(4, 30), database=None, deadline=None)
    @given(chosen=drawn.settings(), stack=st.sampled_from(drawn.STACKS))
    def check(chosen: dict[str, Any], stack: str) -> None:
        folder: Path = tmp_path_factory.mktemp("state")
        assert refusals(run_aws_program(folder, stack, **chosen)) == []

    check()


def returned_in_other_words(request: Request) -> list[str]:
    """Return the values of a request for which its answer has another word: a difference at each refresh."""
    answer = service(request.service).operation_model(request.operation).output_shape
    answered = set(shapes.enums(answer)) if answer else set()
    return [
        value
        for name, value, values in shapes.sent_enums(request.members, request.shape)
        for other_name, others in answered
        # Two enums of one name that share more than one word are the same property, sent and returned.
        if name == other_name and len(values & others) > 1 and value not in others
    ]


@promise("AWS's API models accept every request for settings that groundwork accepts")
def test_returned_values_have_the_form_that_is_sent(program: Program) -> None:
    assert {name: found for name, r in sent(program) if (found := returned_in_other_words(r))} == {}


def test_the_authentication_mode_without_a_password_is_returned_in_other_words() -> None:
    mode = {"AuthenticationMode": {"Type": "no-password-required"}}
    assert returned_in_other_words(Request("elasticache", "CreateUser", mode)) == ["no-password-required"]


@promise("the deploying identity may do what the program needs, and only with resources of its own stack")
def test_every_request_is_in_the_table_of_needs(program: Program) -> None:
    """test_needs.py compares that table with the policies."""
    missing = set()
    for resource in program.resources:
        if resource.type in CALLS:
            needed = {need.request.action for need in TABLE[resource.type](resource.inputs)}
            for request in requests(resource.type, resource.inputs):
                if (action := f"{request.service}:{request.operation}") not in needed:
                    missing.add(f"{resource.type}: {action}")
    assert missing == set()


@promise("AWS's API models accept every request for settings that groundwork accepts", control=True)
def test_a_wrong_request_is_refused() -> None:
    cases: list[tuple[dict[str, Any], str]] = [
        ({"UserId": "a", "UserName": "a", "Engine": "redis"}, "AccessString: is required"),
        ({"AccessString": "on", "Mode": 1}, "Mode: no such member"),
        ({"AuthenticationMode": {"Type": "none"}}, "'none' is none of"),
        ({"UserId": "1"}, "does not match"),
        ({"UserName": ""}, "0 is not from 1"),
        ({"NoPasswordRequired": "yes"}, "is not a boolean"),
        ({"Tags": {"a": "b"}}, "is not a list"),
    ]
    for members, problem in cases:
        with in_case(members, problem):
            shape = shapes.service("elasticache").operation_model("CreateUser").input_shape
            assert problem in "\n".join(shapes.problems(members, shape, "CreateUser"))


@promise("AWS's API models accept every request for settings that groundwork accepts", control=True)
def test_a_request_against_the_documentation_is_refused(program: Program) -> None:
    cases: list[tuple[str, dict[str, Any], str]] = [
        ("CreateReplicationGroup", {"EngineVersion": "7.2"}, "ElastiCache has Redis 7.0 and 7.1"),
        ("CreateReplicationGroup", {"Engine": "valkey"}, "ElastiCache has Redis 7.0 and 7.1"),
        ("CreateCacheParameterGroup", {"CacheParameterGroupFamily": "valkey9"}, "not redis7|valkey7|valkey8"),
        ("ModifyCacheParameterGroup", {"CacheParameterGroupName": "a-valkey8"}, "no lazyfree-lazy-*"),
    ]
    for operation, change, problem in cases:
        with in_case(operation, change, problem):
            (request,) = (each for _, each in sent(program) if each.operation == operation)
            wrong = Request(request.service, operation, request.members | change)
            assert problem in "\n".join(documented.problems(wrong, "redis"))
