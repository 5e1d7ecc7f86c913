"""WAL segments, timeline histories and gaps: which segments a recovery requires, and whether they exist."""

from __future__ import annotations

from datetime import UTC, datetime

from ops.backup import wal
from ops.backup.wal import History, Segment
from tests.cases import in_case

# Timeline 2 branches from 1 in the middle of segment 5, and timeline 3 from 2 exactly at the start of segment 8.
HISTORY = History.parse(
    3,
    "1\t0/5400000\tbefore 2026-03-01 02:50:00.5+00\n2\t0/8000000\tno recovery target specified\n",
)


def present(*names: tuple[int, int]) -> frozenset[Segment]:
    return frozenset(Segment(timeline, number) for timeline, number in names)


def test_only_complete_segments_are_read() -> None:
    cases: list[tuple[str, Segment | None]] = [
        ("000000010000000000000002", Segment(1, 2)),
        ("0000000A00000001000000FF", Segment(10, 511)),
        ("000000010000000000000002.partial", None),
        ("00000002.history", None),
        ("000000010000000000000002.00000028.backup", None),
    ]
    for name, segment in cases:
        with in_case(name, segment):
            assert Segment.parse(name) == segment
            assert segment is None or str(segment) == name


def test_an_lsn_is_written_as_it_is_read() -> None:
    for text in ("0/0", "0/5400000", "16/B374D848"):
        with in_case(text):
            assert wal.show_lsn(wal.parse_lsn(text)) == text


def test_a_history_contains_the_branch_points() -> None:
    assert [(b.timeline, b.segment) for b in HISTORY.branches] == [(1, 5), (2, 8)]
    assert HISTORY.branches[0].since == datetime(2026, 3, 1, 2, 50, 0, 500_000, UTC)
    assert HISTORY.branches[1].since is None


def test_a_segment_is_required_from_the_newest_timeline_that_contains_it() -> None:
    cases: list[tuple[int, int]] = [(4, 1), (5, 2), (7, 2), (8, 3), (9, 3)]
    for number, timeline in cases:
        with in_case(number, timeline):
            assert HISTORY.segment(number) == Segment(timeline, number)


def test_a_segment_after_a_branch_point_is_not_required() -> None:
    cases: list[tuple[int, str, bool]] = [
        (1, "0/5400000", True),
        (1, "0/5400001", False),
        (2, "0/7FFFFFF", True),
        (3, "9/0", True),
        (4, "0/1", False),
    ]
    for timeline, lsn, held in cases:
        with in_case(timeline, lsn, held):
            assert HISTORY.holds(timeline, wal.parse_lsn(lsn)) is held


def test_a_missing_segment_is_a_gap() -> None:
    there = present((1, 3), (1, 4), (2, 5), (2, 7), (3, 8))
    assert wal.missing(3, there, HISTORY) == [Segment(2, 6)]
    assert wal.contiguous_end(3, there, HISTORY) == 5
    assert wal.contiguous_end(7, there, HISTORY) == 8


def test_a_segment_of_an_abandoned_timeline_fills_no_gap() -> None:
    assert wal.missing(4, present((1, 4), (1, 5), (2, 6)), HISTORY) == [Segment(2, 5)]


def test_a_segment_beyond_a_branch_point_is_not_the_newest() -> None:
    assert wal.last_number(present((1, 4), (1, 99)), HISTORY) == 4
