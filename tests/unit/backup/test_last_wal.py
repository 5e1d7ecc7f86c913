"""Which WAL a restore takes from the old data of one or several servers, beyond what the repository has."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ops.backup import last_wal
from ops.backup.errors import BackupError
from ops.backup.last_wal import add_last_wal
from ops.backup.repository import Contents
from ops.backup.restore import Target, _refuse_ambiguous
from ops.backup.wal import Branch, History, Segment
from ops.errors import Exit, OpsError

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
FIRST, SECOND, THIRD = "/data", "/postgres-2", "/postgres-3"
# Timeline 2 began in segment 5. The repository has everything up to segment 6.
HISTORY = History(2, (Branch(1, Segment(1, 5).first_byte + 100, None),))
ARCHIVED = {Segment(1, n): NOON + timedelta(hours=n) for n in (3, 4)} | {
    Segment(2, n): NOON + timedelta(hours=n) for n in (5, 6)
}
CONTENTS = Contents((), ARCHIVED, HISTORY)


class Bench:
    """Data folders with their segments, and the commands that copied a segment or archived it."""

    name = "bench"

    def __init__(self, primary: str, **segments: list[Segment]) -> None:
        self.primary = primary
        paths = {"first": FIRST, "second": SECOND, "third": THIRD}
        self.segments = {paths[name]: each for name, each in segments.items()}
        self.identifiers = dict.fromkeys(self.segments, "7")
        self.copied: list[tuple[str, str]] = []

    def sh(self, script: str, *arguments: str) -> str:
        assert script.startswith("cp ")
        self.copied.append((arguments[0], arguments[2]))
        return ""

    def exists(self, path: str) -> bool:
        return False


def add(monkeypatch: pytest.MonkeyPatch, bench: Bench, moment: datetime | None = None) -> list[str]:
    archived: list[str] = []
    monkeypatch.setattr(last_wal, "_identifier", lambda _, folder: bench.identifiers.get(folder, "7"))
    monkeypatch.setattr(last_wal, "_written", lambda _, folder: bench.segments[folder])
    monkeypatch.setattr(last_wal, "_is_primary", lambda _, folder: folder == bench.primary)
    monkeypatch.setattr(last_wal, "_archive", lambda _, folder, segment, say: archived.append(str(segment)))
    benched: Any = bench
    add_last_wal(
        benched, CONTENTS, moment, olds=list(bench.segments), restored="/restored", progress=archived.append
    )
    return archived


def test_the_primary_of_equally_new_servers_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    newest = [Segment(2, 6), Segment(2, 7)]
    bench = Bench(SECOND, first=newest, second=newest, third=[Segment(2, 6)])
    add(monkeypatch, bench)
    assert bench.copied == [(SECOND, str(Segment(2, 7)))]


def test_the_newest_server_is_used_if_the_primary_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench("lost", first=[Segment(2, 6)], third=[Segment(2, 6), Segment(2, 7), Segment(2, 8)])
    # A replica does not archive. All but the last segment are complete.
    assert add(monkeypatch, bench) == [str(Segment(2, 7))]
    assert [segment for _, segment in bench.copied] == [str(Segment(2, 7)), str(Segment(2, 8))]


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


def _contents(history: History, *segments: tuple[int, int, float]) -> Contents:
    archived = {Segment(timeline, n): NOON + timedelta(hours=at) for timeline, n, at in segments}
    return Contents((), archived, history)


@pytest.mark.parametrize("failovers", [0, 1, 2])
def test_a_time_that_a_restore_discarded_is_ambiguous_after_failovers_too(failovers: int) -> None:
    restored = Branch(1, Segment(1, 5).first_byte + 100, NOON + timedelta(hours=1))
    later = tuple(Branch(2 + n, Segment(1, 6 + n).first_byte + 100, None) for n in range(failovers))
    history = History(2 + failovers, (restored, *later))
    archived = [(1, 4, 0.5), *((2 + n, 5 + n, 4.0 + n) for n in range(failovers + 1))]
    found = _contents(history, *archived)
    with pytest.raises(OpsError, match=f"add --timeline 1 .* or --timeline {2 + failovers} ") as refused:
        _refuse_ambiguous(found, Target(NOON + timedelta(hours=2)))
    assert refused.value.exit_code == Exit.USAGE
    for at in (0.9, 4.5):
        _refuse_ambiguous(found, Target(NOON + timedelta(hours=at)))
    _refuse_ambiguous(found, Target(NOON + timedelta(hours=2), timeline=1))


def test_a_failover_makes_no_time_ambiguous() -> None:
    _refuse_ambiguous(CONTENTS, Target(NOON + timedelta(hours=4.5)))
