"""Find words at which readers stop, and print what to say instead.

Checks the documentation, YAML and the Makefile, and in Python the comments, docstrings, messages and names of tests.
The list contains only words that are wrong almost everywhere. `make check` fails if one of them occurs.
"""

from __future__ import annotations

import io
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
FILES = ("*.py", "*.md", "*.yml", "*.yaml", "Makefile", "db/queries/*.sql")
# Generated from other files, or about the words themselves.
EXCLUDED = re.compile(
    r"(cache|db)/_sync/|docs/promises\.md|scripts/words\.py|tests/unit/scripts/test_words\.py"
)

# Pattern -> what to say instead. A space in a pattern also matches a line break, with the `#` of a comment.
WORDS = {
    r"anew": "again, or overwrite",
    r"data ground": "data layer",
    r"mend(?:s|ed|ing)?": "fix or repair",
    r"heal(?:s|ed|ing)?": "repair or recover",
    r"whom": "name the role, process or person",
    r"hence(?:forth)?|there(?:of|from|after|in|by|upon)|where(?:of|in|upon)": "therefore, then, or a new sentence",
    r"(?:there )?(?:is|are|was|were) no (?!longer\b|more\b|later\b)[a-z]+": "is not a ...",  # but "there is no"
    r"(?:is|are|was|were|be|been) told(?! apart\b)": "reported, or notified",
    r"go(?:es|ing)? on(?! to\b)|went on": "continue",
    r"by (?:itself|themselves)": "automatically, or alone",
    r"throwaways?": "temporary server",
    r"to be had": "available",
    r"(?:held|holds?|holding) (?:\w+ ){0,4}against": "check against, or compare with",
    r"judg(?:es?|ed|ing)": "check or decide",
    r"the like": "similar ...",
    r"stands?(?!-| (?:for|in for|by|alone|still)\b)": "is",
    r"(?:those|what|the ones) there (?:is|are|was|were)(?! no\b)": "the existing ...",
    r", for (?:it|they|there|nobody|nothing) (?:is|are|was|were|has|have|had|can|may|must|would)": "because",
}
# For text in lower case: without IGNORECASE the search takes a sixth of the time.
_ANY = re.compile(r"\b(?:" + "|".join(f"({pattern})" for pattern in WORDS).replace(" ", r"[\s#]+") + r")\b")
_ADVICE = list(WORDS.values())
_TEST_NAME = re.compile(r"^ *(?:async )?def (test_\w+)", re.MULTILINE)
_F_STRING = getattr(tokenize, "FSTRING_MIDDLE", tokenize.STRING)


def main() -> int:
    """Print every finding. Return 1 if there is one."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--", *FILES], cwd=ROOT, check=True, capture_output=True, text=True
    )
    found = False
    for name in listed.stdout.split("\0"):
        if not name or EXCLUDED.match(name) or not (ROOT / name).is_file():
            continue
        for line, word, advice in findings(name, (ROOT / name).read_text("utf-8")):
            print(f"{name}:{line}: {word!r}; say: {advice}")
            found = True
    return int(found)


def findings(name: str, text: str) -> Iterator[tuple[int, str, str]]:
    """Yield line, word and advice for every finding in the text of the file `name`."""
    spans: list[tuple[int, int]] | None = None
    for match in _matches(text):
        if name.endswith(".py"):
            # Tokenizing is slow, and most files have no match.
            spans = _texts(text) if spans is None else spans
            if not any(start <= match.start() < end for start, end in spans):
                continue
        yield _found(match, text.count("\n", 0, match.start()) + 1)
    if name.endswith(".py"):
        for definition in _TEST_NAME.finditer(text):
            for match in _matches(definition[1].replace("_", " ")):
                yield _found(match, text.count("\n", 0, definition.start(1)) + 1)


def _matches(text: str) -> Iterator[re.Match[str]]:
    for match in _ANY.finditer(text.lower()):
        if match[0].split(None, 1)[0] != "there":
            yield match


def _found(match: re.Match[str], line: int) -> tuple[int, str, str]:
    assert match.lastindex is not None
    return line, " ".join(match[0].replace("#", " ").split()), _ADVICE[match.lastindex - 1]


def _texts(source: str) -> list[tuple[int, int]]:
    """Return the start and end of each comment, and of each string that contains a space."""
    lines = [0]
    for line in source.splitlines(keepends=True):
        lines.append(lines[-1] + len(line))
    spans = []
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        is_string = token.type in (tokenize.STRING, _F_STRING) and " " in token.string
        if token.type == tokenize.COMMENT or is_string:
            (row, column), (end_row, end_column) = token.start, token.end
            spans.append((lines[row - 1] + column, lines[end_row - 1] + end_column))
    return spans


if __name__ == "__main__":
    sys.exit(main())
