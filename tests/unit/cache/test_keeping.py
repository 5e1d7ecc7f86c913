"""How the near cache keeps records: what one caller does to his reaches nobody else, and no size is told too low."""

from __future__ import annotations

import tracemalloc
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from cache.codec import Codec
from cache.keeping import Keeping, Kept
from db.models import Organization, User

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
    """A record that is not frozen: nobody may get another's."""

    id: int
    name: str


def user(preferences: dict[str, Any]) -> User:
    return User(1, 2, "ada", "ada@example.org", preferences, NOW, NOW, 3)


def kept(record: Any) -> Kept[Any]:
    codec: Codec[Any] = Codec(type(record), lambda _: 1)
    return Keeping(codec).kept(msgspec.msgpack.encode(record))


def given(kept: Kept[Any]) -> Any:
    return kept.give(kept.value)


@pytest.mark.parametrize("preferences", PREFERENCES, ids=str)
def test_each_caller_has_a_dictionary_of_his_own(preferences: dict[str, Any]) -> None:
    entry = kept(user(preferences))
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
    """Change everything in it that can be changed, from the inside out."""
    for each in value.values() if isinstance(value, dict) else value:
        if isinstance(each, dict | list):
            spoil(each)
    if isinstance(value, dict):
        value["spoilt"] = True
    else:
        value.append("spoilt")


def test_without_a_copy_one_would_spoil_anothers() -> None:
    """The control: records given out as they are kept."""
    entry = kept(user({"theme": "dark"}))
    record, _ = entry.value
    assert record is not given(entry)
    record.preferences["spoilt"] = True
    assert given(entry) != user({"theme": "dark"})


def test_a_frozen_record_of_plain_values_is_given_out_itself() -> None:
    entry = kept(Organization(1, 2, "o", None, 3, NOW, NOW, 4))
    assert given(entry) is given(entry) == Organization(1, 2, "o", None, 3, NOW, NOW, 4)


def test_one_that_can_be_changed_is_not() -> None:
    entry = kept(Changeable(1, "x"))
    given(entry).name = "spoilt"
    assert given(entry) == Changeable(1, "x")


def test_a_known_absence_is_none() -> None:
    codec = Codec(User, lambda each: each.row_version)
    assert given(Keeping(codec).kept(None)) is None


@pytest.mark.parametrize("text", ["ascii " * 50, "\u00e9" * 300, "\U0001f600" + "a" * 300], ids=ascii)
@pytest.mark.parametrize(
    "preferences", [{}, {"a": "b" * 100}, {"a": ["b" * 100]}, {"a": {"b": {"c": "d" * 100}}}], ids=str
)
def test_a_size_is_what_memory_it_takes(text: str, preferences: dict[str, Any]) -> None:
    codec = Codec(User, lambda each: each.row_version)
    keeping = Keeping(codec)
    packed = [
        msgspec.msgpack.encode(User(n, n + 10**9, f"{text}{n}", f"{text}{n}", preferences, NOW, NOW, n))
        for n in range(10**6, 10**6 + 500)
    ]
    tracemalloc.start()
    try:
        entries = [keeping.kept(bytes(bytearray(each))) for each in packed]
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    told = sum(entry.size for entry in entries)
    # The rest, an entry's own, is counted by the near cache.
    assert told == pytest.approx(taken, rel=0.35)
    assert told + 300 * len(entries) > taken
