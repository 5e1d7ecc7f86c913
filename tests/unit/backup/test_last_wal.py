"""Which WAL a restore takes from the old data of one or several servers, beyond what the repository has."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from infra.docker.engine import DockerError
from ops.backup import last_wal
from ops.backup.errors import BackupError, RecoveryFailed
from ops.backup.last_wal import add_last_wal, archive_missing, held
from ops.backup.repository import Backup, Contents
from ops.backup.restore import Target, _refuse_ambiguous, _serve_in_bench
from ops.backup.wal import Branch, History, Segment
from ops.backup.workbench import Workbench
from ops.errors import Exit, OpsError
from tests.cases import in_case
from tests.promises import promise

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
FIRST, SECOND, THIRD = "/data", "/postgres-2", "/postgres-3"
# Timeline 2 began in segment 5. The repository has everything up to segment 6.
HISTORY = History(2, (Branch(1, Segment(1, 5).first_byte + 100, None),))
ARCHIVED = {Segment(1, n): NOON + timedelta(hours=n) for n in (3, 4)} | {
    Segment(2, n): NOON + timedelta(hours=n) for n in (5, 6)
}
CONTENTS = Contents((), ARCHIVED, HISTORY)


class Bench:
    """Data folders with their segments, and which of these were copied to the recovery, or kept to be archived."""

    name = "bench"

    def __init__(self, primary: str, **segments: list[Segment]) -> None:
        self.primary = primary
        paths = {"first": FIRST, "second": SECOND, "third": THIRD}
        self.segments = {paths[name]: each for name, each in segments.items()}
        self.identifiers = dict.fromkeys(self.segments, "7")
        self.copied: list[tuple[str, str]] = []
        self.kept: list[str] = []
        self.members = 1
        self.is_followed = True
        self.is_complete: bool | None = None
        # Where the WAL of a folder ends in its newest segment.
        self.ends: dict[str, int] = {}

    def sh(self, script: str, *arguments: str) -> str:
        assert 'cp "$source"' in script
        source, *targets = arguments
        folder, _, segment = source.partition("/pg_wal/")
        if "/restored/pg_wal" in targets:
            self.copied.append((folder, segment))
        if "/restored/groundwork-last-wal" in targets:
            self.kept.append(segment)
        return ""


def add(monkeypatch: pytest.MonkeyPatch, bench: Bench, moment: datetime | None = None) -> list[str]:
    monkeypatch.setattr(last_wal, "_identifier", lambda _, folder: bench.identifiers.get(folder, "7"))
    monkeypatch.setattr(last_wal, "_written", lambda _, folder: bench.segments[folder])
    monkeypatch.setattr(last_wal, "_end", lambda _, folder, segment: bench.ends.get(folder, 0))
    monkeypatch.setattr(last_wal, "_is_primary", lambda _, folder: folder == bench.primary)
    benched: Any = bench
    bench.is_complete = add_last_wal(
        benched,
        CONTENTS,
        moment,
        olds=list(bench.segments),
        restored="/restored",
        members=bench.members,
        is_followed=bench.is_followed,
    )
    return bench.kept


def test_the_primary_of_equally_new_servers_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    newest = [Segment(2, 6), Segment(2, 7)]
    bench = Bench(SECOND, first=newest, second=newest, third=[Segment(2, 6)])
    add(monkeypatch, bench)
    assert bench.copied == [(SECOND, str(Segment(2, 7)))]


@promise("a restore of a cluster loses no acknowledged write, even if all its servers were killed")
def test_the_newest_server_is_used_if_the_primary_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench("lost", first=[Segment(2, 6)], third=[Segment(2, 6), Segment(2, 7), Segment(2, 8)])
    # Another restore may follow this timeline to its last commit, in the incomplete segment.
    assert add(monkeypatch, bench) == [str(Segment(2, 7)), str(Segment(2, 8))]
    assert [segment for _, segment in bench.copied] == [str(Segment(2, 7)), str(Segment(2, 8))]


@promise("a restore of a cluster loses no acknowledged write, even if all its servers were killed")
def test_the_standby_whose_wal_ends_last_in_the_same_segment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    newest = [Segment(2, 6), Segment(2, 7)]
    for ends in ({FIRST: 100, SECOND: 200}, {FIRST: 200, SECOND: 100}):
        with in_case(ends):
            # The primary's data is lost, and one of its two standbys was the synchronous one.
            bench = Bench("lost", first=newest, second=newest)
            bench.ends, bench.members = ends, 3
            add(monkeypatch, bench)
            longest = max(ends, key=lambda folder: ends[folder])
            assert bench.copied == [(longest, str(Segment(2, 7)))]
            assert bench.is_complete


def test_wal_of_a_timeline_that_the_restore_does_not_follow_is_only_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cases: list[tuple[str, list[Segment], list[Segment]]] = [
        ("an incomplete segment", [Segment(2, 6), Segment(2, 7)], [Segment(2, 7)]),
        ("nothing new", [Segment(2, 6)], []),
        ("a gap", [Segment(2, 8)], []),
        ("an unknown timeline", [Segment(2, 7), Segment(3, 8)], []),
    ]
    for name, segments, kept in cases:
        with in_case(name):
            bench = Bench(FIRST, first=segments)
            bench.is_followed = False
            assert add(monkeypatch, bench) == [str(segment) for segment in kept]
            assert bench.copied == []


def test_a_former_primary_is_not_used_although_it_has_more_wal_of_its_timeline(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench = Bench(FIRST, first=[Segment(1, 4), Segment(1, 9)], second=[Segment(2, 6), Segment(2, 7)])
    add(monkeypatch, bench)
    assert bench.copied == [(SECOND, str(Segment(2, 7)))]


def test_the_data_of_another_cluster_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    # `up` creates an empty cluster if the data volumes are lost.
    bench = Bench(FIRST, first=[Segment(9, 1)], second=[])
    bench.identifiers[FIRST] = "8"
    assert add(monkeypatch, bench) == []
    assert bench.copied == []


def test_a_timeline_that_the_repository_does_not_know_is_not_lost_silently(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench = Bench(FIRST, first=[Segment(2, 6), Segment(3, 7)])
    with pytest.raises(BackupError, match="timeline 3 began, but is not in the repository, so that later"):
        add(monkeypatch, bench)
    with pytest.raises(BackupError):
        add(monkeypatch, bench, NOON + timedelta(hours=6.1))
    # Before its beginning, everything is in the repository.
    assert add(monkeypatch, bench, NOON + timedelta(hours=6)) == []


def test_missing_wal_between_the_repository_and_the_old_data_is_not_lost_silently(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench = Bench(FIRST, first=[Segment(2, 8)])
    with pytest.raises(BackupError, match="is neither in the repository nor in the old data"):
        add(monkeypatch, bench)


@promise("damage ends a restore or drill with a reason, and never with missing data")
def test_the_wal_is_complete_only_with_the_data_of_the_server_that_wrote_last(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    newest, rest = [Segment(2, 6)], [Segment(2, 6), Segment(2, 7)]
    cases = [
        ("nothing newer", Bench(FIRST, first=newest), 1, True),
        ("newer WAL", Bench(FIRST, first=rest), 1, True),
        ("no old data", Bench(FIRST), 1, False),
        ("old data without WAL", Bench(FIRST, first=[]), 1, False),
        ("an older copy of the data", Bench(FIRST, first=[Segment(2, 5)]), 1, False),
        ("all servers", Bench(FIRST, first=newest, second=newest, third=newest), 3, True),
        ("one of three servers lost", Bench(FIRST, second=newest, third=newest), 3, True),
        ("two of three servers lost", Bench(FIRST, third=rest), 3, False),
    ]
    for name, bench, members, is_complete in cases:
        bench.members = members
        add(monkeypatch, bench)
        assert bench.is_complete is is_complete, name
    # As after a lost volume, and the empty cluster that `up` has created.
    bench = Bench(FIRST, first=[Segment(1, 1)])
    bench.identifiers[FIRST] = "8"
    add(monkeypatch, bench)
    assert bench.is_complete is False
    # A later timeline is not in the repository.
    bench = Bench(FIRST, first=[*newest, Segment(3, 7)])
    add(monkeypatch, bench, NOON + timedelta(hours=6))
    assert bench.is_complete is False


def _failed_over(*archived: Segment) -> Contents:
    """Return a repository with a backup of timeline 1, of which the old primary had not archived everything."""
    first = Segment(1, 2)
    made = Backup("b", "full", NOON, NOON, 1, 1, first, first, first.first_byte, "15-1")
    return Contents((made,), dict.fromkeys((first, *archived), NOON), HISTORY)


@promise("a restore of a cluster loses no acknowledged write, even if all its servers were killed")
def test_complete_segments_that_a_failover_left_on_the_servers_are_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Timeline 2 began in segment 5, so that segments 3 and 4 of timeline 1 are complete.
    left, own = [Segment(1, 3), Segment(1, 4)], [Segment(2, 5), Segment(2, 6)]
    cases: list[tuple[str, dict[str, list[Segment]], list[Segment], dict[Segment, list[str]]]] = [
        ("the new primary", {FIRST: left + own}, own, {segment: [FIRST] for segment in left}),
        ("nothing of the new timeline yet", {FIRST: left + own}, [], {segment: [FIRST] for segment in left}),
        ("one that was archived", {FIRST: left + own}, [left[0], *own], {left[1]: [FIRST]}),
        ("everything archived", {FIRST: left + own}, [*left, *own], {}),
        # A replica that was behind has only a part of its newest segment.
        ("a part of a segment", {FIRST: left}, own, {left[0]: [FIRST]}),
        ("two servers", {FIRST: own, SECOND: left + own}, own, {segment: [SECOND] for segment in left}),
        ("the old primary", {FIRST: [*left, Segment(1, 5)]}, own, {segment: [FIRST] for segment in left}),
        ("no data", {}, own, {}),
    ]
    for name, folders, archived, found in cases:
        with in_case(name):
            bench: Any = Bench(FIRST)
            monkeypatch.setattr(last_wal, "_written", lambda _, folder, folders=folders: folders[folder])
            assert held(bench, _failed_over(*archived), list(folders)) == found


def test_a_segment_that_a_failover_left_is_archived_from_one_server(monkeypatch: pytest.MonkeyPatch) -> None:
    left, own = [Segment(1, 3), Segment(1, 4)], [Segment(2, 5), Segment(2, 6)]
    pushed, said = [], []

    def push(_: str, path: str, data: str) -> None:
        if data == FIRST:
            raise DockerError("the WAL of another cluster")
        pushed.append((path, data))

    bench: Any = Bench(FIRST)
    monkeypatch.setattr(last_wal.pgbackrest, "archive", push)
    monkeypatch.setattr(last_wal, "_written", lambda *_: left + own)
    contents = _failed_over(*own)
    assert archive_missing(bench, contents, [FIRST, SECOND, THIRD], said.append)
    assert pushed == [(f"{SECOND}/pg_wal/{segment}", SECOND) for segment in left]
    assert said[0].startswith("archiving 2 WAL files that a failover left, the first is 0000000100000000")
    assert len([line for line in said if line.startswith("warning: cannot archive")]) == len(left)
    assert not archive_missing(bench, _failed_over(*left, *own), [FIRST], said.append)


def test_wal_of_a_backup_before_a_gap_does_not_reach_the_end() -> None:
    before, after = (
        Backup(name, "full", NOON, NOON, 1, 1, Segment(1, n), Segment(1, n), n * 16 * 1024**2, "15-1")
        for name, n in (("before", 1), ("after", 4))
    )
    archived = {Segment(1, n): NOON + timedelta(hours=n) for n in (1, 2, 4, 5)}
    contents = Contents((before, after), archived, History(1))
    assert not contents.reaches_end(before)
    assert contents.reaches_end(after)
    assert not Contents((before,), archived, History(1)).reaches_end(before)


class RecoveringBench:
    """A workbench whose server recovers, or whose WAL ends before the target at the first start."""

    def __init__(self, *, reaches_target: bool, log: str = "") -> None:
        self.starts = [None] if reaches_target else [_TOO_EARLY, None]
        self.text = log
        self.cleared = 0

    def start_server(self, _: str) -> None:
        if error := self.starts.pop(0):
            raise error

    def log(self) -> str:
        return self.text

    def recover_fully(self, data: str) -> None:
        self.cleared += 1
        self.start_server(data)


_TOO_EARLY = RecoveryFailed("recovery ended before configured recovery target was reached")
_LOG = "LOG:  last completed transaction was at log time 2026-03-01 12:30:05.25+00\n"
_BACKUP = Backup("b", "full", NOON, NOON, 1, 1, Segment(1, 1), Segment(1, 1), 1, "15-1")


def _serve(bench: RecoveringBench, target: Target, *, is_complete: bool) -> list[str]:
    said: list[str] = []
    benched: Any = bench
    _serve_in_bench(benched, _BACKUP, target, is_complete, said.append)
    return said


@promise("damage ends a restore or drill with a reason, and never with missing data")
def test_a_time_after_wal_that_may_be_incomplete_is_refused() -> None:
    cases: list[tuple[str, int | None, str]] = [
        (
            _LOG,
            None,
            "the WAL ends at 2026-03-01T12:30:05Z, .*; restore to 2026-03-01T12:30:05Z or earlier, or to LATEST$",
        ),
        (_LOG, 3, "or to LATEST --timeline 3$"),
        # Nothing was committed after the backup.
        ("", None, "the WAL ends at 2026-03-01T12:00:00Z, .*; restore to LATEST$"),
    ]
    for log, timeline, reason in cases:
        with in_case(log, timeline, reason):
            bench = RecoveringBench(reaches_target=False, log=log)
            with pytest.raises(BackupError, match=reason):
                _serve(bench, Target(NOON + timedelta(hours=2), timeline), is_complete=False)
            assert bench.cleared == 0


def test_the_reason_of_a_failed_recovery_is_not_the_refusal_of_a_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    log = "FATAL:  the database system is not accepting connections\nFATAL:  recovery ended\nFATAL:  later\n"
    monkeypatch.setattr(Workbench, "sh", lambda *_: log)
    assert Workbench("bench").last_words() == "recovery ended"


def test_a_time_after_complete_wal_is_restored() -> None:
    bench = RecoveringBench(reaches_target=False, log=_LOG)
    said = _serve(bench, Target(NOON + timedelta(hours=2)), is_complete=True)
    assert said[-1] == "nothing was committed between the end of the WAL and the requested time"
    assert bench.cleared == 1


def test_a_restore_to_latest_says_when_the_wal_ends_if_the_old_data_is_lost() -> None:
    (_, warning) = _serve(RecoveringBench(reaches_target=True, log=_LOG), Target(None), is_complete=False)
    assert warning.startswith("warning: the WAL ends at 2026-03-01T12:30:05Z; later commits are missing")
    # What a restore left behind on an older timeline may also have had later commits.
    (_, warning) = _serve(RecoveringBench(reaches_target=True, log=_LOG), Target(None, 1), is_complete=False)
    assert warning.endswith("because only the archived WAL of timeline 1 is left")
    for target, is_complete in ((Target(None), True), (Target(NOON), False), (Target(None, 1), True)):
        said = _serve(RecoveringBench(reaches_target=True), target, is_complete=is_complete)
        assert said == ["replaying WAL"]


def _contents(history: History, *segments: tuple[int, int, float]) -> Contents:
    archived = {Segment(timeline, n): NOON + timedelta(hours=at) for timeline, n, at in segments}
    return Contents((), archived, history)


def test_a_time_that_a_restore_discarded_is_ambiguous_after_failovers_too() -> None:
    for failovers in (0, 1, 2):
        with in_case(failovers):
            restored = Branch(1, Segment(1, 5).first_byte + 100, NOON + timedelta(hours=1))
            later = tuple(Branch(2 + n, Segment(1, 6 + n).first_byte + 100, None) for n in range(failovers))
            history = History(2 + failovers, (restored, *later))
            archived = [(1, 4, 0.5), *((2 + n, 5 + n, 4.0 + n) for n in range(failovers + 1))]
            found = _contents(history, *archived)
            with pytest.raises(
                OpsError, match=f"pass --timeline 1 .* or --timeline {2 + failovers} "
            ) as refused:
                _refuse_ambiguous(found, Target(NOON + timedelta(hours=2)))
            assert refused.value.exit_code == Exit.USAGE
            for at in (0.9, 4.5):
                _refuse_ambiguous(found, Target(NOON + timedelta(hours=at)))
            _refuse_ambiguous(found, Target(NOON + timedelta(hours=2), timeline=1))


def test_a_failover_makes_no_time_ambiguous() -> None:
    _refuse_ambiguous(CONTENTS, Target(NOON + timedelta(hours=4.5)))
