"""Recover WAL that was never archived from the old data folder, after a crash or with a full repository.

A restore also archives this WAL, because the old data is deleted, and another restore may follow the old timeline.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from infra.docker.engine import DockerError
from ops.backup import pgbackrest
from ops.backup.errors import BackupError
from ops.backup.pgbackrest import Progress
from ops.backup.repository import Contents, show_time
from ops.backup.wal import Segment, parse_lsn, show_lsn
from ops.backup.workbench import Workbench

# In the restored data folder: WAL to archive once the restore can only be finished. Before that, the old server may
# continue its incomplete last segment, and pgBackRest refuses another content of the same file.
_KEPT = "groundwork-last-wal"


def add_last_wal(
    bench: Workbench,
    contents: Contents,
    moment: datetime | None,
    olds: Sequence[str],
    restored: str,
    members: int,
    is_followed: bool,
) -> bool:
    """Copy old WAL that is newer than the repository's to the recovery in `restored`, and keep it for `archive_kept`.

    `is_followed` is whether the recovery reads the timeline of `contents`, which is the newest one.
    `olds` are the old data folders of the servers. The one whose WAL ends last has every acknowledged commit. Return
    True only if the recovery certainly has all WAL up to the last commit. That needs the old data of the server, or
    with several `members` of all but one, because the primary and its synchronous replica have every commit.

    Raise BackupError if a segment in between is in neither place and `moment` (None: latest) is after it, because the
    old data may contain commits that no restore can bring back.
    """
    newest = contents.newest
    if newest is None:
        return False
    cluster = _identifier(bench, restored)
    found = {old: _written(bench, old) for old in olds if _identifier(bench, old) == cluster}
    old = _newest_of(bench, found)
    history = contents.history
    if lost := [s for s in found.get(old, ()) if s.timeline > history.timeline]:
        if is_followed:
            _refuse(
                contents, moment, newest, f"timeline {lost[0].timeline} began, but is not in the repository"
            )
        return False
    rest = sorted(
        s for s in found.get(old, ()) if s.number > newest.number and history.segment(s.number) == s
    )
    # An older folder is not that of the server that wrote last.
    is_newest = max(found.get(old, ()), default=Segment(0, 0)) >= newest
    is_complete = is_newest and len(found) >= max(1, members - 1)
    if not rest:
        return is_complete
    if rest[0].number > newest.number + 1:
        what = f"WAL between {newest} and {rest[0]} is neither in the repository nor in the old data"
        if is_followed:
            _refuse(contents, moment, newest, what)
        return False
    targets = [f"{restored}/{_KEPT}", *([f"{restored}/pg_wal"] if is_followed else [])]
    for segment in rest:
        bench.sh(
            'source=$1; shift; for to; do mkdir -p "$to"; cp "$source" "$to/"; done',
            f"{old}/pg_wal/{segment}",
            *targets,
        )
    return is_complete


def archive_kept(bench: Workbench, data: str, progress: Progress) -> None:
    """Archive what `add_last_wal` has kept in a data folder that has recovered. Can be repeated after a kill.

    Postgres itself archives no segment of a timeline that recovery has left.
    """
    kept = f"{data}/{_KEPT}"
    # pgBackRest looks for the status of the files in the folder beside them.
    script = '[ ! -d "$1" ] || { mkdir -p "$1/archive_status"; find "$1" -type f | sort; }'
    for path in bench.sh(script, kept).split():
        _archive(bench, path, data, progress)
    bench.sh('rm -rf "$1"', kept)


def held(bench: Workbench, contents: Contents, olds: Sequence[str]) -> dict[Segment, list[str]]:
    """Return the segments that the repository lacks although data folders have them, with these folders.

    After a failover, the new primary does not archive what it has received, and the old one may not have done so.
    """
    missing = contents.unarchived()
    found: dict[Segment, list[str]] = {segment: [] for segment in missing}
    for old in olds if missing else ():
        written = _written(bench, old)
        for segment in missing:
            # The newest segment of a folder may be incomplete.
            if segment in written and any(
                s.number == segment.number + 1 and s.timeline >= segment.timeline for s in written
            ):
                found[segment].append(old)
    return {segment: folders for segment, folders in found.items() if folders}


def archive_missing(bench: Workbench, contents: Contents, olds: Sequence[str], progress: Progress) -> bool:
    """Archive the segments that the repository lacks from data folders. Return whether there were any."""
    found = held(bench, contents, olds)
    if found:
        progress(f"archiving {len(found)} WAL files that a failover left, the first is {min(found)}")
    for segment, folders in sorted(found.items()):
        for old in folders:
            # pgBackRest refuses the WAL of another cluster.
            if _archive(bench, f"{old}/pg_wal/{segment}", old, progress):
                break
    return bool(found)


def _archive(bench: Workbench, path: str, data: str, progress: Progress) -> bool:
    """Archive a segment, or warn. Return whether it is archived."""
    try:
        pgbackrest.archive(bench.name, path, data)
    except DockerError as error:
        reason = " ".join(str(error).split())
        segment = path.rpartition("/")[2]
        progress(f"warning: cannot archive {segment} ({reason}); later restores cannot go past it")
        return False
    return True


def _refuse(contents: Contents, moment: datetime | None, newest: Segment, what: str) -> None:
    """Raise BackupError if a restore to `moment` would lose commits because of `what`."""
    if moment is None or moment > contents.archived_at[newest]:
        raise BackupError(
            f"cannot restore past {show_time(contents.archived_at[newest])}: {what}, so that later commits would be"
            " lost; restore to that time or an earlier one, or keep the present data and take a full backup"
        )


def _identifier(bench: Workbench, folder: str) -> str:
    """Return the system identifier of a data folder. An empty cluster that replaced a lost one has another one."""
    script = 'LC_ALL=C pg_controldata "$1" 2>/dev/null | sed -n "s/^Database system identifier: *//p"'
    return bench.sh(script, folder).strip()


def _written(bench: Workbench, old: str) -> list[Segment]:
    """Return the segments of a data folder, without the files that Postgres preallocated: their first page is older."""
    script = 'cd "$1/pg_wal"; for f in *; do [ ! -f "$f" ] || echo "$f" $(od -An -tu8 -j8 -N8 "$f"); done'
    lines = (line.split() for line in bench.sh(script, old).splitlines())
    found = ((Segment.parse(name), first) for name, *first in lines)
    return [segment for segment, first in found if segment is not None and first == [str(segment.first_byte)]]


def _newest_of(bench: Workbench, found: Mapping[str, Sequence[Segment]]) -> str:
    """Return the data folder whose WAL ends last, or "" if there is none."""
    last = max((max(segments) for segments in found.values() if segments), default=None)
    olds = [old for old, segments in found.items() if last is None or last in segments]
    if last is None or len(olds) < 2:
        return olds[0] if olds else ""
    # Servers are usually in the same segment.
    return max(olds, key=lambda old: (_end(bench, old, last), _is_primary(bench, old)))


def _end(bench: Workbench, old: str, segment: Segment) -> int:
    """Return the position of the last valid record of a data folder, whose newest segment is `segment`.

    What follows this record in the file can be older than the file's name.
    """
    # The last record may begin in the segment before, which pg_waldump needs then.
    script = """
        start=$3; [ ! -e "$1/pg_wal/$5" ] || start=$6
        pg_waldump --path="$1/pg_wal" --timeline="$2" --start="$start" --end="$4" 2>/dev/null | tail -n 1 \\
            | sed -n 's/.*, lsn: \\([0-9A-F/]*\\),.*/\\1/p'
    """
    before = Segment(segment.timeline, segment.number - 1)
    limits = [show_lsn(segment.first_byte), show_lsn(segment.end)]
    earlier = [str(before), show_lsn(before.first_byte)]
    found = bench.sh(script, old, str(segment.timeline), *limits, *earlier).strip()
    return parse_lsn(found) if found else 0


def _is_primary(bench: Workbench, old: str) -> bool:
    return not bench.existing(f"{old}/standby.signal")
