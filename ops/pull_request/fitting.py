"""Fit sections of a page into a limit. What does not fit is counted, and the text says so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

_NOTE = "- … {count} more were left out for lack of space; {where}"
_END = "… {count} whole sections were left out for lack of space; {where}"
_NOTE_ROOM = len(_NOTE) + 10


@dataclass(frozen=True)
class Section:
    """A section: fixed lines (`head`), a list that may be shortened (`items`), and fixed lines after it (`foot`).

    Items are in descending order of importance. `where` says where all items can be seen. All texts are Markdown.
    """

    head: tuple[str, ...]
    items: tuple[str, ...] = ()
    where: str = ""
    foot: tuple[str, ...] = ()

    @property
    def fixed(self) -> int:
        """The characters it needs without any item, including line ends and the note about left-out items."""
        kept = sum(len(line) + 1 for line in (*self.head, *self.foot)) + 1
        return kept + (_NOTE_ROOM + len(self.where) + 1 if self.items else 0)

    @property
    def wanted(self) -> int:
        return sum(len(item) + 1 for item in self.items)

    def lines(self, room: int) -> list[str]:
        """Return the section's lines with as many items as fit into `room` characters."""
        shown: list[str] = []
        for item in self.items:
            room -= len(item) + 1
            if room < 0:
                break
            shown.append(item)
        left = len(self.items) - len(shown)
        note = [_NOTE.format(count=left, where=self.where)] if left else []
        return [*self.head, *shown, *note, *self.foot, ""]


def fit(sections: Sequence[Section], limit: int, where: str) -> str:
    """Return the sections' text within `limit` characters. Sections share the space; the first ones have priority."""
    end_room = len(_END) + len(where) + 12
    kept: list[Section] = []
    room = limit - end_room
    for section in sections:
        if section.fixed > room:
            break
        room -= section.fixed
        kept.append(section)
    shares = _shares([section.wanted for section in kept], room)
    lines = [line for section, share in zip(kept, shares, strict=True) for line in section.lines(share)]
    if len(kept) < len(sections):
        lines.append(_END.format(count=len(sections) - len(kept), where=where))
    return "\n".join(lines).rstrip("\n") + "\n"


def _shares(wanted: Sequence[int], room: int) -> list[int]:
    """Divide `room` equally, and give what one section does not need to the others."""
    shares = [0] * len(wanted)
    order = sorted(range(len(wanted)), key=lambda n: wanted[n])
    for position, n in enumerate(order):
        shares[n] = min(wanted[n], room // (len(order) - position))
        room -= shares[n]
    return shares
