"""Expand and contract: whether a migration runs before or after a deploy.

An expand migration keeps running code working. A contract migration removes what only older code needs. Migrations
always run in the order of their versions, so a phase that would skip a pending migration of the other phase is
refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal, get_args

Phase = Literal["expand", "contract"]
PHASES: tuple[Phase, ...] = get_args(Phase)
DEFAULT: Phase = "expand"
# Several words are a header only if the first is a phase. Otherwise they are a comment that begins like one.
_HEADER = re.compile(r"--[ \t]*phase:[ \t]*(?P<phase>\S*|(?:expand|contract)\b.*?)[ \t]*", re.IGNORECASE)


def header_lines(sql: str) -> Iterator[tuple[int, str]]:
    """Yield the comment lines that a file begins with, numbered from 1. Blank lines between them are allowed."""
    for number, line in enumerate(sql.splitlines(), start=1):
        text = line.removeprefix("\ufeff") if number == 1 else line
        if text.startswith("--"):
            yield number, text
        elif text.strip():
            return


def declared_phases(sql: str) -> list[tuple[int, str]]:
    """Return (line, value) of each `-- phase: value` among a file's first comments, valid or not."""
    found = ((number, _HEADER.fullmatch(line)) for number, line in header_lines(sql))
    return [(number, match["phase"]) for number, match in found if match]


def phase_of(sql: str) -> Phase:
    """Return the phase in the file's header; expand if there is none."""
    return next((phase for _, said in declared_phases(sql) for phase in PHASES if said == phase), DEFAULT)
