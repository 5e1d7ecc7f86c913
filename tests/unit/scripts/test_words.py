"""`make check` finds the listed words in texts, and not in code."""

from __future__ import annotations

from scripts import words
from tests.cases import in_case


def test_listed_word_is_found_with_line_and_advice() -> None:
    cases: list[tuple[str, str, tuple[int, str, str]]] = [
        ("a.md", "The file is\nwritten anew.", (2, "anew", "again, or overwrite")),
        ("a.md", "It is no folder.", (1, "is no folder", "is not a ...")),
        ("a.yml", "summary: the backup goes on", (1, "goes on", "continue")),
        (
            "a.py",
            "x = 1\n# It is held\n# against the file.",
            (2, "held against", "check against, or compare with"),
        ),
        ("a.py", '"""A text.\n\nMend the file.\n"""', (3, "mend", "fix or repair")),
        ("a.py", 'raise ValueError(f"{name} is no folder")', (1, "is no folder", "is not a ...")),
        ("a.py", "def test_it_is_told() -> None: ...", (1, "is told", "reported, or notified")),
    ]
    for name, text, found in cases:
        with in_case(name, text, found):
            assert list(words.findings(name, text)) == [found]


def test_standard_english_and_code_are_not_found() -> None:
    cases: list[tuple[str, str]] = [
        ("a.md", "There is no folder. The folder is no longer there, and the errors are told apart."),
        ("a.md", "NULL stands for a missing value. Go on to the next page. The container is healthy."),
        ("a.py", 'judge(mend=1, anew={"heal": 2}).stand()'),
        ("a.py", "def mend_it() -> None: ...\ndef test_it_is_repaired() -> None: ..."),
    ]
    for name, text in cases:
        with in_case(name, text):
            assert list(words.findings(name, text)) == []


def test_advice_belongs_to_its_pattern() -> None:
    for pattern, advice in (("whom", words.WORDS["whom"]), ("to be had", words.WORDS["to be had"])):
        assert [found[2] for found in words.findings("a.md", pattern)] == [advice]
