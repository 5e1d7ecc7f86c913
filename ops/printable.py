"""Make foreign text (queries, application names) safe to print: no character moves the cursor or is invisible."""

from __future__ import annotations

import unicodedata

# Control, format (e.g. text direction), surrogate and private-use characters, and line and paragraph separators.
_UNSHOWN = ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")


def printable(text: str) -> str:
    """Return the text on one line, with invisible characters escaped."""
    joined = " ".join(text.split())
    return "".join(_escaped(c) if unicodedata.category(c) in _UNSHOWN else c for c in joined)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")
