"""Expand and contract: whether a migration runs before or after a deploy.

An expand migration keeps running code working. A contract migration removes what only older code needs. Migrations
always run in the order of their versions, so a phase that would skip a pending migration of the other phase is
refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import dropwhile
from typing import Literal, get_args

from db.migrator.script import line_at, tokens

Phase = Literal["expand", "contract"]
PHASES: tuple[Phase, ...] = get_args(Phase)
DEFAULT: Phase = "expand"
# Several words are a header only if the first is a phase. Otherwise they are a comment that begins like one.
_HEADER = re.compile(r"--[ \t]*phase:[ \t]*(?P<phase>\S*|(?:expand|contract)\b.*?)[ \t]*", re.IGNORECASE)
_ANY = re.compile("phase:", re.IGNORECASE)


def header_lines(sql: str) -> Iterator[tuple[int, str]]:
    """Yield the `--` comments that a file begins with, with their lines from 1. Skips blanks and block comments."""
    for kind, text, place in tokens(sql):
        if kind != "blank":
            return
        if text.startswith("--"):
            yield line_at(sql, place), text


def declared_phases(sql: str) -> list[tuple[int, str]]:
    """Return (line, value) of each `-- phase: value` among a file's first comments, valid or not."""
    return [(line, said) for line, text in header_lines(sql) if (said := _said(text)) is not None]


def late_phases(sql: str) -> list[int]:
    """Return the lines of valid phases after the first statement, where they have no effect."""
    # Most files have none, and finding the tokens is slow.
    if not _ANY.search(sql):
        return []
    rest = dropwhile(lambda token: token[0] == "blank", tokens(sql))
    return [line_at(sql, place) for kind, text, place in rest if kind == "blank" and _said(text) in PHASES]


def _said(comment: str) -> str | None:
    match = _HEADER.fullmatch(comment)
    return match["phase"] if match else None


def phase_of(sql: str) -> Phase:
    """Return the phase in the file's header; expand if there is none."""
    return next((phase for _, said in declared_phases(sql) for phase in PHASES if said == phase), DEFAULT)
