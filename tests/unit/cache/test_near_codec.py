"""Records in the near cache: a caller's changes affect no other caller, and sizes are never underestimated."""

from __future__ import annotations

import tracemalloc
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, Literal
from uuid import UUID

import msgspec
import pytest

from cache.codec import Codec
from cache.near_codec import NearCodec, NearValue
from db.models import Organization, User
from tests.cases import in_case
from tests.promises import promise

NOW = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
PREFERENCES: list[dict[str, Any]] = [
    {},
    {"theme": "dark", "n": 1, "ratio": 0.5, "on": True, "none": None},
    {"nested": {"theme": "dark"}},
    {"list": [1, 2]},
    {"theme": "dark", "columns": ["stars", "forks"], "more": {"a": None}, "none": []},
    {"deep": {"theme": {"dark": [1]}}},
    {"deep": [{"theme": "dark"}]},
]


class Changeable(msgspec.Struct):
    """A record that is not frozen, so callers must not share it."""

    id: int
    name: str


def user(preferences: dict[str, Any]) -> User:
    return User(1, 2, "ada", "ada@example.org", preferences, NOW, NOW, 3)


def encoded(record: Any) -> NearValue[Any]:
    codec: Codec[Any] = Codec(type(record), lambda _: 1)
    return NearCodec(codec).encode(msgspec.msgpack.encode(record))


def given(value: NearValue[Any]) -> Any:
    return value.give(value.value)


@promise("no caller can change what another caller gets from the near cache")
def test_each_caller_gets_its_own_dictionary() -> None:
    for preferences in PREFERENCES:
        with in_case(preferences):
            entry = encoded(user(preferences))
            first = given(entry)
            assert first == user(preferences)
            for value in first.preferences.values():
                if isinstance(value, dict | list):
                    value.clear()
            first.preferences["spoilt"] = True
            assert given(entry) == user(preferences)
            spoil(given(entry).preferences)
            assert given(entry) == user(preferences)


def spoil(value: Any) -> None:
    """Change everything in a value that can be changed, from the inside out."""
    for each in value.values() if isinstance(value, dict) else value:
        if isinstance(each, dict | list):
            spoil(each)
    if isinstance(value, dict):
        value["spoilt"] = True
    else:
        value.append("spoilt")


@promise("no caller can change what another caller gets from the near cache", control=True)
def test_without_a_copy_one_caller_would_corrupt_anothers_record() -> None:
    """Negative control: records are returned without a copy."""
    entry = encoded(user({"theme": "dark"}))
    _, preferences, _ = entry.value
    preferences["spoilt"] = True
    assert given(entry) != user({"theme": "dark"})


def test_a_frozen_record_of_plain_values_is_not_copied() -> None:
    entry = encoded(Organization(1, 2, "o", None, 3, NOW, NOW, 4))
    assert given(entry) is given(entry) == Organization(1, 2, "o", None, 3, NOW, NOW, 4)


def test_only_the_nested_dictionary_of_a_record_is_decoded_on_each_hit() -> None:
    cases: list[dict[str, Any]] = [each for each in PREFERENCES if "deep" in each] + [
        {"deep": {"list": [[1], [2]]}}
    ]
    for preferences in cases:
        with in_case(preferences):
            entry = encoded(user(preferences))
            one, other = given(entry), given(entry)
            assert one == other == user(preferences)
            assert one is not other
            # A record that is decoded again has a new string.
            assert one.username is other.username


@promise("no caller can change what another caller gets from the near cache")
def test_each_caller_gets_its_own_list() -> None:
    cases: list[tuple[Any, Any]] = [
        (list[str], ["a"]),
        (list[int] | None, [1]),
        (dict[str, str], {"a": "b"}),
        (list[UUID] | None, [UUID(int=1)]),
    ]
    for hint, value in cases:
        with in_case(hint, value):
            kind = msgspec.defstruct("Tagged", [("id", int), ("tags", hint)], frozen=True)
            entry = encoded(kind(1, value))
            given(entry).tags.clear()
            assert given(entry) == kind(1, value)


def test_a_record_of_one_more_plain_type_is_not_copied() -> None:
    cases: list[tuple[Any, Any]] = [
        (date, date(2026, 2, 28)),
        (Decimal, Decimal("12.50")),
        (UUID | None, UUID(int=1)),
        (Literal["open", "closed"], "open"),
        (Literal["open", "closed"] | None, None),
    ]
    for hint, value in cases:
        with in_case(hint, value):
            kind = msgspec.defstruct("Plain", [("id", int), ("value", hint)], frozen=True)
            entry = encoded(kind(1, value))
            assert given(entry) is given(entry) == kind(1, value)


def test_a_changeable_record_is_copied() -> None:
    entry = encoded(Changeable(1, "x"))
    given(entry).name = "spoilt"
    assert given(entry) == Changeable(1, "x")


def test_a_known_absence_is_none() -> None:
    codec = Codec(User, lambda each: each.row_version)
    assert given(NearCodec(codec).encode(None)) is None


@pytest.mark.parametrize("text", ["ascii " * 50, "\u00e9" * 300, "\U0001f600" + "a" * 300], ids=ascii)
@pytest.mark.parametrize(
    "preferences", [{}, {"a": "b" * 100}, {"a": ["b" * 100]}, {"a": {"b": {"c": "d" * 100}}}], ids=str
)
def test_a_size_is_the_memory_that_a_record_uses(text: str, preferences: dict[str, Any]) -> None:
    codec = Codec(User, lambda each: each.row_version)
    near_codec = NearCodec(codec)
    packed = [
        msgspec.msgpack.encode(User(n, n + 10**9, f"{text}{n}", f"{text}{n}", preferences, NOW, NOW, n))
        for n in range(10**6, 10**6 + 500)
    ]
    tracemalloc.start()
    try:
        entries = [near_codec.encode(bytes(bytearray(each))) for each in packed]
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    told = sum(entry.size for entry in entries)
    # The near cache adds the memory of the entry itself.
    assert told == pytest.approx(taken, rel=0.35)
    assert told + 300 * len(entries) > taken
