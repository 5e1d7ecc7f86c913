"""Make foreign text (queries, names, messages of servers, files) safe to print.

Foreign text can contain escape sequences that a terminal executes, characters that reverse or hide other text, and
newlines that forge a line. Escapes have the form of JSON (`\\u001b`), so that JSON stays valid and keeps its meaning.
"""

from __future__ import annotations

import unicodedata

# Control, format (e.g. text direction), surrogate and private-use characters, and line and paragraph separators.
_UNSHOWN = ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")
# Invisible characters of other categories: fillers and variation selectors.
_INVISIBLE = (
    *(range(0x34F, 0x350), range(0x115F, 0x1161), range(0x17B4, 0x17B6), range(0x180B, 0x1810)),
    *(range(0x2065, 0x2066), range(0x3164, 0x3165), range(0xFE00, 0xFE10), range(0xFFA0, 0xFFA1)),
    *(range(0xFFF0, 0xFFF9), range(0xE0000, 0xE1000)),
)


def printable(text: str) -> str:
    """Return the text on one line, with whitespace joined and invisible characters escaped."""
    return escaped(" ".join(text.split()))


def escaped(text: str, keep: str = "\t") -> str:
    """Return the text with control and invisible characters escaped, except those in `keep`."""
    unshown = {ord(c): _escape(c) for c in set(text) if c not in keep and not _is_shown(c)}
    return text.translate(unshown) if unshown else text


def _is_shown(character: str) -> bool:
    if character.isascii():
        return character.isprintable()
    code = ord(character)
    return unicodedata.category(character) not in _UNSHOWN and not any(code in each for each in _INVISIBLE)


def _escape(character: str) -> str:
    if character in "\n\r\t":
        return {"\n": "\\n", "\r": "\\r", "\t": "\\t"}[character]
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{high:02x}{low:02x}" for high, low in zip(units[::2], units[1::2], strict=True))
