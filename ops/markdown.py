"""Markdown for pages where others' text is shown: what they wrote is code, and neither markup nor a mention.

Escaping would not do: GitHub looks for mentions and issues' numbers in what is rendered, but not in code.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from ops.printable import printable


def code(text: str, limit: int = 200) -> str:
    """A code span of others' text, on one line, whatever is in it; also within a cell. Cut off after `limit`."""
    shown = printable(text) or "(empty)"
    if len(shown) > limit:
        shown = f"{shown[: limit - 1]}…"
    if "|" in shown:
        # A cell ends at a bar also within a span of backticks, and a backslash before it may be escaped itself.
        return f"<code>{_entities(shown)}</code>"
    fence = "`" * (max(map(len, re.findall("`+", shown)), default=0) + 1)
    # Without blanks a span would begin or end with another's backtick.
    blank = " " if shown.startswith("`") or shown.endswith("`") else ""
    return f"{fence}{blank}{shown}{blank}{fence}"


def table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> Iterator[str]:
    """The lines of a table; cells are Markdown already."""
    heads = list(heads)
    yield f"| {' | '.join(heads)} |"
    yield f"|{'---|' * len(heads)}"
    for row in rows:
        yield f"| {' | '.join(row)} |"


def _entities(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9 ]", lambda found: f"&#{ord(found[0])};", text)
