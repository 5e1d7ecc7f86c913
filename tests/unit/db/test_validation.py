"""Values that are refused before they are sent. tests/integration/db compares the checks with a server."""

from __future__ import annotations

from typing import Any

import pytest

from db.errors import InvalidInput
from db.validation import JSON_DEPTH, TEXT_BYTES, bigint, json_object, text


def nested(depth: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(depth - 1):
        value = {"k": value}
    return value


@pytest.mark.parametrize("value", [-(2**63), 0, 2**63 - 1])
def test_integers_at_the_limits_pass(value: int) -> None:
    assert bigint("n", value) == value


@pytest.mark.parametrize("value", [-(2**63) - 1, 2**63, True, 1.0, "1", None])
def test_a_value_that_is_not_a_bigint_is_refused(value: object) -> None:
    with pytest.raises(InvalidInput) as caught:
        bigint("n", value)
    assert caught.value.field == "n"


@pytest.mark.parametrize("value", ["a\0", "\ud800", "x" * (TEXT_BYTES + 1), b"bytes", None])
def test_invalid_text_is_refused(value: object) -> None:
    with pytest.raises(InvalidInput):
        text("t", value)


@pytest.mark.parametrize("value", ["", "é" * 10, "\U0001f600", "x" * TEXT_BYTES])
def test_other_text_passes(value: str) -> None:
    assert text("t", value) == value


def test_empty_text_is_refused_where_it_is_meaningless() -> None:
    with pytest.raises(InvalidInput, match="is empty"):
        text("t", "", empty=False)


@pytest.mark.parametrize(
    "value",
    [
        [],
        {1: "x"},
        {"k": "\0"},
        {"\0": "k"},
        {"k": "\ud800"},
        {"k": float("inf")},
        {"k": 2**63},
        {"k": {1, 2}},
        nested(JSON_DEPTH + 1),
        nested(100_000),
    ],
)
def test_a_value_without_a_json_form_is_refused(value: object) -> None:
    with pytest.raises(InvalidInput):
        json_object("j", value)


def test_json_within_the_limits_passes() -> None:
    value: dict[str, Any] = {"k": [None, True, -1, 1.5, "x", {}], "deep": nested(JSON_DEPTH - 1)}
    assert json_object("j", value) is value
