"""Fits sections of a page into a limit: what does not fit is counted and said, never dropped in silence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

_NOTE = "- … {count} more left out here for want of room; {where}"
_END = "… {count} whole sections left out here for want of room; {where}"
_NOTE_ROOM = len(_NOTE) + 10


@dataclass(frozen=True)
class Section:
    """Lines that stay (`head`), a list of which a part may go, from its end (`items`), and lines after it (`foot`).

    Items are in the order of their weight. `where` says where all of them can be seen; each text is Markdown.
    """

    head: tuple[str, ...]
    items: tuple[str, ...] = ()
    where: str = ""
    foot: tuple[str, ...] = ()

    @property
    def fixed(self) -> int:
        """Characters it takes without any item: with its lines' ends, and a note that something was left out."""
        kept = sum(len(line) + 1 for line in (*self.head, *self.foot)) + 1
        return kept + (_NOTE_ROOM + len(self.where) + 1 if self.items else 0)

    @property
    def wanted(self) -> int:
        return sum(len(item) + 1 for item in self.items)

    def lines(self, room: int) -> list[str]:
        """Its lines, with as many items as fit into `room` characters."""
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
    """The sections' text, shorter than `limit` characters. Sections share what there is; the first ones stay."""
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
    """Everybody the same, and what one does not need to the others."""
    shares = [0] * len(wanted)
    order = sorted(range(len(wanted)), key=lambda n: wanted[n])
    for position, n in enumerate(order):
        shares[n] = min(wanted[n], room // (len(order) - position))
        room -= shares[n]
    return shares
