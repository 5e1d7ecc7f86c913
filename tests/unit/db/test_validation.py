"""Values that are refused before they are sent. tests/integration/db compares the checks with a server."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

import pytest
from msgspec import UNSET

from db import validation
from db.errors import InvalidInput
from db.validation import (
    INDEXED_TEXT_BYTES,
    JSON_DEPTH,
    TEXT_BYTES,
    bigint,
    bigints,
    boolean,
    count,
    day,
    decimal,
    indexed_text,
    integer,
    json_object,
    list_of,
    one_of,
    optional,
    real,
    text,
    uuid,
)  # fmt: skip
from tests.cases import in_case


class Team(int, Enum):
    ROOT = 7


class Word(str):
    __slots__ = ()


class Roman(int):
    def __str__(self) -> str:
        return "VII"


def nested(depth: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(depth - 1):
        value = {"k": value}
    return value


def test_many_integers_pass() -> None:
    for values in ([], [7], [-(2**63), 2**63 - 1, 7], range(3)):
        with in_case(values):
            assert bigints("ids", values) == list(values)


def test_integers_of_an_iterator_pass() -> None:
    for values in ([], [7, 8], [7, Team.ROOT]):
        with in_case(values):
            assert bigints("ids", iter(values)) == values


def test_a_wrong_value_of_an_iterator_is_refused() -> None:
    values: Any = [7, "8"]
    with pytest.raises(InvalidInput, match="ids: str is not an integer"):
        bigints("ids", iter(values))


def test_one_wrong_value_among_integers_is_refused() -> None:
    cases: list[Any] = [True, 1.0, "1", None, 2**63, -(2**63) - 1, float("nan")]
    for wrong in cases:
        with in_case(wrong):
            for values in ([wrong], [1, wrong, 2]):
                with pytest.raises(InvalidInput, match="ids: "):
                    bigints("ids", values)


def test_integers_at_the_limits_pass() -> None:
    for value in (-(2**63), 0, 2**63 - 1):
        with in_case(value):
            assert bigint("n", value) == value


@pytest.mark.parametrize("value", [Team.ROOT, Roman(7)])
def test_an_integer_of_a_subclass_is_returned_as_a_plain_int(value: int) -> None:
    """An f-string of the value itself is "Team.ROOT" or "VII"."""
    for plain in (bigint("n", value), *bigints("n", [1, value])[1:], integer("n", value), count("n", value)):
        assert (type(plain), plain) == (int, 7)


def test_a_value_that_is_not_a_bigint_is_refused() -> None:
    for value in (-(2**63) - 1, 2**63, True, 1.0, "1", None):
        with in_case(value):
            with pytest.raises(InvalidInput) as caught:
                bigint("n", value)
            assert caught.value.field == "n"


def test_a_value_of_each_type_passes() -> None:
    cases: list[tuple[Any, object]] = [
        (integer, -(2**31)),
        (boolean, False),
        (real, 1e300),
        (decimal, Decimal("1E+999")),
        (decimal, Decimal("1E-1000")),
        (day, date(9999, 12, 31)),
        (uuid, UUID(int=1)),
        (one_of(("a", "b")), "b"),
        (list_of(text), []),
        (list_of(integer), [1]),
    ]
    for check, value in cases:
        with in_case(check, value):
            assert check("f", value) == value
            assert optional(check, "f", value) == value
            assert optional(check, "f", None) is optional(check, "f", UNSET) is None


# Values that Postgres would refuse or change, or that are not equal to themselves.
def test_a_value_that_would_not_come_back_is_refused() -> None:
    cases: list[tuple[Any, object]] = [
        (integer, 2**31),
        (integer, True),
        (boolean, 1),
        (real, float("nan")),
        (real, float("inf")),
        (real, 10**400),
        (real, True),
        (decimal, Decimal("NaN")),
        (decimal, Decimal("-Infinity")),
        (decimal, Decimal("1E+1000")),
        (decimal, Decimal("1E-1001")),
        (decimal, 1.5),
        (day, datetime(2026, 1, 1, tzinfo=UTC)),
        (day, "2026-01-01"),
        (uuid, "00000000-0000-0000-0000-000000000001"),
        (one_of(("a", "b")), "c"),
        (one_of(("a", "b")), ["a"]),
        (list_of(text), "ab"),
        (list_of(text), ["a", None]),
        (list_of(integer), [2**31]),
        (list_of(integer), [[1]]),
    ]
    for check, value in cases:
        with in_case(check, value):
            with pytest.raises(InvalidInput) as caught:
                optional(check, "f", value)
            assert caught.value.field == "f"


def test_invalid_text_is_refused() -> None:
    cases: list[object] = ["a\0", "\ud800", "x" * (TEXT_BYTES + 1), b"bytes", None]
    for value in cases:
        with in_case(value):
            with pytest.raises(InvalidInput):
                text("t", value)


def test_other_text_passes() -> None:
    for value in ("", "é" * 10, "\U0001f600", "x" * TEXT_BYTES):
        with in_case(value):
            assert text("t", value) == value


def test_text_of_a_column_with_an_index_has_a_smaller_limit() -> None:
    longest = "é" * (INDEXED_TEXT_BYTES // 2)
    assert indexed_text("t", longest) == longest
    with pytest.raises(InvalidInput, match="t: has 2001 bytes; at most 2000 can be stored"):
        indexed_text("t", longest + "x")
    with pytest.raises(InvalidInput, match="t: is empty"):
        indexed_text("t", "", empty=False)


def test_empty_text_is_refused_where_it_is_meaningless() -> None:
    with pytest.raises(InvalidInput, match="is empty"):
        text("t", "", empty=False)


def test_a_value_without_a_json_form_is_refused() -> None:
    cases: list[object] = [
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
    ]
    for value in cases:
        with in_case(value):
            with pytest.raises(InvalidInput):
                json_object("j", value)


def test_json_within_the_limits_passes() -> None:
    value: dict[str, Any] = {"k": [None, True, -1, 1.5, "x", {}], "deep": nested(JSON_DEPTH - 1)}
    assert json_object("j", value) is value


def test_the_encoded_size_of_json_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(validation, "JSON_BYTES", 1000)
    monkeypatch.setattr(validation, "JSON_VALUES", 100)
    # With the braces, the key, the colon and the quotes: 1,000 bytes.
    longest: list[dict[str, Any]] = [
        {"k": "x" * 992},
        {"k": "é" * 496},
        {"k": [0] * 98},
        {"k": [{}] * 98},
        {"k": ",[{" * 330},
        {"k": Word(",é" * 330)},
    ]
    for value in longest:
        with in_case(value):
            assert json_object("j", value) is value
    too_long: list[tuple[dict[str, Any], str]] = [
        ({"k": "x" * 993}, "j: 1001 bytes of JSON are too many; use up to 1000"),
        ({"k": "é" * 497}, "j: 1002 bytes of JSON"),
        ({"k": Word("é" * 497)}, "j: 1002 bytes of JSON"),
        ({"\n" * 498: "x"}, "j: 1004 bytes of JSON"),
        ({str(n): "x" * 100 for n in range(10)}, "j: .* bytes of JSON are too many"),
        ({"k": [0] * 99}, "j: 101 values in JSON are too many; use up to 100"),
        ({"k": [{}] * 99}, "j: 101 values in JSON"),
        ({str(n): (n,) for n in range(50)}, "j: 101 values in JSON"),
    ]
    for value, why in too_long:
        with in_case(why), pytest.raises(InvalidInput, match=why):
            json_object("j", value)
