"""Prove that two texts of a migration mean the same to the server, or find the first line that may differ.

Line ends, a byte order mark, comments, and blanks between tokens do not change what a script does. A change inside a
literal or a function's body does, because the server stores it. Texts that are not proven equal count as different.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import zip_longest

from db.migrator.script import BYTE_ORDER_MARK, continues_literal, line_at, tokens, unterminated_at
from db.migrator.source import checksum_of

# A blank next to one of these never matters.
_LOOSE = frozenset("(),;[]")
_NO_TRANSACTION = "-- no-transaction"
# Line ends that an editor or git may have written.
_LINE_ENDS = ("\n", "\r\n", "\r")


def first_difference(old: str, new: str) -> int | None:
    """Return the line of `new`, from 1, where its meaning may differ from `old`, or None if it provably does not."""
    if old.startswith(_NO_TRANSACTION) != new.startswith(_NO_TRANSACTION):
        return 1
    last = len(new)
    for before, after in zip_longest(_significant(old), _significant(new)):
        if before is None or after is None or before[0] != after[0]:
            return line_at(new, last if after is None else after[1])
    # The server has accepted the old text, so an open literal means that the tokens are not those of the server.
    at = unterminated_at(new)
    return None if at is None else line_at(new, at)


def describe_difference(old: str, new: str) -> str:
    """Describe a harmless difference, as in "line ends, comments"."""
    parts = []
    if old.startswith(BYTE_ORDER_MARK) != new.startswith(BYTE_ORDER_MARK):
        parts.append("a byte order mark")
    old, new = old.removeprefix(BYTE_ORDER_MARK), new.removeprefix(BYTE_ORDER_MARK)
    if _line_ends(old) != _line_ends(new) and _line_ends(old) and _line_ends(new):
        parts.append("line ends")
    old, new = _with_line_ends(old, "\n"), _with_line_ends(new, "\n")
    if _comments(old) != _comments(new):
        parts.append("comments")
    elif old != new:
        parts.append("blanks")
    return ", ".join(parts)


def text_of(checksum: bytes, raw: bytes, ignored_chars: str = "") -> str | None:
    """Return the text with this checksum that differs from `raw` only in line ends or a byte order mark, or None."""
    try:
        given = raw.decode("utf-8")
    except UnicodeDecodeError:
        return None
    for mark in ("", BYTE_ORDER_MARK):
        for end in (None, *_LINE_ENDS):
            for last in (None, "", end or "\n"):
                text = given.removeprefix(BYTE_ORDER_MARK)
                text = text if end is None else _with_line_ends(text, end)
                text = mark + (text if last is None else text.rstrip("\r\n") + last)
                if checksum_of(text.encode(), ignored_chars) == checksum:
                    return text
    return None


def _significant(sql: str) -> Iterator[tuple[str, int]]:
    """Yield the significant tokens and their offsets. A significant blank between two tokens is normalised."""
    previous: tuple[str, str] | None = None
    gap = ""
    for kind, text, place in tokens(sql):
        if kind == "blank":
            gap += text
            continue
        if previous is not None and _is_bound(previous, (kind, text)):
            # 'a' and 'b' are one literal only if there is a line end between them, which is not in a block comment.
            is_continued = kind == previous[0] == "literal" and continues_literal(gap)
            yield "\n" if is_continued else " " if gap else "", place
        yield text, place
        previous, gap = (kind, text), ""


def _is_bound(left: tuple[str, str], right: tuple[str, str]) -> bool:
    """Return whether a blank between these tokens may change the meaning."""
    if left[1] in _LOOSE or right[1] in _LOOSE:
        return False
    if left[0] == right[0] == "other":
        return True
    if left[0] == "other":
        # As in $1 (a parameter), U&'...' (a literal) and 1.5 (a number).
        return left[1] in {"$", "&"} or (left[1] == "." and right[0] == "number")
    if right[0] == "other":
        return right[1] == "&" or (right[1] == "." and left[0] == "number")
    return True


def _comments(sql: str) -> list[str]:
    return [
        text.rstrip() for kind, text, _ in tokens(sql) if kind == "blank" and text.startswith(("--", "/*"))
    ]


def _line_ends(text: str) -> str:
    return "CRLF" if "\r\n" in text else "CR" if "\r" in text else "LF" if "\n" in text else ""


def _with_line_ends(text: str, end: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n").replace("\n", end)
