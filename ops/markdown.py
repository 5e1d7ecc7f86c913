"""Render Markdown that quotes foreign text: the text becomes code, never markup or a mention.

Escaping is not enough, because GitHub looks for mentions and issue numbers in rendered text, but not in code.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from ops.printable import printable


def code(text: str, limit: int = 200) -> str:
    """Return a one-line code span of any text, cut off after `limit` characters. It is safe in a table cell."""
    shown = printable(text) or "(empty)"
    if len(shown) > limit:
        shown = f"{shown[: limit - 1]}…"
    if "|" in shown:
        # A bar ends a cell even inside backticks, and a backslash before it may itself be escaped.
        return f"<code>{_entities(shown)}</code>"
    fence = "`" * (max(map(len, re.findall("`+", shown)), default=0) + 1)
    # Without the blanks, a backtick at the text's start or end would become part of the fence.
    blank = " " if shown.startswith("`") or shown.endswith("`") else ""
    return f"{fence}{blank}{shown}{blank}{fence}"


def table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> Iterator[str]:
    """Yield the lines of a table. Cells must be Markdown already."""
    heads = list(heads)
    yield f"| {' | '.join(heads)} |"
    yield f"|{'---|' * len(heads)}"
    for row in rows:
        yield f"| {' | '.join(row)} |"


def _entities(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9 ]", lambda found: f"&#{ord(found[0])};", text)
