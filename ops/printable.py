"""Text that others wrote (queries, application names), made safe to show: nothing in it moves a cursor or hides."""

from __future__ import annotations

import unicodedata

# Control characters, formats (such as those that turn the direction of text), and halves of surrogates.
_UNSHOWN = ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")


def printable(text: str) -> str:
    """The text on one line, with what cannot be seen as an escape."""
    joined = " ".join(text.split())
    return "".join(_escaped(c) if unicodedata.category(c) in _UNSHOWN else c for c in joined)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")
