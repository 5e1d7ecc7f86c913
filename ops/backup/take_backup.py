"""Take a full or incremental backup of a running stack, and report whether WAL is being archived."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from infra.docker.engine import DockerError, docker, psql
from infra.spec import backup_repository
from infra.spec.backup import CONFIG_FILE, PGDATA
from infra.spec.roles import quoted
from ops.backup import markers, pgbackrest, repository
from ops.backup.errors import BackupError, DamagedPages
from ops.backup.last_wal import archive_missing
from ops.backup.pgbackrest import Progress
from ops.backup.repository import Backup, Contents, show_time
from ops.backup.site import BackupSite
from ops.backup.workbench import Workbench

# For so long, a restore to a wrong point in time can be undone by another restore.
KEPT_AFTER_RESTORE = timedelta(days=7)
_ROOM_BYTES = 1024**2
_PART_OF_FILE = re.compile(r"(_[a-z]+)?(\.\d+)?$")
_MOST_FILES = 5
_REMOVE_UNFINISHED = (
    f"for folder in {backup_repository.FOLDER}/backup/{backup_repository.STANZA}/[0-9]*; do"
    ' [ -e "$folder/backup.manifest" ] || rm -rf "$folder"; done'
)


@dataclass(frozen=True)
class Archiver:
    """The state of pg_stat_archiver: whether the last attempt failed, for which file, and how many files wait."""

    is_failing: bool
    last_failed: str
    waiting: int


def take_backup(site: BackupSite, *, kind: str | None, progress: Progress) -> Backup:
    """Take a backup of kind `full` or `incr`, or of the due kind, and return it.

    After an interruption, simply call it again. Unfinished backups are ignored, and removed by the next one.
    Raise DamagedPages if pgBackRest found a wrong checksum. That backup is kept, and nothing expires.
    """
    site.require_running()
    with site.exclusive():
        progress("reading the repository")
        require_room(site.primary)
        before = _look(site)
        # Of a failover. The files that the repository lacks are not kept long.
        if archive_missing(Workbench(site.primary), before, [PGDATA], progress):
            before = repository.read(site.primary)
        restored_at = markers.restored_at(site.primary)
        chosen = kind or due(before, site.full_days, datetime.now(UTC), restored_at)
        if chosen == "incr" and not before.restorable():
            progress("there is no full backup yet; taking a full one")
            chosen = "full"
        report_archiver(site, progress)
        progress(f"writing a marker and taking {'a full' if chosen == 'full' else 'an incremental'} backup")
        markers.write(site.primary, "backup")
        _back_up(site.primary, chosen, progress)
        progress("checking the new backup")
        after = repository.read(site.primary)
        report_gaps(after, progress)
        made = max(after.backups, key=lambda b: b.stop)
        if made.is_damaged:
            damaged = DamagedPages(
                f"the data of stack {site.stack!r} is damaged: backup {made.label} has pages with a wrong checksum in"
                f" {_damaged(site.primary, made)}; older backups are kept until a backup has none; see docs/backup.md,"
                " Damaged pages"
            )
            damaged.made = made
            raise damaged
        _expire(site.primary, after, restored_at, progress)
    return made


def require_room(container: str) -> None:
    """Raise BackupError if the repository is full."""
    free = docker("exec", container, "df", "--output=avail", "--block-size=1", backup_repository.FOLDER)
    if int(free.split()[-1]) < _ROOM_BYTES:
        raise BackupError(pgbackrest.NO_ROOM)


def _back_up(container: str, kind: str, progress: Progress) -> None:
    try:
        # Only a backup without damaged pages may expire others.
        pgbackrest.run(container, "backup", f"--type={kind}", "--no-expire-auto", progress=progress)
    except BackupError:
        # pgBackRest retries, and then reports files left by its first attempt instead of the full disk.
        _tell_no_room(container)
        raise


def _tell_no_room(container: str) -> None:
    """Raise BackupError if the repository is full. Removes the unfinished backup first, because WAL needs the space."""
    try:
        require_room(container)
    except BackupError:
        # A finished backup has a manifest. The lock guarantees that no other backup is being written.
        docker("exec", container, "sh", "-ceu", _REMOVE_UNFINISHED)
        raise


def _expire(container: str, contents: Contents, restored_at: datetime | None, progress: Progress) -> None:
    """Remove old backups, and the WAL that only they need. Soon after a restore, keep them for another restore."""
    if restored_at is not None and datetime.now(UTC) < restored_at + KEPT_AFTER_RESTORE:
        progress(
            f"keeping all backups until {show_time(restored_at + KEPT_AFTER_RESTORE)}, so that the data from before the"
            " last restore can be restored too"
        )
        return
    retention = int(docker("exec", container, "sed", "-n", "s/^repo1-retention-full=//p", CONFIG_FILE))
    kept = kept_full(contents, retention)
    pgbackrest.run(container, "expire", f"--repo1-retention-full={kept}", progress=progress)


def kept_full(contents: Contents, retention: int) -> int:
    """Return how many of the newest full backups to keep, so that `retention` of them are not damaged."""
    full = sorted((b for b in contents.backups if b.kind == "full"), key=lambda b: b.stop, reverse=True)
    sound = [position for position, b in enumerate(full, start=1) if not b.is_damaged]
    return sound[retention - 1] if len(sound) >= retention else max(len(full), retention)


def _damaged(container: str, made: Backup) -> str:
    """Return the damaged files of a backup, with their tables and indexes if the server can name them."""
    text = pgbackrest.run(container, "info", f"--set={made.label}", "--output=json")
    (entry,) = json.loads(text, strict=False)[0]["backup"]
    files = [str(file) for file in entry.get("error-list") or ()]
    # A large relation has several files: 16384, 16384.1, 16384_vm.
    paths = {_PART_OF_FILE.sub("", file) for file in files}
    sql = f"SELECT oid::regclass FROM pg_class WHERE pg_relation_filepath(oid) IN ({quoted(sorted(paths))})"
    names: list[str] = []
    for database in entry.get("database-ref") or ():
        try:
            found = psql(container, sql, database=database["name"]).split("\n")
        except DockerError:
            # The damage can be in the catalog.
            continue
        names += [f"{name} in database {database['name']}" for name in found if name]
    more = "" if len(files) <= _MOST_FILES else f" and {len(files) - _MOST_FILES} more"
    listed = f"{', '.join(files[:_MOST_FILES])}{more}"
    return f"{', '.join(names[:_MOST_FILES])} ({listed})" if names else listed


def due(contents: Contents, full_days: int, now: datetime, restored_at: datetime | None) -> str:
    """Return the due kind of backup: `full` if the newest full one is too old or from before a restore.

    `restored_at` is the time of the newest restore, or None. A failover begins a timeline too, but continues the data.
    """
    history = contents.history
    # Earlier versions did not record a restore. A restore to a time is in the history file as well.
    restores = [branch for branch in history.branches if branch.since is not None]
    young = any(
        backup.kind == "full"
        and now - backup.stop < timedelta(days=full_days)
        and (restored_at is None or backup.start > restored_at)
        and all(history.is_after(backup.wal_start.timeline, branch) for branch in restores[-1:])
        for backup in contents.restorable()
    )
    return "incr" if young else "full"


def archiver(container: str) -> Archiver:
    """Read the state of archiving from the server."""
    sql = (
        "SELECT coalesce(last_failed_time > coalesce(last_archived_time, '-infinity'), false),"
        " coalesce(last_failed_wal, ''),"
        " (SELECT count(*) FROM pg_ls_archive_statusdir() WHERE name LIKE '%.ready') FROM pg_stat_archiver"
    )
    failing, last_failed, waiting = psql(container, sql).strip().split("|")
    return Archiver(failing == "t", last_failed, int(waiting))


def report_archiver(site: BackupSite, progress: Progress) -> None:
    """Warn if archiving fails. The backup is tried anyway, and reports the reason."""
    state = archiver(site.primary)
    if state.is_failing:
        progress(
            f"warning: WAL is not being archived: {state.last_failed} failed, {state.waiting} files are waiting;"
            f" see `groundwork logs --stack {site.stack} --service postgres`"
        )


def report_gaps(contents: Contents, progress: Progress) -> None:
    """Warn about missing WAL, which restores cannot go past."""
    gaps = contents.missing()
    if gaps:
        progress(
            f"warning: {len(gaps)} WAL files are missing, the first is {gaps[0]}; restorable: "
            + ", ".join(map(str, contents.windows()))
        )


def _look(site: BackupSite) -> Contents:
    try:
        return _read(site.primary)
    except (BackupError, DockerError):
        # The stanza does not exist if the server could not create it when it started.
        pgbackrest.run(site.primary, "stanza-create")
    try:
        return _read(site.primary)
    except DockerError as error:
        raise BackupError(f"cannot read the backup repository: {' '.join(str(error).split())}") from error


def _read(primary: str) -> Contents:
    """Archive the history of the primary's timeline, and read the repository, which needs it.

    Postgres archives a history only when the timeline begins. If backups were off at that time, or the repository is
    new, it lacks the file. pgBackRest accepts a file that it already has.
    """
    script = f"ls {PGDATA}/pg_wal/*.history 2>/dev/null | tail -n 1"
    if history := docker("exec", primary, "sh", "-ceu", script).strip():
        pgbackrest.archive(primary, history)
    return repository.read(primary)
