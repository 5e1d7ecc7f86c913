"""Recover WAL that was never archived from the old data folder, after a crash or with a full repository."""

from __future__ import annotations

from datetime import datetime

from infra.docker.engine import DockerError, docker
from infra.spec import backup
from ops.backup.errors import BackupError
from ops.backup.pgbackrest import Progress
from ops.backup.repository import Contents, show_time
from ops.backup.wal import Segment
from ops.backup.workbench import Workbench


def add_last_wal(
    bench: Workbench,
    contents: Contents,
    moment: datetime | None,
    old: str,
    restored: str,
    progress: Progress,
) -> None:
    """Copy WAL of `old` that is newer than the repository's to the recovery in `restored`.

    Raise BackupError if a segment in between is in neither place and `moment` (None: latest) is after it, because the
    old data may contain commits that no restore can bring back.
    """
    newest = contents.newest
    if newest is None:
        return
    names = bench.sh('ls "$1/pg_wal"', old).split()
    found = (s for s in map(Segment.parse, names) if s is not None and s.timeline == newest.timeline)
    rest = sorted(s for s in found if s.number > newest.number and _is_written(bench, old, s))
    if not rest:
        return
    if rest[0].number > newest.number + 1:
        if moment is None or moment > contents.archived_at[newest]:
            raise BackupError(
                f"WAL between {newest} and {rest[0]} is neither in the repository nor in the old data, so that later"
                f" commits would be lost; restore to {show_time(contents.archived_at[newest])} or earlier,"
                " or keep the data and take a full backup"
            )
        return
    for segment in rest:
        bench.sh('cp "$1/pg_wal/$3" "$2/pg_wal/"', old, restored, str(segment))
        # Postgres does not archive a complete segment of a timeline that recovery leaves, but the new timeline's
        # history needs it. It copies the last, incomplete segment itself.
        if bench.exists(f"{old}/pg_wal/archive_status/{segment}.ready"):
            _archive(bench, restored, segment, progress)


def _is_written(bench: Workbench, old: str, segment: Segment) -> bool:
    """Return whether a file has the segment's WAL. A file preallocated by Postgres has an older first page."""
    held = bench.sh('od -An -tu8 -j8 -N8 "$1/pg_wal/$2"', old, str(segment))
    return int(held) == segment.first_byte


def _archive(bench: Workbench, restored: str, segment: Segment, progress: Progress) -> None:
    options = [f"--pg1-path={restored}", "archive-push", f"{restored}/pg_wal/{segment}"]
    try:
        docker("exec", bench.name, *backup.PGBACKREST.split(), *options)
    except DockerError as error:
        reason = " ".join(str(error).split())
        progress(f"warning: cannot archive {segment} ({reason}); later restores cannot go past it")
