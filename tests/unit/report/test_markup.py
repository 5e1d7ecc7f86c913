"""Escaping of text, and readable numbers and axis ticks."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from ops.printable import printable
from ops.report.markup import document, element
from ops.report.plots import _ticks, number
from ops.report.series import Series, rates, shares


@pytest.mark.parametrize("text", ["<script>x</script>", "a & b", "</title>", "&lt;"])
def test_text_and_attributes_are_escaped(text: str) -> None:
    page = document(element("p", text, title=f'"{text}'))
    assert text not in page.replace("&amp;lt;", "")
    assert '""' not in page


def test_invisible_characters_in_attributes_are_shown_as_escapes() -> None:
    assert 'title="a\\u202e"' in document(element("p", title="a\u202e"))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x1b[31mb", "a\\u001b[31mb"),
        ("a\u202eb", "a\\u202eb"),
        ("a\nb\t c", "a b c"),
        ("\ud800", "\\ud800"),
        ("żółw 😀", "żółw 😀"),
    ],
)
def test_invisible_characters_are_shown_as_escapes(text: str, shown: str) -> None:
    assert printable(text) == shown


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (0, "0"),
        (12, "12"),
        (1234567.8, "1,234,568"),
        (0.12345, "0.123"),
        (99.84, "99.8"),
        (2.5, "2.50"),
    ],
)
def test_a_number_has_its_significant_digits(value: float | None, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize("highest", [0, 0.003, 1, 7, 12, 99.9, 100, 12345, 5e9])
def test_ticks_are_few_round_numbers_that_cover_the_highest_value(highest: float) -> None:
    ticks = _ticks(highest)
    assert ticks[0] == 0
    assert ticks[-1] >= highest * 0.999
    assert 2 <= len(ticks) <= 7


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ([10, 14, 14], [None, 2, 0]),
        # The server was restarted in between.
        ([10, 3, 5], [None, None, 1]),
        ([10, None, 14], [None, None, None]),
    ],
)
def test_a_rate_is_an_increase_per_second_and_unknown_after_a_reset(
    counts: Sequence[float | None], expected: list[float | None]
) -> None:
    assert rates("x", [0, 2, 4], counts) == Series("x", tuple(expected))


def test_a_share_is_computed_from_the_increases_of_both_counters() -> None:
    assert shares("x", [5, 8, 8], [0, 1, 1]) == Series("x", (None, 75.0, None))
