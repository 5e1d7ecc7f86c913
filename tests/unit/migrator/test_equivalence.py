"""Changes of a migration's text: which are proven harmless, and which are not."""

from __future__ import annotations

import hashlib

from db.migrator.equivalence import describe_difference, first_difference, text_of
from tests.cases import in_case
from tests.promises import promise

HARMLESS = [
    ("SELECT 1 ;", "SELECT 1;\n-- said later", "comments"),
    ("a = b", "a=b", "blanks"),
    ("a <> ''", "a<>''", "blanks"),
    ("SELECT 1", "\ufeffSELECT 1", "a byte order mark"),
    ("a;\nb", "a;\r\nb", "line ends"),
    ("a;\nb", "\ufeffa;\r\n  b", "a byte order mark, line ends, blanks"),
    ("f( a,b )", "f(a, b)", "blanks"),
    ("x /* why */ y", "x y", "comments"),
    ("x /* why /* nested */ */ y", "x\n-- how\ny", "comments"),
    ("a::int", "a ::int", "blanks"),
    ("'a'\n'b'", "'a'\r\n  -- both\r\n'b'", "line ends, comments"),
    ("'a'\n'b'", "'a' -- it's\r'b'", "line ends, comments"),
    ("U&'a' -- x\n'b'", "U&'a'\n-- y\n'b'", "comments"),
    ("E'a\\'--x'", "E'a\\'--x' -- y", "comments"),
    ("n.t (a)", "n . t(a)", "blanks"),
    ("-- phase: contract\nSELECT 1", "-- phase: expand\nSELECT 1", "comments"),
    ("AS $$ a $$", "AS\n$$ a $$", "blanks"),
]
HARMFUL = [
    ("SELECT 1", "SELECT 2"),
    ("SELECT 1;", "SELECT 1"),
    ("SELECT 1", "select 1"),
    ("ab", "a b"),
    ("a < = b", "a <= b"),
    (": :", "::"),
    ("- -1", "--1"),
    ("a $1", "a $ 1"),
    ("1.5", "1 .5"),
    ("E 'x'", "E'x'"),
    ("B '1'", "B'1'"),
    ("U & 'x'", "U&'x'"),
    ("'a' 'b'", "'a'\n'b'"),
    ("'a''b'", "'a' 'b'"),
    ("'a'\n'b'", "'a' /* x\n */ 'b'"),
    ("'a'\n'b'", "'a'\n/* x */ 'b'"),
    ("E'a' -- c\n'\\'--x\n'", "E'a' -- c\n'\\'--y\n'"),
    ("E'a'\r'\\'--x\n'", "E'a'\r'\\'--y\n'"),
    ("E'a'\n-- c\n'\\'--x\n'", "E'a'\n-- c\n'\\'--y\n'"),
    ("$1E'\\'--x\n'", "$1E'\\'--y\n'"),
    ("$1 a", "$1a"),
    ("'a\nb'", "'a\r\nb'"),
    ("'a -- b'", "'a'"),
    ("$$a$$", "$$a $$"),
    ("$$a -- why\n$$", "$$a\n$$"),
    ("$$a\n$$", "$$a\r\n$$"),
    ('"a b"', '"a  b"'),
    ("-- no-transaction\nSELECT 1", "SELECT 1"),
    ("-- no-transaction\nSELECT 1", "\n-- no-transaction\nSELECT 1"),
    ("SELECT 1; SELECT 2", "SELECT 2; SELECT 1"),
    ("SELECT 1 /* open", "SELECT 1"),
    ("SELECT 1; 'open", "SELECT 1; -- x\n'open"),
    ("SELECT 1; $$open", "SELECT 1;  $$open"),
]


@promise("`repair` accepts a changed checksum only if the change is proven harmless")
def test_a_harmless_change_is_proven_and_named() -> None:
    for old, new, what in HARMLESS:
        with in_case(old, new, what):
            assert first_difference(old, new) is None
            assert first_difference(new, old) is None
            assert describe_difference(old, new) == what


@promise("`repair` accepts a changed checksum only if the change is proven harmless", control=True)
def test_a_change_that_may_matter_is_not_proven() -> None:
    for old, new in HARMFUL:
        with in_case(old, new):
            assert first_difference(old, new) is not None
            assert first_difference(new, old) is not None


def test_the_line_of_a_literal_that_is_not_closed_is_that_of_the_new_text() -> None:
    assert first_difference("a;\n'open\n", "a;\n-- x\n'open\n") == 3


def test_the_line_of_a_difference_is_that_of_the_new_text() -> None:
    assert first_difference("a;\nb;\nc;", "a;\n\n-- x\nb;\nd;") == 5


def test_a_text_with_other_line_endings_is_found_by_its_checksum() -> None:
    cases: list[str] = [
        "a;\nb;\n",
        "a;\r\nb;\r\n",
        "a;\rb;\r",
        "\ufeffa;\nb;\n",
        "\ufeffa;\r\nb;",
        "a;\nb;",
    ]
    for old in cases:
        for new in ("a;\nb;\n", "a;\r\nb;\r\n", "\ufeffa;\r\nb;"):
            with in_case(old, new):
                checksum = hashlib.sha384(old.encode()).digest()
                assert text_of(checksum, new.encode()) == old


def test_a_text_with_another_checksum_is_not_found() -> None:
    assert text_of(hashlib.sha384(b"a; c").digest(), b"a; b") is None
    assert text_of(hashlib.sha384(b"a").digest(), b"\xff") is None
