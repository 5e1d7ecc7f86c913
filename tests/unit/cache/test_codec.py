"""Encoding of entries: values are decoded unchanged, and other bytes are refused."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cache.codec import Codec
from cache.entry import absence, is_due
from cache.errors import UndecodableEntry
from tests.cases import in_case


class Thing(msgspec.Struct, frozen=True):
    name: str
    seen_at: datetime
    data: dict[str, Any]
    row_version: int


CODEC = Codec(Thing, lambda thing: thing.row_version)
EPOCH = b"0123456789abcdef"
ABSENT = absence(EPOCH)


def encoded(thing: Thing | None) -> bytes:
    return CODEC.encode(thing, EPOCH, life_ms=60_000, cost_ms=3)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.text(),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(), children, max_size=3),
    max_leaves=10,
)
THINGS = st.builds(
    Thing,
    name=st.text(),
    seen_at=st.datetimes(timezones=st.just(UTC)),
    data=st.dictionaries(st.text(), JSON, max_size=3),
    row_version=st.integers(0, 2**63 - 1),
)


@given(THINGS)
def test_a_record_is_decoded_unchanged(thing: Thing) -> None:
    assert CODEC.decode(encoded(thing)) == thing


@given(THINGS)
def test_an_entry_starts_with_epoch_and_row_version(thing: Thing) -> None:
    assert encoded(thing).startswith(b"%b:%d:" % (EPOCH, thing.row_version))


def test_an_absence_is_decoded_as_an_absence() -> None:
    assert encoded(None) == ABSENT
    assert CODEC.decode(ABSENT) is None


@given(st.binary())
def test_any_other_bytes_are_refused(raw: bytes) -> None:
    if not raw.endswith(b":-"):
        with pytest.raises(UndecodableEntry):
            CODEC.decode(raw)


def test_a_corrupt_entry_is_refused() -> None:
    entry = encoded(Thing("x", datetime(2024, 1, 1, tzinfo=UTC), {}, 1))
    stamp, version, expires_at, cost, packed = entry.split(b":", 4)
    # Python refuses to convert the first, and to compare the second with a float.
    huge = [
        b":".join((stamp, version, *numbers, packed))
        for number in (b"9" * 5000, b"9" * 400)
        for numbers in ((number, cost), (expires_at, number))
    ]
    assert not any(map(is_due, huge))
    for raw in (entry[:-1], entry[17:], b"x:" + entry, entry + b"\0", *huge):
        with in_case(raw), pytest.raises(UndecodableEntry):
            CODEC.decode(raw)


@given(st.lists(st.none() | THINGS | st.sampled_from(["absent", "corrupt", "of another epoch", "no header"])))
def test_many_entries_are_decoded_as_one_by_one(kinds: list[Any]) -> None:
    thing = Thing("x:y", datetime(2024, 1, 1, tzinfo=UTC), {}, 1)
    special = {
        "absent": ABSENT,
        "corrupt": encoded(thing)[:-1],
        "of another epoch": b"x" + encoded(thing),
        "no header": EPOCH + b":1:2",
    }
    raws = [
        each if each is None else special[each] if isinstance(each, str) else encoded(each) for each in kinds
    ]
    known: dict[int, Thing | None] = {}
    undecodable = CODEC.decode_all(range(len(raws)), raws, EPOCH + b":", known)
    for number, raw in enumerate(raws):
        if raw is None or not raw.startswith(EPOCH + b":"):
            assert number not in known
            assert number not in undecodable
        elif number in known:
            assert known[number] == CODEC.decode(raw)
        else:
            assert number in undecodable
            with pytest.raises(UndecodableEntry):
                CODEC.decode(raw)


def test_a_value_without_a_msgpack_form_is_refused() -> None:
    with pytest.raises(UndecodableEntry):
        encoded(Thing("x", datetime(2024, 1, 1, tzinfo=UTC), {"n": 2**70}, 1))


def test_a_cached_record_is_a_copy_each_time() -> None:
    raw = encoded(Thing("x", datetime(2024, 1, 1, tzinfo=UTC), {"k": []}, 1))
    first, second = CODEC.decode(raw), CODEC.decode(raw)
    assert first is not None
    assert second is not None
    first.data["k"].append("spoilt")
    assert second.data == {"k": []}
