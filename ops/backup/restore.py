"""Restore a stack's Postgres to a point in time, in steps that can be resumed after a kill.

The progress is recorded in the data volume: folders are renamed and never overwritten, so that either the old or the
new data is complete at any time. The requested target is in a file beside them.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime

from infra.docker.engine import DockerError, docker, inspect, psql
from infra.docker.health_check import wait_until_healthy
from infra.spec import backup_repository, postgres
from ops.backup import markers, repository
from ops.backup.errors import BackupError, RecoveryFailed
from ops.backup.folders import PGDATA, RESTORING, Folders
from ops.backup.last_wal import add_last_wal
from ops.backup.pgbackrest import Progress
from ops.backup.post_restore import PostRestore
from ops.backup.repository import Backup, Contents, show_time
from ops.backup.site import BackupSite
from ops.backup.wal import Segment
from ops.backup.workbench import Workbench, require_volumes, restore_files, workbench
from ops.errors import Exit, OpsError

_HEALTHY_SECONDS = 300
# Recovery settings that must not be in effect at the restored cluster's next start.
_RECOVERY_SETTINGS = (
    "restore_command",
    "recovery_target_time",
    "recovery_target_action",
    "recovery_target_timeline",
)


@dataclass(frozen=True)
class Target:
    """The requested state: a point in time, or None for the latest; and a timeline if not the newest."""

    moment: datetime | None
    timeline: int | None = None

    def __str__(self) -> str:
        words = "LATEST" if self.moment is None else self.moment.astimezone(UTC).isoformat()
        return words if self.timeline is None else f"{words} --timeline {self.timeline}"


@dataclass(frozen=True)
class Restored:
    """The result of a restore: its backup, and its newest commit (None if unknown)."""

    target: str
    backup: str
    newest_commit: datetime | None
    timeline: int
    is_serving: bool


def restore(site: BackupSite, target: Target, post_restore: PostRestore, progress: Progress) -> Restored:
    """Restore the stack's Postgres to `target`. After a kill, the same call completes the restore.

    Raise OutsideWindow before any change. If recovery fails, the old data is put back and serves again.
    """
    site.require_single()
    require_volumes(site)
    with site.exclusive(), _bench(site) as bench:
        folders = Folders(bench)
        if not folders.are_past_return(str(target)):
            folders.bring_back(progress)
            chosen = _choose(site, bench, target, progress)
            was_running = site.is_running(site.postgres)
            _stop(site, progress, mark=True)
            try:
                _restore_files(bench, chosen, target, progress)
                _recover(bench, chosen, target, progress)
            except (RecoveryFailed, BackupError, DockerError) as error:
                if folders.have_recovered():
                    raise
                folders.bring_back(progress)
                if was_running:
                    _start(site, progress)
                reason = " ".join(str(error).split())
                serves = " and serves again" if was_running else ""
                raise BackupError(f"{reason}; the previous data is back{serves}") from error
        else:
            progress("resuming an interrupted restore")
            _stop(site, progress, mark=False)
        return _finish(site, bench, target, post_restore, progress)


def abandon(site: BackupSite, progress: Progress) -> None:
    """Abandon an interrupted restore; the previous data serves again. Raise OpsError (7) once it has recovered."""
    site.require_single()
    require_volumes(site)
    with site.exclusive(), _bench(site) as bench:
        folders = Folders(bench)
        if not folders.are_touched():
            progress("no restore is in progress; nothing to do")
            return
        folders.refuse_past_return()
        folders.bring_back(progress)
        _start(site, progress)


def look(site: BackupSite, timeline: int | None = None) -> Contents:
    """Read the repository, whether or not the stack is up. Changes nothing."""
    if site.is_running(site.postgres):
        return repository.read(site.postgres, timeline)
    require_volumes(site)
    with _readers_bench(site) as bench:
        return repository.read(bench.name, timeline)


def plan(site: BackupSite, target: Target) -> Backup | None:
    """Return the backup for a restore to `target`, or None if an interrupted restore only needs to be finished.

    Raise OutsideWindow if there is none. Changes nothing.
    """
    site.require_single()
    require_volumes(site)
    with _readers_bench(site) as bench:
        if Folders(bench).are_past_return(str(target)):
            return None
        contents = repository.read(bench.name, target.timeline)
        return _backup_for(site, contents, target)


def _bench(site: BackupSite) -> AbstractContextManager[Workbench]:
    return workbench(
        site,
        "restore",
        {
            postgres.DATA_DIR: (site.data_volume, True),
            postgres.CONFIG_DIR: (site.config_volume, False),
            backup_repository.FOLDER: (site.repository_volume, True),
        },
    )


def _readers_bench(site: BackupSite) -> AbstractContextManager[Workbench]:
    return workbench(
        site,
        "plan",
        {
            backup_repository.FOLDER: (site.repository_volume, False),
            postgres.CONFIG_DIR: (site.config_volume, False),
            postgres.DATA_DIR: (site.data_volume, False),
        },
    )


def _choose(site: BackupSite, bench: Workbench, target: Target, progress: Progress) -> Backup:
    progress("choosing the backup to restore")
    return _backup_for(site, repository.read(bench.name, target.timeline), target)


def _backup_for(site: BackupSite, contents: Contents, target: Target) -> Backup:
    now = datetime.now(UTC)
    if not site.is_running(site.postgres) and contents.newest is not None:
        # If the server is gone, nothing is newer than its last WAL in the repository or in its folder.
        now = max(now, contents.archived_at[contents.newest])
    _refuse_ambiguous(contents, target)
    return contents.backup_for(target.moment, now)


def _refuse_ambiguous(contents: Contents, target: Target) -> None:
    """Raise OpsError (2) for a time between an earlier restore's target and that restore: two timelines have it."""
    if target.moment is None or target.timeline is not None or not contents.history.branches:
        return
    branch = contents.history.branches[-1]
    own = [at for s, at in contents.archived_at.items() if s.timeline == contents.history.timeline]
    if branch.since is not None and own and branch.since < target.moment < min(own):
        raise OpsError(
            f"{show_time(target.moment)} is ambiguous because of an earlier restore to {show_time(branch.since)}:"
            f" add --timeline {branch.timeline} for the data before that restore, or"
            f" --timeline {contents.history.timeline} for the restored data",
            Exit.USAGE,
        )


def _stop(site: BackupSite, progress: Progress, *, mark: bool) -> None:
    """Stop the access service and Postgres. A clean shutdown archives the last WAL."""
    if mark and site.is_running(site.postgres):
        progress("writing a marker, so that WAL continues past the requested time")
        try:
            markers.write(site.postgres, "restore")
        except DockerError as error:
            progress(f"warning: cannot write a marker to the server ({error}); continuing without one")
    for what, container in (("access service", site.access), ("Postgres", site.postgres)):
        if inspect("container", container):
            progress(f"stopping {what}")
            docker("stop", container)


def _restore_files(bench: Workbench, chosen: Backup, target: Target, progress: Progress) -> None:
    progress(f"restoring the files of backup {chosen.label} next to the old data")
    Folders(bench).begin(str(target), chosen.label)
    contents = repository.read(bench.name, target.timeline)
    moment = None if target.moment is None else target.moment.astimezone(UTC).isoformat(" ")
    restore_files(bench, RESTORING, chosen.label, target=moment, timeline=contents.history.timeline)
    if target.timeline is None and bench.exists(f"{PGDATA}/pg_wal"):
        add_last_wal(bench, contents, target.moment, old=PGDATA, restored=RESTORING, progress=progress)


def _recover(bench: Workbench, chosen: Backup, target: Target, progress: Progress) -> None:
    progress("exchanging the folders; the old data is kept until the new server answers")
    Folders(bench).exchange()
    _serve_in_bench(bench, progress)


def _serve_in_bench(bench: Workbench, progress: Progress) -> None:
    """Start the restored cluster without a network. It recovers, and its new timeline is archived."""
    progress("replaying WAL")
    try:
        bench.start_server(PGDATA)
    except RecoveryFailed as error:
        if "before configured recovery target was reached" not in str(error):
            raise
        # The WAL has no gap, so that nothing was committed between its end and the requested time.
        progress("nothing was committed between the end of the WAL and the requested time")
        bench.sh(f"printf \"recovery_target_time = ''\\n\" >> {PGDATA}/postgresql.auto.conf")
        bench.start_server(PGDATA)


def _finish(
    site: BackupSite, bench: Workbench, target: Target, post_restore: PostRestore, progress: Progress
) -> Restored:
    """Fit the recovered cluster to the stack, and give it back to its container."""
    folders = Folders(bench)
    bench.start_server(PGDATA)
    newest_commit = _newest_commit(bench)
    progress("applying the stack's roles and passwords")
    post_restore.apply_roles(bench.name)
    psql(bench.name, "".join(f"ALTER SYSTEM RESET {name};\n" for name in _RECOVERY_SETTINGS))
    current = Segment.parse(psql(bench.name, "SELECT pg_walfile_name(pg_current_wal_lsn())").strip())
    timeline = 0 if current is None else current.timeline
    label = folders.journal().get("backup", "")
    bench.stop_server(PGDATA)
    folders.release()
    progress("invalidating the cache")
    post_restore.flush_cache()
    serving = _start(site, progress)
    progress("removing the old data")
    folders.end()
    return Restored(str(target), label, newest_commit, timeline, serving)


def _newest_commit(bench: Workbench) -> datetime | None:
    epoch = psql(bench.name, "SELECT extract(epoch FROM pg_last_xact_replay_timestamp())").strip()
    return datetime.fromtimestamp(float(epoch), UTC) if epoch else None


def _start(site: BackupSite, progress: Progress) -> bool:
    """Start the existing containers. Return whether Postgres serves. Raise BackupError if it does not get healthy."""
    if not inspect("container", site.postgres):
        return False
    progress("starting Postgres")
    docker("start", site.postgres)
    try:
        wait_until_healthy(site.postgres, _HEALTHY_SECONDS)
    except DockerError as error:
        raise BackupError(str(error)) from error
    if inspect("container", site.access):
        progress("starting the access service")
        docker("start", site.access)
    return True
