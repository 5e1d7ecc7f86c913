"""Escaping of text, and readable numbers and axis ticks."""

from __future__ import annotations

from collections.abc import Sequence

from ops.printable import printable
from ops.report.markup import document, element
from ops.report.plots import _ticks, number
from ops.report.series import Series, rates, shares
from tests.cases import in_case


def test_text_and_attributes_are_escaped() -> None:
    cases: list[str] = ["<script>x</script>", "a & b", "</title>", "&lt;"]
    for text in cases:
        with in_case(text):
            page = document(element("p", text, title=f'"{text}'))
            assert text not in page.replace("&amp;lt;", "")
            assert '""' not in page


def test_invisible_characters_in_attributes_are_shown_as_escapes() -> None:
    assert 'title="a\\u202e"' in document(element("p", title="a\u202e"))


def test_invisible_characters_are_shown_as_escapes() -> None:
    cases: list[tuple[str, str]] = [
        ("a\x1b[31mb", "a\\u001b[31mb"),
        ("a\u202eb", "a\\u202eb"),
        ("a\nb\t c", "a b c"),
        ("\ud800", "\\ud800"),
        ("żółw 😀", "żółw 😀"),
    ]
    for text, shown in cases:
        with in_case(text, shown):
            assert printable(text) == shown


def test_a_number_has_its_significant_digits() -> None:
    cases: list[tuple[float | None, str]] = [
        (None, "-"),
        (0, "0"),
        (12, "12"),
        (1234567.8, "1,234,568"),
        (0.12345, "0.123"),
        (99.84, "99.8"),
        (2.5, "2.50"),
    ]
    for value, text in cases:
        with in_case(value, text):
            assert number(value) == text


def test_ticks_are_few_round_numbers_that_cover_the_highest_value() -> None:
    for highest in (0, 0.003, 1, 7, 12, 99.9, 100, 12345, 5e9):
        with in_case(highest):
            ticks = _ticks(highest)
            assert ticks[0] == 0
            assert ticks[-1] >= highest * 0.999
            assert 2 <= len(ticks) <= 7


def test_a_rate_is_an_increase_per_second_and_unknown_after_a_reset() -> None:
    cases: list[tuple[Sequence[float | None], list[float | None]]] = [
        ([10, 14, 14], [None, 2, 0]),
        # The server was restarted in between.
        ([10, 3, 5], [None, None, 1]),
        ([10, None, 14], [None, None, None]),
    ]
    for counts, expected in cases:
        with in_case(counts, expected):
            assert rates("x", [0, 2, 4], counts) == Series("x", tuple(expected))


def test_a_share_is_computed_from_the_increases_of_both_counters() -> None:
    assert shares("x", [5, 8, 8], [0, 1, 1]) == Series("x", (None, 75.0, None))
