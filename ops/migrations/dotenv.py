"""Read variables from a file .env, as sqlx-cli does with the crate dotenvy 0.15.

The file is the nearest one, from the current folder upwards. The environment has priority over it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from ops.errors import Exit, OpsError
from ops.migrations.text_file import read_text_file, refuse_broken_link

_LINE = re.compile(r"\s*(?:export\s+)?(?P<name>[A-Za-z_][A-Za-z0-9_.]*)\s*=\s*(?P<value>.*)", re.DOTALL)
# A part of a value: in single quotes, in double quotes, a variable, an escape, or other characters.
_PART = re.compile(
    r"'(?P<single>[^']*)'"
    r'|"(?P<double>(?:\\.|[^"\\])*)"'
    r"|\$(?:\{(?P<braced>[^}]*)\}|(?P<plain>[A-Za-z0-9]*))"
    r"|\\(?P<escape>.)"
    r"|(?P<text>[^\s'\"$\\]+)",
    re.DOTALL,
)
_INNER = re.compile(
    r"\$(?:\{(?P<braced>[^}]*)\}|(?P<plain>[A-Za-z0-9]*))|\\(?P<escape>.)|(?P<text>[^$\\]+)", re.DOTALL
)
_ESCAPES = {"\\": "\\", "'": "'", '"': '"', "$": "$", " ": " ", "n": "\n"}


def find_dotenv(start: Path) -> Path | None:
    """Return the nearest file .env, from `start` upwards, or None. Raises OpsError (2) for a broken link."""
    for folder in (start, *start.parents):
        path = folder / ".env"
        refuse_broken_link(path)
        if path.is_file():
            return path
    return None


def read_dotenv(path: Path) -> dict[str, str]:
    """Return the file's variables. The first line of a name counts. Raises OpsError (2) for an invalid line."""
    found: dict[str, str] = {}
    # As dotenvy does, a quoted value may contain line ends.
    lines = (read_text_file(path) or "").split("\n")
    at = 0
    while at < len(lines):
        first, line = at, lines[at]
        at += 1
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        while (value := _value(line, found)) is None and at < len(lines) and _is_open(line):
            line += f"\n{lines[at]}"
            at += 1
        match = _LINE.match(line)
        if value is None or match is None:
            # The line is not quoted, because it may contain a password.
            raise OpsError(
                f"{path}:{first + 1} is not NAME=value; quote a value that contains blanks, quotes or $",
                Exit.USAGE,
            )
        found.setdefault(match["name"], value)
    return found


def _is_open(line: str) -> bool:
    """Return whether a quote of the line is not closed."""
    bare = re.sub(r"\\.", "", line)
    without = re.sub(r"'[^']*'|\"[^\"]*\"", "", bare)
    return "'" in without or '"' in without


def _value(line: str, found: Mapping[str, str]) -> str | None:
    """Return the value of a line, or None if the line is not valid."""
    match = _LINE.match(line)
    if match is None:
        return None
    rest, parts = match["value"].rstrip(), []
    if rest.startswith("#"):
        return ""
    while rest and not rest[0].isspace():
        part = _PART.match(rest)
        if part is None:
            return None
        rest = rest[part.end() :]
        text = _expanded(part, found)
        if text is None:
            return None
        parts.append(text)
    # A comment needs a blank before it.
    return "".join(parts) if not rest.strip() or rest.lstrip().startswith("#") else None


def _expanded(part: re.Match[str], found: Mapping[str, str]) -> str | None:
    groups = part.groupdict()
    if groups.get("single") is not None:
        return groups["single"]
    if (inner := groups.get("double")) is not None:
        pieces = [_expanded(piece, found) for piece in _INNER.finditer(inner)]
        return None if None in pieces else "".join(filter(None, pieces))
    if (escape := groups["escape"]) is not None:
        return _ESCAPES.get(escape)
    if groups["text"] is not None:
        return groups["text"]
    name = groups["braced"] if groups["braced"] is not None else groups["plain"]
    return os.environ.get(name, found.get(name, ""))
