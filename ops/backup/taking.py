"""Takes a backup of a running stack, full or incremental, and says whether WAL reaches the repository."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from infra.docker.engine import DockerError, docker, psql
from infra.spec import backup_repository
from ops.backup import markers, pgbackrest, repository
from ops.backup.errors import BackupError
from ops.backup.pgbackrest import Progress
from ops.backup.repository import Backup, Contents
from ops.backup.site import Site

_ROOM_BYTES = 1024**2
_REMOVE_UNFINISHED = (
    f"for folder in {backup_repository.FOLDER}/backup/{backup_repository.STANZA}/[0-9]*; do"
    ' [ -e "$folder/backup.manifest" ] || rm -rf "$folder"; done'
)


@dataclass(frozen=True)
class Archiver:
    """What pg_stat_archiver says: whether the last attempt failed, on which file, and how much WAL waits."""

    is_failing: bool
    last_failed: str
    waiting: int


def take(site: Site, *, kind: str | None, progress: Progress) -> Backup:
    """Take a backup: `kind` full or incr, or what is due. Returns the new backup.

    Stopped anywhere it can be taken again: what is unfinished is no backup, and the next one removes it.
    """
    site.require_running()
    with site.exclusive():
        progress("looking at the repository")
        require_room(site.postgres)
        before = _look(site)
        chosen = kind or due(before, site.full_days, datetime.now(UTC))
        if chosen == "incr" and not before.restorable():
            progress("there is no full backup yet: this one will be")
            chosen = "full"
        report_archiver(site, progress)
        progress(f"writing a marker, and taking {'a full' if chosen == 'full' else 'an incremental'} backup")
        markers.write(site.postgres, "backup")
        _back_up(site.postgres, chosen, progress)
        progress("looking at what was written")
        after = repository.read(site.postgres)
        report_gaps(after, progress)
    return max(after.backups, key=lambda b: b.stop)


def require_room(container: str) -> None:
    """BackupError where the repository is full."""
    free = docker("exec", container, "df", "--output=avail", "--block-size=1", backup_repository.FOLDER)
    if int(free.split()[-1]) < _ROOM_BYTES:
        raise BackupError(pgbackrest.NO_ROOM)


def _back_up(container: str, kind: str, progress: Progress) -> None:
    try:
        pgbackrest.run(container, "backup", f"--type={kind}", progress=progress)
    except BackupError:
        # pgBackRest tries again, and then complains of what its first try left.
        _tell_no_room(container)
        raise


def _tell_no_room(container: str) -> None:
    """BackupError where the repository is full; what was begun there is removed first: WAL needs the room."""
    try:
        require_room(container)
    except BackupError:
        # A backup has its manifest when it is whole. Nobody else writes one: the lock is held.
        docker("exec", container, "sh", "-ceu", _REMOVE_UNFINISHED)
        raise


def due(contents: Contents, full_days: int, now: datetime) -> str:
    """The kind of backup that is due: `full` where the last full one is too old, or on a timeline left since."""
    full = [b for b in contents.restorable() if b.kind == "full"]
    current = [b for b in full if b.wal_start.timeline == contents.history.timeline]
    young = any(now - b.stop < timedelta(days=full_days) for b in current)
    return "incr" if young else "full"


def archiver(container: str) -> Archiver:
    """Ask the server how its archiving does."""
    sql = (
        "SELECT coalesce(last_failed_time > coalesce(last_archived_time, '-infinity'), false),"
        " coalesce(last_failed_wal, ''),"
        " (SELECT count(*) FROM pg_ls_archive_statusdir() WHERE name LIKE '%.ready') FROM pg_stat_archiver"
    )
    failing, last_failed, waiting = psql(container, sql).strip().split("|")
    return Archiver(failing == "t", last_failed, int(waiting))


def report_archiver(site: Site, progress: Progress) -> None:
    """Say that archiving fails: a backup will try all the same, and name the reason."""
    state = archiver(site.postgres)
    if state.is_failing:
        progress(
            f"warning: WAL does not reach the repository: {state.last_failed} failed, {state.waiting} files wait;"
            f" `groundwork logs --stack {site.stack} --service postgres` has the reason"
        )


def report_gaps(contents: Contents, progress: Progress) -> None:
    """Say which WAL is missing: restores cannot pass it."""
    gaps = contents.missing()
    if gaps:
        progress(
            f"warning: {len(gaps)} WAL files are missing from {gaps[0]} on; what can be restored: "
            + ", ".join(map(str, contents.windows()))
        )


def _look(site: Site) -> Contents:
    try:
        return repository.read(site.postgres)
    except BackupError:
        # Without a stanza there is nothing to read: made here where the server could not at its start.
        pgbackrest.run(site.postgres, "stanza-create")
        return repository.read(site.postgres)
    except DockerError as error:
        raise BackupError(f"the backup repository cannot be listed: {error}") from error
