"""Cursors: opaque, and valid only for the listing that created them."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from db.activity_parameters import EPOCH, MICROSECONDS, microseconds
from db.errors import InvalidCursor
from db.paging import BIGINT, INTEGER, Range, decode_cursor, encode_cursor
from tests.cases import in_case
from tests.promises import promise

INT64 = st.integers(-(2**63), 2**63 - 1)


@given(st.lists(INT64, min_size=1, max_size=3).map(tuple))
def test_a_cursor_returns_its_key(key: tuple[int, ...]) -> None:
    assert decode_cursor("things by id", encode_cursor("things by id", key), len(key)) == key


@promise("a cursor that was changed or belongs to another listing raises InvalidCursor")
def test_another_listings_cursor_is_refused() -> None:
    with pytest.raises(InvalidCursor, match="another listing"):
        decode_cursor("things by name", encode_cursor("things by id", (7,)), 1)


@given(st.text())
def test_any_other_text_is_refused(text: str) -> None:
    with pytest.raises(InvalidCursor):
        decode_cursor("things by id", text, 1)


@promise("a cursor that was changed or belongs to another listing raises InvalidCursor")
@given(INT64, st.integers(0, 1000), st.characters(codec="ascii"))
def test_a_changed_cursor_is_refused_or_means_the_same(key: int, place: int, character: str) -> None:
    cursor = encode_cursor("things by id", (key,))
    place %= len(cursor)
    changed = cursor[:place] + character + cursor[place + 1 :]
    try:
        decoded = decode_cursor("things by id", changed, 1)
    except InvalidCursor:
        return
    assert decoded == (key,)


@promise("a cursor that was changed or belongs to another listing raises InvalidCursor")
def test_a_forged_cursor_with_an_integer_out_of_range_is_refused() -> None:
    cases: list[tuple[tuple[int, ...], Range]] = [
        ((2**63,), BIGINT),
        ((2**64 - 1,), BIGINT),
        ((7, 2**63), INTEGER),
        ((2**31, 7), INTEGER),
        ((-(2**31) - 1, 7), INTEGER),
        ((2**63 - 1, 7), MICROSECONDS),
        ((-(2**63), 7), MICROSECONDS),
    ]
    for key, first in cases:
        with in_case(key), pytest.raises(InvalidCursor):
            decode_cursor("things", encode_cursor("things", key), len(key), first)
    for edge in (*INTEGER, *MICROSECONDS, *BIGINT):
        first = (edge, edge)
        assert decode_cursor("things", encode_cursor("things", (edge, 7)), 2, first) == (edge, 7)
    for edge in MICROSECONDS:
        assert microseconds(EPOCH + timedelta(microseconds=edge)) == edge
