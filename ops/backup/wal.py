"""WAL in the repository: segments, timelines, and gaps. Plain data, without a server."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

_SEGMENT = re.compile(r"(?P<timeline>[0-9A-F]{8})(?P<log>[0-9A-F]{8})(?P<segment>[0-9A-F]{8})")
_SEGMENT_BYTES = 16 * 1024**2
_SEGMENTS_A_LOG = 2**32 // _SEGMENT_BYTES
# The reason in a history file after a restore to a time: when the branch begins.
_BEFORE = re.compile(r"before (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?:\.\d+)?)\+00")


@dataclass(frozen=True, order=True)
class Segment:
    """One WAL file: its timeline, and its number from the start of the cluster."""

    timeline: int
    number: int

    @classmethod
    def parse(cls, name: str) -> Segment | None:
        """Parse Postgres's file name. Return None for other names (a history, a `.partial`)."""
        found = _SEGMENT.fullmatch(name)
        if found is None:
            return None
        log, segment = int(found["log"], 16), int(found["segment"], 16)
        return cls(int(found["timeline"], 16), log * _SEGMENTS_A_LOG + segment)

    @property
    def first_byte(self) -> int:
        """The segment's WAL position, as recorded in its first page."""
        return self.number * _SEGMENT_BYTES

    @property
    def end(self) -> int:
        """The WAL position after the segment. Without it, pg_waldump waits 5 s for the file of the next segment."""
        return self.first_byte + _SEGMENT_BYTES

    def __str__(self) -> str:
        log, segment = divmod(self.number, _SEGMENTS_A_LOG)
        return f"{self.timeline:08X}{log:08X}{segment:08X}"


@dataclass(frozen=True)
class Branch:
    """The point `lsn` at which the next timeline begins. `since` is its time, if the history file has it."""

    timeline: int
    lsn: int
    since: datetime | None

    @property
    def segment(self) -> int:
        return self.lsn // _SEGMENT_BYTES


def parse_lsn(text: str) -> int:
    """Return an LSN such as `16/B374D848` as a number of bytes."""
    high, low = text.split("/")
    return (int(high, 16) << 32) + int(low, 16)


def show_lsn(position: int) -> str:
    """Return a WAL position in bytes as an LSN."""
    return f"{position >> 32:X}/{position & 0xFFFFFFFF:X}"


@dataclass(frozen=True)
class History:
    """A timeline and its ancestors, oldest first. A restore reads each ancestor up to its branch."""

    timeline: int
    branches: tuple[Branch, ...] = ()

    @classmethod
    def parse(cls, timeline: int, text: str) -> History:
        """Parse a history file, which has a line `TIMELINE<tab>LSN<tab>REASON` for each ancestor."""
        branches = []
        for line in text.splitlines():
            fields = line.split("\t")
            if len(fields) >= 2 and fields[0].strip().isdigit():
                before = _BEFORE.search(fields[2]) if len(fields) > 2 else None
                since = datetime.fromisoformat(before[1]).replace(tzinfo=UTC) if before else None
                branches.append(Branch(int(fields[0]), parse_lsn(fields[1]), since))
        return cls(timeline, tuple(branches))

    def segment(self, number: int) -> Segment:
        """Return the file that recovery along this history reads: on the newest timeline that exists at that point."""
        for branch in self.branches:
            if number < branch.segment:
                return Segment(branch.timeline, number)
        return Segment(self.timeline, number)

    def holds(self, timeline: int, lsn: int) -> bool:
        """Return whether that point of a timeline is part of this history."""
        if timeline == self.timeline:
            return True
        return any(b.timeline == timeline and lsn <= b.lsn for b in self.branches)

    def is_after(self, timeline: int, branch: Branch) -> bool:
        """Return whether a timeline of this history began at that branch or later."""
        later = self.branches[self.branches.index(branch) + 1 :]
        return timeline == self.timeline or any(b.timeline == timeline for b in later)


def contiguous_end(first: int, present: frozenset[Segment], history: History) -> int:
    """Return the last number of the gapless run that starts at `first`, or `first - 1` if `first` is missing."""
    number = first
    while history.segment(number) in present:
        number += 1
    return number - 1


def last_number(present: Iterable[Segment], history: History) -> int:
    """Return the newest number on the history, or 0 if there is none."""
    return max((s.number for s in present if history.segment(s.number) == s), default=0)


def missing(first: int, present: frozenset[Segment], history: History) -> list[Segment]:
    """Return the segments that are missing between `first` and the newest one."""
    wanted = (history.segment(n) for n in range(first, last_number(present, history) + 1))
    return [segment for segment in wanted if segment not in present]
