"""The content of a stack's repository: backups, WAL, and the time windows that a restore can reach."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from infra.spec import backup, backup_repository
from ops.backup import pgbackrest, wal
from ops.backup.errors import BackupError, OutsideWindow
from ops.backup.wal import History, Segment

# pgBackRest appends the SHA-1 and the compression to the name of a WAL file, and writes to a *.tmp first.
_SUFFIX = r"-[0-9a-f]{40}(\.[a-z0-9]+)?$"
_ARCHIVED = re.compile(rf"(?:^|/)([0-9A-F]{{24}}){_SUFFIX}")
# A shell script that looks for the WAL file $1 each second, at most $2 times, and prints a line when it is in the
# repository. A single command in the container does it, because starting one takes more CPU time than a look.
AWAIT_ARCHIVED = rf"""
folder={backup_repository.FOLDER}/archive/{backup_repository.STANZA}/*/${{1%????????}}
for attempt in $(seq "$2"); do
    if ls $folder 2>/dev/null | grep -Eq "^$1"'{_SUFFIX}'; then echo archived; exit; fi
    sleep 1
done
"""
# A shell script that prints the time of the last commit or rollback in the WAL file $1.
_LAST_COMMIT = rf"""
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
{backup.PGBACKREST} archive-get "$1" "$folder/$1" 2>/dev/null || exit 0
pg_waldump --rmgr=Transaction --path="$folder" --timeline="$2" --start="$3" --end="$4" 2>/dev/null \
    | sed -nE 's/.* desc: (COMMIT|ABORT) ([0-9-]+ [0-9:.]+) UTC.*/\2/p' | sort | tail -n 1
"""
_HISTORY = re.compile(r"(?:^|/)([0-9A-F]{8})\.history$")


@dataclass(frozen=True)
class Backup:
    """One backup. `size_bytes` is the database's size, `stored_bytes` what the backup added to the repository.

    `is_damaged` is whether pgBackRest found pages with a wrong checksum in it.
    """

    label: str
    kind: str
    start: datetime
    stop: datetime
    size_bytes: int
    stored_bytes: int
    wal_start: Segment
    wal_stop: Segment
    lsn_stop: int
    archive_id: str
    is_damaged: bool = False

    @property
    def restorable_from(self) -> datetime:
        """The first full second in which the cluster is consistent. pgBackRest records whole seconds."""
        return datetime.fromtimestamp(self.stop.timestamp() + 1, UTC)


@dataclass(frozen=True)
class Window:
    """Every time from `start` to `end` can be restored. `end` is None for the window that reaches the newest WAL.

    `archived` is when the last file of that window was archived, if no server continues it.
    """

    start: datetime
    end: datetime | None
    backups: tuple[Backup, ...]
    archived: datetime | None = None

    def __str__(self) -> str:
        end = "now" if self.end is None else show_time(self.end)
        if self.end is None and self.archived is not None:
            end = f"the end of the archived WAL (last file archived at {show_time(self.archived)})"
        return f"{show_time(self.start)} to {end}"


@dataclass(frozen=True)
class Contents:
    """A snapshot of the repository: when each segment was archived, and the history of one timeline.

    `is_newest` is whether this is the newest timeline, which the servers continue, and `is_served` whether one runs.
    `last_times` are the last restorable times in segments before a gap. Without it, the time of archiving is used.
    """

    backups: tuple[Backup, ...]
    archived_at: dict[Segment, datetime]
    history: History
    is_newest: bool = True
    is_served: bool = True
    last_times: dict[Segment, datetime] = field(default_factory=dict)

    @property
    def present(self) -> frozenset[Segment]:
        return frozenset(self.archived_at)

    @property
    def newest(self) -> Segment | None:
        """The newest segment of the history."""
        number = wal.last_number(self.present, self.history)
        segment = self.history.segment(number)
        return segment if segment in self.archived_at else None

    @property
    def _first(self) -> int | None:
        """The number of the first segment of the oldest backup."""
        return min((b.wal_start.number for b in self.backups), default=None)

    def restorable(self) -> tuple[Backup, ...]:
        """Return the backups on the history whose WAL makes them consistent."""
        return tuple(
            b
            for b in self.backups
            if self.history.holds(b.wal_stop.timeline, b.lsn_stop)
            and wal.contiguous_end(b.wal_start.number, self.present, self.history) >= b.wal_stop.number
        )

    def missing(self) -> list[Segment]:
        """Return the segments missing since the oldest backup between existing ones."""
        first = self._first
        return [] if first is None else wal.missing(first, self.present, self.history)

    def unarchived(self) -> list[Segment]:
        """Return the missing segments, and those of earlier timelines that are newer than the newest one."""
        first = self._first
        if first is None:
            return []
        begins = max((branch.segment for branch in self.history.branches), default=0)
        after = max(wal.last_number(self.present, self.history) + 1, first)
        return [*self.missing(), *(self.history.segment(number) for number in range(after, begins))]

    def windows(self) -> list[Window]:
        """Return what a restore can reach, oldest first. Missing WAL splits it into several windows."""
        last = wal.last_number(self.present, self.history)
        runs: dict[int, list[Backup]] = {}
        for b in self.restorable():
            end = wal.contiguous_end(b.wal_start.number, self.present, self.history)
            runs.setdefault(end, []).append(b)
        is_continued = self.is_newest and self.is_served
        windows = []
        for end, backups in sorted(runs.items()):
            start, segment = min(b.restorable_from for b in backups), self.history.segment(end)
            archived = self.archived_at[segment]
            until = None if end == last else max(start, self.last_times.get(segment, archived))
            windows.append(Window(start, until, tuple(backups), None if is_continued else archived))
        return windows

    def before_gaps(self) -> list[tuple[Segment, ...]]:
        """Return the segments after the newest backup of each window that ends before a gap, newest first."""
        found = []
        for window in self.windows():
            if window.end is not None:
                first = max(window.backups, key=lambda b: b.stop).wal_stop.number
                last = wal.contiguous_end(first, self.present, self.history)
                found.append(tuple(map(self.history.segment, range(last, first - 1, -1))))
        return found

    def reaches_end(self, chosen: Backup) -> bool:
        """Return whether the WAL from a backup to the newest segment has no gap."""
        windows = self.windows()
        return bool(windows) and windows[-1].end is None and chosen in windows[-1].backups

    def backup_for(self, moment: datetime | None, now: datetime) -> Backup:
        """Return the newest backup before `moment` whose WAL reaches it. None means the end of the WAL.

        A damaged backup is returned only if there is no other: recovery from an older one can repair the pages.
        Raise OutsideWindow with the reachable windows if there is none.
        """
        windows = self.windows()
        if not windows:
            raise OutsideWindow("there is no backup to restore from; run `groundwork backup`")
        if moment is None:
            if windows[-1].end is not None:
                raise OutsideWindow(
                    f"WAL is missing after {show_time(windows[-1].end)}, and there is no later backup;"
                    " restore to that time or an earlier one"
                )
            return max(windows[-1].backups, key=_preference)
        for window in windows:
            if window.start <= moment <= (window.end or now):
                return max((b for b in window.backups if b.restorable_from <= moment), key=_preference)
        reachable = ", ".join(map(str, windows))
        raise OutsideWindow(f"cannot restore to {show_time(moment)}; restorable: {reachable}")


def _preference(candidate: Backup) -> tuple[bool, datetime]:
    return not candidate.is_damaged, candidate.stop


def read(container: str, timeline: int | None = None) -> Contents:
    """Read the repository through a container that mounts it. `timeline` selects one other than the newest."""
    (info,) = json.loads(pgbackrest.run(container, "info", "--output=json"), strict=False)
    contents = contents_of(container, info, timeline)
    ends: dict[Segment, datetime] = {}
    for segments in contents.before_gaps():
        # The last segments may have no commit.
        times = (_last_time(container, segment) for segment in segments)
        if (last := next(filter(None, times), None)) is not None:
            ends[segments[0]] = last
    return replace(contents, last_times=ends)


def contents_of(container: str, info: dict[str, Any], timeline: int | None = None) -> Contents:
    """Return the contents of a repository by its stanza of `info --output=json`, and by a listing of its WAL."""
    if reason := pgbackrest.trouble(info):
        raise BackupError(
            f"cannot read the backup repository: {reason}; restore its volume and the stack's key"
            " (docs/backup.md)"
        )
    backups = tuple(_backup(entry, info) for entry in info["backup"])
    archive_id = info["archive"][-1]["id"] if info["archive"] else None
    archived_at: dict[Segment, datetime] = {}
    histories: set[int] = set()
    folder = f"archive/{backup_repository.STANZA}/{archive_id}"
    if archive_id is not None:
        listed = json.loads(_run_ls(container, folder))
        for path, entry in listed.items():
            if found := _ARCHIVED.search(path):
                segment = Segment.parse(found[1])
                assert segment is not None
                archived_at[segment] = datetime.fromtimestamp(entry["time"], UTC)
            elif found := _HISTORY.search(path):
                histories.add(int(found[1], 16))
    timelines = {1} | histories | {segment.timeline for segment in archived_at}
    if timeline is not None and timeline not in timelines:
        known = ", ".join(map(str, sorted(timelines)))
        raise OutsideWindow(f"the repository has no timeline {timeline}; timelines: {known}")
    wanted = timeline or max(timelines)
    if wanted != 1 and wanted not in histories:
        raise BackupError(
            f"the backup repository lacks the history of timeline {wanted}; run `groundwork backup`, which archives it"
        )
    history = History(wanted) if wanted == 1 else _history(container, folder, wanted)
    own = tuple(b for b in backups if b.archive_id == archive_id)
    return Contents(own, archived_at, history, wanted == max(timelines))


def show_time(moment: datetime) -> str:
    """Format a time as ISO 8601 in UTC, as `restore --to` accepts it."""
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _run_ls(container: str, folder: str) -> str:
    from infra.docker.engine import docker

    # Only repo-ls takes a path as an argument.
    return docker(
        "exec", container, *backup.PGBACKREST.split(), "--recurse", "--output=json", "repo-ls", folder
    )


def _last_time(container: str, segment: Segment) -> datetime | None:
    """Return the last full second before the last commit of a segment. Recovery stops only at a later commit.

    Return None if the segment has no commit, or if the container has no data folder of the repository's cluster.
    """
    from infra.docker.engine import docker

    arguments = (segment, segment.timeline, wal.show_lsn(segment.first_byte), wal.show_lsn(segment.end))
    command = ("sh", "-ceu", _LAST_COMMIT, "sh", *map(str, arguments))
    found = docker("exec", "--env=TZ=UTC", container, *command).strip()
    if not found:
        return None
    last = datetime.fromisoformat(found).replace(tzinfo=UTC)
    return (last - timedelta(microseconds=1)).replace(microsecond=0)


def _history(container: str, folder: str, timeline: int) -> History:
    from infra.docker.engine import docker

    path = f"{folder}/{timeline:08X}.history"
    return History.parse(timeline, docker("exec", container, *backup.PGBACKREST.split(), "repo-get", path))


def _backup(entry: dict[str, Any], info: dict[str, Any]) -> Backup:
    start, stop = Segment.parse(entry["archive"]["start"]), Segment.parse(entry["archive"]["stop"])
    assert start is not None
    assert stop is not None
    archive_id = next(
        (a["id"] for a in info["archive"] if a["database"]["id"] == entry["database"]["id"]), ""
    )
    return Backup(
        label=entry["label"],
        kind=entry["type"],
        start=datetime.fromtimestamp(entry["timestamp"]["start"], UTC),
        stop=datetime.fromtimestamp(entry["timestamp"]["stop"], UTC),
        size_bytes=entry["info"]["size"],
        stored_bytes=entry["info"]["repository"]["delta"],
        wal_start=start,
        wal_stop=stop,
        lsn_stop=wal.parse_lsn(entry["lsn"]["stop"]),
        archive_id=archive_id,
        is_damaged=bool(entry.get("error")),
    )
