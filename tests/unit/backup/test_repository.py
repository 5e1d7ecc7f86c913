"""Restore windows: the times to which a restore is possible, and the backup with which it starts."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from ops.backup import drill, markers, restore, take_backup
from ops.backup.checks import no_gap, same_markers
from ops.backup.errors import OutsideWindow
from ops.backup.evidence import CheckFailed
from ops.backup.markers import Marker
from ops.backup.repository import Backup, Contents
from ops.backup.wal import History, Segment
from ops.commands.backup import _contents_document, _contents_lines
from tests.cases import in_case
from tests.promises import promise

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def hours(count: float) -> datetime:
    return NOON + timedelta(hours=count)


def backup(label: str, number: int, at: float, kind: str = "full") -> Backup:
    segment = Segment(1, number)
    lsn = segment.first_byte + 100
    return Backup(label, kind, hours(at), hours(at), 1000, 100, segment, segment, lsn, "15-1")


def contents(*backups: Backup, segments: range, without: frozenset[int] = frozenset()) -> Contents:
    archived = {Segment(1, n): hours(n) for n in segments if n not in without}
    return Contents(backups, archived, History(1))


TWO = (backup("A", 2, 2), backup("B", 6, 6, "incr"))


def test_without_a_gap_there_is_one_open_window() -> None:
    (window,) = contents(*TWO, segments=range(1, 10)).windows()
    assert (window.start, window.end) == (hours(2) + timedelta(seconds=1), None)
    assert str(window) == "2026-03-01T14:00:01Z to now"


@promise("a gap in the WAL splits the restore window")
def test_a_gap_separates_the_windows() -> None:
    first, second = contents(*TWO, segments=range(1, 10), without=frozenset({4})).windows()
    assert (first.end, [b.label for b in first.backups]) == (hours(3), ["A"])
    assert (second.end, [b.label for b in second.backups]) == (None, ["B"])


@promise("a time outside the restore window is refused before anything changes")
def test_a_window_before_a_gap_ends_at_its_last_commit() -> None:
    looked = contents(*TWO, segments=range(1, 10), without=frozenset({5}))
    # Segments 4 and 3 follow the backup A. They were archived hours after their last commits.
    assert looked.before_gaps() == [(Segment(1, 4), Segment(1, 3), Segment(1, 2))]
    looked = replace(looked, last_times={Segment(1, 4): hours(3.5)})
    first, second = looked.windows()
    assert (first.end, second.end) == (hours(3.5), None)
    assert looked.backup_for(hours(3.5), hours(9)).label == "A"
    with pytest.raises(OutsideWindow, match="to 2026-03-01T15:30:00Z, "):
        looked.backup_for(hours(4), hours(9))
    assert contents(*TWO, segments=range(1, 10)).before_gaps() == []


def test_a_window_that_no_server_continues_ends_with_the_archived_wal() -> None:
    looked = contents(*TWO, segments=range(1, 10))
    end = "to the end of the archived WAL (last file archived at 2026-03-01T21:00:00Z)"
    for found in (replace(looked, is_newest=False), replace(looked, is_served=False)):
        (window,) = found.windows()
        assert window.end is None
        assert str(window).endswith(end)


def test_the_newest_backup_before_the_point_in_time_is_used() -> None:
    cases: list[tuple[float, str]] = [(3, "A"), (6.1, "B"), (8, "B")]
    for at, label in cases:
        with in_case(at, label):
            assert contents(*TWO, segments=range(1, 10)).backup_for(hours(at), hours(9)).label == label


def test_a_damaged_backup_is_used_only_if_no_other_one_reaches_the_point_in_time() -> None:
    sound, damaged = backup("A", 2, 2), replace(backup("B", 6, 6), is_damaged=True)
    cases: list[tuple[str, tuple[Backup, ...], frozenset[int], float | None, str]] = [
        ("a later damaged one", (sound, damaged), frozenset(), 8, "A"),
        ("the same, to the end of the WAL", (sound, damaged), frozenset(), None, "A"),
        ("only a damaged one", (damaged,), frozenset(), 8, "B"),
        ("a gap after the other one", (sound, damaged), frozenset({4}), None, "B"),
    ]
    for name, backups, without, at, label in cases:
        with in_case(name):
            looked = contents(*backups, segments=range(1, 10), without=without)
            moment = None if at is None else hours(at)
            assert looked.backup_for(moment, hours(9)).label == label


def test_a_damaged_full_backup_does_not_count_for_the_retention() -> None:
    # From the oldest to the newest: F and f are full backups, of which f is damaged; i is incremental.
    cases: list[tuple[str, int, int]] = [
        ("", 2, 2),
        ("F", 2, 2),
        ("FiFFi", 2, 2),
        ("FFi", 1, 1),
        ("FFf", 2, 3),
        ("FFfif", 2, 4),
        ("FffF", 2, 4),
        ("FffFF", 2, 2),
        ("Fff", 2, 3),
        ("fff", 1, 3),
    ]
    for kinds, retention, kept in cases:
        with in_case(kinds, retention):
            backups = (
                replace(backup(f"{n}{kind}", n, n, "incr" if kind == "i" else "full"), is_damaged=kind == "f")
                for n, kind in enumerate(kinds, start=1)
            )
            looked = contents(*backups, segments=range(1, 9))
            assert take_backup.kept_full(looked, retention) == kept


def test_a_damaged_backup_is_marked_in_the_list_and_named_by_a_restore_that_has_to_use_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sound, damaged = backup("A", 2, 2), replace(backup("B", 6, 6), is_damaged=True)
    looked = contents(sound, damaged, segments=range(1, 10))
    _, *rows = _contents_lines(looked, "dev")
    assert ["DAMAGED PAGES" in row for row in rows[:2]] == [False, True]
    assert [row["isDamaged"] for row in _contents_document(looked)["backups"]] == [False, True]
    monkeypatch.setattr(restore, "_backup_for", lambda _site, found, _target: found.backups[0])
    for chosen, warnings in ((sound, 0), (damaged, 1)):
        only = contents(chosen, segments=range(1, 10))
        monkeypatch.setattr("ops.backup.repository.read", lambda *_, found=only: found)
        said: list[str] = []
        unused: Any = SimpleNamespace(name="bench")
        restore._choose(unused, unused, restore.Target(None), said.append)
        assert len([line for line in said if line.startswith("warning: backup B has pages")]) == warnings


def test_a_damaged_full_backup_is_not_repeated_every_day() -> None:
    looked = contents(replace(backup("A", 2, 2), is_damaged=True), segments=range(1, 4))
    assert take_backup.due(looked, 7, hours(26), None) == "incr"


def test_a_point_in_time_outside_the_windows_is_refused_with_the_windows() -> None:
    cases: list[tuple[str, float]] = [
        ("too old", 1.0),
        ("not consistent yet", 2.0),
        ("in a gap", 3.5),
        ("to come", 9.5),
    ]
    for name, at in cases:
        with in_case(name):
            looked = contents(*TWO, segments=range(1, 10), without=frozenset({4}))
            with pytest.raises(
                OutsideWindow, match=r"restorable: 2026-03-01T14:00:01Z to 2026-03-01T15:00:00Z, .* to now"
            ):
                looked.backup_for(hours(at), hours(9))


def test_the_latest_state_is_refused_if_wal_is_missing_after_the_last_backup() -> None:
    looked = contents(*TWO, segments=range(1, 10), without=frozenset({8}))
    with pytest.raises(OutsideWindow, match="WAL is missing after 2026-03-01T19:00:00Z"):
        looked.backup_for(None, hours(9))


def test_a_backup_without_its_own_wal_does_not_count() -> None:
    looked = contents(*TWO, segments=range(1, 10), without=frozenset({2}))
    assert [b.label for b in looked.restorable()] == ["B"]


def test_a_drill_fails_for_wal_that_is_missing_since_the_newest_backup() -> None:
    cases: list[tuple[str, range, set[int], str]] = [
        ("in its own WAL", range(1, 10), {6}, "file 000000010000000000000006 is missing"),
        ("after it", range(1, 10), {4, 8}, "file 000000010000000000000008 is missing"),
        ("two files after it", range(1, 10), {7, 8}, "file 000000010000000000000007 and 1 more is missing"),
        ("the end of its own WAL", range(1, 6), set(), "backup B lacks the WAL"),
    ]
    for name, segments, without, reason in cases:
        with in_case(name), pytest.raises(CheckFailed, match=reason):
            no_gap(contents(*TWO, segments=segments, without=frozenset(without)))


def test_a_drill_lists_older_gaps_and_chooses_its_time_after_them() -> None:
    cases: list[tuple[str, set[int], str]] = [
        ("between the backups", {4}, "000000010000000000000004 is missing before it"),
        ("several", {3, 4, 5}, "000000010000000000000003 and 2 more is missing before it"),
        ("in the WAL of the older one", {2}, "000000010000000000000002 is missing before it"),
    ]
    marker = Marker(1, hours(8), Segment(1, 8))
    for name, without, listed in cases:
        with in_case(name):
            looked = contents(*TWO, segments=range(1, 10), without=frozenset(without))
            assert no_gap(looked).endswith(f"no gap since backup B; {listed}")
            for written, latest in ((marker, hours(8)), (None, hours(9))):
                chosen = [drill._random_moment(looked, written) for _ in range(100)]
                assert hours(6) < min(chosen) <= max(chosen) <= latest


def test_a_drill_without_gaps_chooses_its_time_since_the_oldest_backup() -> None:
    looked = contents(*TWO, segments=range(1, 10))
    assert no_gap(looked) == "9 files up to 000000010000000000000009, no gap"
    chosen = [drill._random_moment(looked, None) for _ in range(100)]
    assert hours(2) < min(chosen) < hours(6) < max(chosen) <= hours(9)


@promise("old backups expire with their WAL, and the next full backup is due after the set days")
@pytest.mark.parametrize(("age_days", "due"), [(6.9, "incr"), (7.1, "full")])
def test_a_full_backup_is_due_after_the_configured_days(age_days: float, due: str) -> None:
    looked = contents(backup("A", 2, 2), segments=range(1, 4))
    assert take_backup.due(looked, 7, hours(2) + timedelta(days=age_days), None) == due


def test_a_full_backup_is_due_if_there_is_none() -> None:
    assert take_backup.due(contents(segments=range(1, 4)), 7, NOON, None) == "full"


FAILOVER = "1\t0/3000000\tno recovery target specified\n"
TO_A_TIME = "1\t0/3000000\tbefore 2026-03-01 14:30:00+00\n"


@promise("a full backup is due after a restore, and not after a failover")
def test_a_full_backup_is_due_after_a_restore_but_not_after_a_failover() -> None:
    cases: list[tuple[str, str, datetime | None, str]] = [
        ("failover", FAILOVER, None, "incr"),
        ("two failovers", FAILOVER + "2\t0/3800000\tno recovery target specified\n", None, "incr"),
        ("restore, full backup, failover", FAILOVER, hours(1), "incr"),
        ("restore to LATEST", FAILOVER, hours(3), "full"),
        ("restore to a time by an earlier version", TO_A_TIME, None, "full"),
        (
            "the same, and a failover",
            TO_A_TIME + "2\t0/3800000\tno recovery target specified\n",
            None,
            "full",
        ),
    ]
    for name, history, restored_at, due in cases:
        with in_case(name):
            newest = history.count("\n") + 1
            archived = {Segment(1, 2): NOON, Segment(newest, 3): NOON}
            looked = Contents((backup("A", 2, 2),), archived, History.parse(newest, history))
            assert take_backup.due(looked, 7, hours(4), restored_at) == due


def test_a_full_backup_after_a_restore_to_a_time_counts() -> None:
    archived = {Segment(2, n): NOON for n in (3, 4)}
    full = replace(backup("A", 3, 3), wal_start=Segment(2, 3), wal_stop=Segment(2, 3))
    looked = Contents((full,), archived, History.parse(2, TO_A_TIME))
    assert take_backup.due(looked, 7, hours(4), hours(2.5)) == "incr"


def test_markers_that_differ_fail() -> None:
    cases: list[tuple[str, dict[int, datetime], str]] = [
        ("one lost", {1: hours(1)}, "marker 2 of .* was not restored"),
        ("one too many", {1: hours(1), 2: hours(2), 3: hours(3)}, "marker 3 .* was written later"),
        ("another one", {1: hours(1), 2: hours(1)}, "marker 2 of .* was not restored"),
    ]
    for name, recovered, problem in cases:
        with in_case(name):
            live = {1: hours(1), 2: hours(2), 3: hours(3)}
            assert "2 of 3" in same_markers(live, {1: hours(1), 2: hours(2)}, hours(2.5))
            with pytest.raises(CheckFailed, match=problem):
                same_markers(live, recovered, hours(2.5))


def test_a_marker_does_not_wait_for_a_replica(monkeypatch: pytest.MonkeyPatch) -> None:
    # Without a synchronous replica, a backup, a drill and a restore are still possible.
    said: list[str] = []

    def psql(_container: str, sql: str) -> str:
        said.append(sql)
        return "7|1772366400.5\n000000020000000000000003\n"

    monkeypatch.setattr(markers, "psql", psql)
    written = markers.write("gw-postgres", "restore")
    assert (written.id, written.segment) == (7, Segment(2, 3))
    (sql,) = said
    assert sql.index("SET synchronous_commit = local;") < sql.index("CREATE SCHEMA")
