"""Parsing of `pulumi preview --json`."""

from __future__ import annotations

import json
from typing import Any

import pytest

from infra.policy.plan import Plan
from infra.policy.preview import PreviewError
from infra.policy.value import UNKNOWN, holds_unknown, read_value
from tests.cases import in_case
from tests.policy_stack import UNKNOWN_TEXT, good_stack, preview

SIGNATURE = "4dabf18193072939515e22adb298388d"


def test_secret_and_unknown_values_are_unknown_at_any_depth() -> None:
    cases: list[Any] = [
        UNKNOWN_TEXT,
        "1c4a061d-8072-4f0a-a4cb-0ff528b18fe7",
        "6a19a0b0-7e62-4c92-b797-7f8e31da9cc2",
        "output<string>",
        "Output<T>",
        "[secret]",
        {SIGNATURE: "1b47061264138c4ac30d75fd1eb44270", "ciphertext": "v1:abc"},
        {SIGNATURE: "1b47061264138c4ac30d75fd1eb44270", "plaintext": '"abc"'},
        {SIGNATURE: "d0e6a833031e9bbcd3f4e8bde6ca49a4"},
    ]
    for value in cases:
        with in_case(value):
            assert read_value(value) is UNKNOWN
            assert read_value({"a": [value, 1]}) == {"a": [UNKNOWN, 1]}
            assert holds_unknown(read_value([{"a": value}]))


def test_any_other_value_is_unchanged() -> None:
    cases: list[Any] = ["", "text", 0, 1.5, True, None, [], {}, {"a": ["b"]}, "a [secret] b"]
    for value in cases:
        with in_case(value):
            assert read_value(value) == value
            assert not holds_unknown(value)


def test_other_input_is_refused() -> None:
    cases: list[tuple[str, str]] = [
        ("", "is not JSON"),
        ("Previewing update (dev):", "is not JSON"),
        ("[]", "is not a preview"),
        ("{}", "is not a preview"),
        ('{"changeSummary": {}, "steps": []}', "no resource of a stack"),
        ('{"diagnostics": [{"severity": "error", "message": "no"}]}', "no resource of a stack"),
        ('{"changeSummary": {}, "steps": [{"op": "same"}]}', "contains an invalid step"),
        ('{"changeSummary": {}, "steps": [{"op": "same", "urn": 7}]}', "contains an invalid step"),
        ('{"changeSummary": {}, "steps": [7]}', "contains an invalid step"),
    ]
    for text, says in cases:
        with in_case(text, says):
            with pytest.raises(PreviewError, match=says):
                Plan.parse(text)


def parsed(**changes: Any) -> Plan:
    return Plan.parse(json.dumps(preview(good_stack(), good_stack()) | changes))


def test_the_stacks_name_comes_from_the_urns() -> None:
    assert parsed().stack == "prod"


def test_resources_that_are_not_shown_are_counted() -> None:
    content = preview(good_stack(), good_stack())
    shown = [step for step in content["steps"] if step["urn"].endswith("::postgres")]
    assert Plan.parse(json.dumps(content | {"steps": shown})).left_out == len(good_stack())
    assert parsed().left_out == 0


def test_only_errors_are_reported_as_failed() -> None:
    diagnostics = [
        {"severity": "warning", "message": "using a plugin of PATH"},
        {"severity": "error", "urn": "urn:pulumi:prod::groundwork::t::a", "message": "no"},
        {"severity": "error", "message": "preview failed"},
    ]
    assert parsed(diagnostics=diagnostics).failed_on == ("urn:pulumi:prod::groundwork::t::a", "")
    assert parsed().failed_on == ()


def test_deleted_resources_are_not_in_the_plan() -> None:
    content = preview(good_stack(), good_stack()[:-1])
    names = {resource.name for resource in Plan.parse(json.dumps(content)).resources}
    assert "redis" not in names
    assert "vpc" in names


def test_a_position_is_a_file_of_the_project() -> None:
    cases: list[tuple[str | None, str]] = [
        ("project:///infra/aws/postgres.py#31", "infra/aws/postgres.py:31"),
        ("project:///infra/aws/postgres.py#31,4", "infra/aws/postgres.py:31"),
        ("project:///../../usr/lib/python3/asyncio.py#1", ""),
        (None, ""),
    ]
    for said, position in cases:
        with in_case(said, position):
            content = preview([], good_stack()[:1])
            content["steps"][1]["newState"]["sourcePosition"] = said
            assert (
                next(r for r in Plan.parse(json.dumps(content)).resources if r.name == "vpc").position
                == position
            )


def test_external_resources_have_outputs_and_are_not_checked() -> None:
    from infra.policy.rules import judge

    content = preview([], good_stack()[:1])
    state = content["steps"][1]["newState"]
    state |= {"external": True, "outputs": {"cidrBlock": "10.9.0.0/16"}, "id": "vpc-1"}
    resources = Plan.parse(json.dumps(content)).resources
    vpc = next(resource for resource in resources if resource.name == "vpc")
    assert (vpc.is_external, vpc.id, vpc.get("cidrBlock")) == (True, "vpc-1", "10.9.0.0/16")
    assert judge(resources) == []
