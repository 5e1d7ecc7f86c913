"""Cursors: opaque, and valid only for the listing that created them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from db.errors import InvalidCursor
from db.paging import decode_cursor, encode_cursor
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
