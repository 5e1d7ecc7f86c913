"""Restore a stack's Postgres to a point in time, in steps that can be resumed after a kill.

The progress is recorded in the data volume: folders are renamed and never overwritten, so that either the old or the
new data is complete at any time. The requested target is in a file beside them.
"""

from __future__ import annotations

import re
import uuid
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from infra.docker.engine import DockerError, inspect, psql
from infra.spec import backup_repository, postgres
from ops.backup import markers, repository, servers
from ops.backup.errors import BackupError, RecoveryFailed
from ops.backup.folders import PGDATA, RESTORING, Folders
from ops.backup.last_wal import add_last_wal, archive_kept, archive_missing, held
from ops.backup.pgbackrest import Progress
from ops.backup.post_restore import PostRestore
from ops.backup.repository import Backup, Contents, show_time
from ops.backup.restore_record import RestoreRecord
from ops.backup.site import BackupSite
from ops.backup.wal import Segment
from ops.backup.workbench import Workbench, require_room, require_volumes, restore_files, workbench
from ops.errors import Exit, OpsError

# Where a restore sees the data volumes of replicas, in a folder for each.
_COPIES = "/mnt/replicas"
# Longer than it takes to read the repository.
_READERS_SECONDS = 3600
# Recovery settings that must not be in effect at the restored cluster's next start.
_RECOVERY_SETTINGS = (
    "restore_command",
    "recovery_target_time",
    "recovery_target_action",
    "recovery_target_timeline",
)
_LAST_TRANSACTION = re.compile(r"last completed transaction was at log time (\S+ \S+)")


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
    """The result of a restore: its backup, and its newest commit (None if unknown).

    `resumed` is when the restore began if an interrupted one was completed.
    """

    target: str
    backup: str
    newest_commit: datetime | None
    timeline: int
    is_serving: bool
    resumed: datetime | None = None


def restore(site: BackupSite, target: Target, post_restore: PostRestore, progress: Progress) -> Restored:
    """Restore the stack's Postgres to `target`. After a kill, the same call completes the restore.

    Raise OutsideWindow before any change. If recovery fails, the old data is put back and serves again.
    """
    require_volumes(site)
    record = RestoreRecord.of(site)
    with site.exclusive(), _bench(site) as bench:
        folders = _folders(site, bench)
        if _is_finished(folders, record):
            folders.forget()
        if folders.are_past_return(str(target)):
            record.write(site.data_volume, were_up=record.were_up())
            restored = _resume(site, bench, folders, target, post_restore, progress)
        else:
            _begin(site, bench, folders, record, target, progress)
            restored = _finish(site, bench, folders, target, post_restore, progress)
        record.delete()
        folders.forget()
        return restored


def abandon(site: BackupSite, progress: Progress) -> bool:
    """Abandon an interrupted restore; the previous data serves again. Return whether there was one.

    Raise OpsError (7) once it has recovered.
    """
    require_volumes(site)
    record = RestoreRecord.of(site)
    with site.exclusive(), _bench(site) as bench:
        folders = _folders(site, bench)
        if _is_finished(folders, record):
            folders.forget()
        # A restore that was interrupted while it stopped the servers has only its record.
        if not folders.are_touched() and not record.exists():
            progress("no restore is in progress; nothing to do")
            return False
        folders.refuse_past_return()
        folders.bring_back(progress)
        record.delete()
        servers.start(site, progress)
        return True


def look(site: BackupSite, timeline: int | None = None) -> Contents:
    """Read the repository, whether or not the stack is up. Changes nothing."""
    if site.is_running(site.postgres):
        return repository.read(site.postgres, timeline)
    require_volumes(site)
    with _readers_bench(site) as bench:
        return replace(repository.read(bench.name, timeline), is_served=servers.is_serving(site))


def plan(site: BackupSite, target: Target) -> Backup | None:
    """Return the backup for a restore to `target`, or None if an interrupted restore only needs to be finished.

    Raise OutsideWindow if there is none. Changes nothing.
    """
    require_volumes(site)
    with _readers_bench(site) as bench:
        folders = _folders(site, bench)
        if not _is_finished(folders, RestoreRecord.of(site)) and folders.are_past_return(str(target)):
            return None
        contents = repository.read(bench.name, target.timeline)
        # The restore will archive them.
        found = dict.fromkeys(held(bench, contents, folders.data()), datetime.now(UTC))
        return _backup_for(site, replace(contents, archived_at=contents.archived_at | found), target)


def _is_finished(folders: Folders, record: RestoreRecord) -> bool:
    """Return whether a restore was killed after its end, so that only its journal is left. It must not be resumed."""
    return not record.exists() and folders.has_only_journal()


def _begin(
    site: BackupSite,
    bench: Workbench,
    folders: Folders,
    record: RestoreRecord,
    target: Target,
    progress: Progress,
) -> None:
    """Stop the servers, and restore until recovery has ended. If it fails before, the old data serves again."""
    _archive_missing(bench, folders, target, progress)
    chosen = _choose(site, bench, target, progress)
    # An interrupted restore has stopped the servers, and its record says so until they serve again.
    were_up = servers.are_up(site) or record.were_up()
    folders.bring_back(progress)
    require_room(bench, chosen.size_bytes)
    record.write(site.data_volume, were_up=were_up)
    servers.stop(site, progress, mark=True)
    try:
        is_complete = _restore_files(site, bench, folders, chosen, target, progress)
        _recover(bench, folders, chosen, target, is_complete, progress)
    except (RecoveryFailed, BackupError, DockerError) as error:
        if folders.have_recovered():
            raise
        folders.bring_back(progress)
        record.delete()
        if were_up:
            servers.start(site, progress)
        reason = " ".join(str(error).split())
        state = (
            " and serves again"
            if were_up
            else f", and Postgres is still stopped; `groundwork up --stack {site.stack}` starts it"
        )
        raise BackupError(f"{reason}; the previous data is back{state}") from error


def _bench(site: BackupSite) -> AbstractContextManager[Workbench]:
    volumes = {
        postgres.DATA_DIR: (site.data_volume, True),
        postgres.CONFIG_DIR: (site.config_volume, False),
        backup_repository.FOLDER: (site.repository_volume, True),
    }
    return workbench(site, "restore", volumes | _copies(site, writable=True))


def _copies(site: BackupSite, *, writable: bool) -> dict[str, tuple[str, bool]]:
    return {f"{_COPIES}/{replica}": (site.volume(replica), writable) for replica in _replicas(site)}


def _folders(site: BackupSite, bench: Workbench) -> Folders:
    return Folders(bench, site.stack, tuple(f"{_COPIES}/{replica}" for replica in _replicas(site)))


def _replicas(site: BackupSite) -> list[str]:
    """Return the replicas whose data volume exists. A restore needs none of them."""
    return [replica for replica in site.replicas if inspect("volume", site.volume(replica))]


def _readers_bench(site: BackupSite) -> AbstractContextManager[Workbench]:
    # Several commands may read at once, so each has its own, whose name no later command knows.
    return workbench(
        site,
        f"plan-{uuid.uuid4().hex[:8]}",
        {
            backup_repository.FOLDER: (site.repository_volume, False),
            postgres.CONFIG_DIR: (site.config_volume, False),
            postgres.DATA_DIR: (site.data_volume, False),
        }
        | _copies(site, writable=False),
        lifetime_seconds=_READERS_SECONDS,
    )


def _archive_missing(bench: Workbench, folders: Folders, target: Target, progress: Progress) -> None:
    """Archive what the repository lacks and the servers still have, because a restore cannot go past missing WAL."""
    archive_missing(bench, repository.read(bench.name, target.timeline), folders.data(), progress)


def _choose(site: BackupSite, bench: Workbench, target: Target, progress: Progress) -> Backup:
    progress("choosing the backup to restore")
    chosen = _backup_for(site, repository.read(bench.name, target.timeline), target)
    if chosen.is_damaged:
        progress(
            f"warning: backup {chosen.label} has pages with a wrong checksum, and no other backup reaches the"
            " requested time; reading these pages will fail"
        )
    return chosen


def _backup_for(site: BackupSite, contents: Contents, target: Target) -> Backup:
    now = datetime.now(UTC)
    contents = replace(contents, is_served=servers.is_serving(site))
    if not contents.is_served and contents.newest is not None:
        # If the server is gone, nothing is newer than its last WAL in the repository or in its folder.
        now = max(now, contents.archived_at[contents.newest])
    _refuse_ambiguous(contents, target)
    return contents.backup_for(target.moment, now)


def _refuse_ambiguous(contents: Contents, target: Target) -> None:
    """Raise OpsError (2) for a time between an earlier restore's target and that restore: two timelines have it."""
    if target.moment is None or target.timeline is not None:
        return
    history = contents.history
    for branch in reversed(history.branches):
        # A failover begins a timeline too, but at the end of the previous one.
        if branch.since is None:
            continue
        own = [at for s, at in contents.archived_at.items() if history.is_after(s.timeline, branch)]
        if own and branch.since < target.moment < min(own):
            raise OpsError(
                f"{show_time(target.moment)} exists on two timelines, because of an earlier restore to"
                f" {show_time(branch.since)}; pass --timeline {branch.timeline} for the data before that restore, or"
                f" --timeline {history.timeline} for the data after it",
                Exit.USAGE,
            )


def _restore_files(
    site: BackupSite, bench: Workbench, folders: Folders, chosen: Backup, target: Target, progress: Progress
) -> bool:
    """Restore the files of the backup. Return whether the WAL that recovery will find contains every commit."""
    progress(f"restoring the files of backup {chosen.label} next to the old data")
    folders.begin(str(target), chosen.label)
    contents = repository.read(bench.name, target.timeline)
    moment = None if target.moment is None else target.moment.astimezone(UTC).isoformat(" ")
    restore_files(bench, RESTORING, chosen.label, target=moment, timeline=contents.history.timeline)
    # The servers have continued the newest timeline only.
    newest = contents if contents.is_newest else repository.read(bench.name)
    is_complete = add_last_wal(
        bench,
        newest,
        target.moment,
        olds=folders.data(),
        restored=RESTORING,
        members=1 + len(site.replicas),
        is_followed=contents.is_newest,
    )
    return is_complete and contents.is_newest and contents.reaches_end(chosen)


def _recover(
    bench: Workbench, folders: Folders, chosen: Backup, target: Target, is_complete: bool, progress: Progress
) -> None:
    progress("exchanging the folders; the old data is kept until the new server answers")
    folders.exchange()
    _serve_in_bench(bench, chosen, target, is_complete, progress)


def _serve_in_bench(
    bench: Workbench, chosen: Backup, target: Target, is_complete: bool, progress: Progress
) -> None:
    """Start the restored cluster without a network. It recovers, and its new timeline is archived.

    Raise BackupError if the WAL ends before the requested time and may not be complete.
    """
    progress("replaying WAL")
    try:
        bench.start_server(PGDATA)
        if target.moment is None and not is_complete:
            why = (
                "the old data of this cluster is lost"
                if target.timeline is None
                else f"only the archived WAL of timeline {target.timeline} is left"
            )
            progress(
                f"warning: the WAL ends at {show_time(_end_of_wal(bench) or chosen.stop)}; later commits are missing if"
                f" there were any, because {why}"
            )
    except RecoveryFailed as error:
        if not error.is_before_target:
            raise
        if not is_complete:
            raise _wal_ends_early(_end_of_wal(bench), chosen, target) from error
        progress("nothing was committed between the end of the WAL and the requested time")
        bench.recover_fully(PGDATA)


def _end_of_wal(bench: Workbench) -> datetime | None:
    """Return the time of the last transaction that the recovery in the workbench has replayed, or None."""
    found = _LAST_TRANSACTION.findall(bench.log())
    return datetime.fromisoformat(found[-1]) if found else None


def _wal_ends_early(end: datetime | None, chosen: Backup, target: Target) -> BackupError:
    assert target.moment is not None
    end = end or chosen.stop
    # A restore to the very last transaction would not find a later one to stop at. Whole seconds are earlier.
    earlier = f"to {show_time(end)} or earlier, or " if end >= chosen.restorable_from else ""
    timeline = "" if target.timeline is None else f" --timeline {target.timeline}"
    return BackupError(
        f"the WAL ends at {show_time(end)}, so commits between that and {show_time(target.moment)} cannot be restored;"
        f" restore {earlier}to LATEST{timeline}"
    )


def _resume(
    site: BackupSite,
    bench: Workbench,
    folders: Folders,
    target: Target,
    post_restore: PostRestore,
    progress: Progress,
) -> Restored:
    """Complete an interrupted restore that has recovered."""
    begun = folders.begun()
    progress(
        f"resuming the interrupted restore{'' if begun is None else f' that began at {show_time(begun)}'}"
    )
    if not folders.have_served():
        servers.stop(site, progress, mark=False)
        folders.remove_standby_signal()
        restored = _finish(site, bench, folders, target, post_restore, progress)
        return replace(restored, resumed=begun)
    # Clients may have written to the restored data, and another server may be the primary now.
    progress("the restored data has served already; keeping it as it is now")
    folders.clear_copies()
    primary = servers.start(site, progress)
    if primary is not None:
        servers.await_others(site, primary, progress)
    timeline = _checkpoint_timeline(bench) if primary is None else _timeline(primary)
    label = folders.journal().get("backup", "")
    progress("removing the old data")
    folders.end()
    return Restored(str(target), label, None, timeline, primary is not None, begun)


def _finish(
    site: BackupSite,
    bench: Workbench,
    folders: Folders,
    target: Target,
    post_restore: PostRestore,
    progress: Progress,
) -> Restored:
    """Fit the recovered cluster to the stack, and give it back to its container."""
    bench.start_server(PGDATA)
    archive_kept(bench, PGDATA, progress)
    newest_commit = _newest_commit(bench)
    progress("applying the stack's roles and passwords")
    post_restore.apply_roles(bench.name)
    psql(bench.name, "".join(f"ALTER SYSTEM RESET {name};\n" for name in _RECOVERY_SETTINGS))
    markers.write(bench.name, markers.RESTORED)
    timeline = _timeline(bench.name)
    label = folders.journal().get("backup", "")
    bench.stop_server(PGDATA)
    servers.forget_cluster(site, progress)
    # Until the folders are released, no server starts: it would serve the restored data beside newer cached rows.
    progress("invalidating the cache")
    post_restore.flush_cache(progress)
    folders.release()
    is_serving = servers.start_restored(site, folders, progress)
    if is_serving:
        # Patroni begins another timeline when it takes the data over.
        timeline = _timeline(site.postgres)
    progress("removing the old data")
    folders.end()
    return Restored(str(target), label, newest_commit, timeline, is_serving)


def _timeline(container: str) -> int:
    current = Segment.parse(psql(container, "SELECT pg_walfile_name(pg_current_wal_lsn())").strip())
    return 0 if current is None else current.timeline


def _checkpoint_timeline(bench: Workbench) -> int:
    """Return the timeline of a data folder whose server does not run."""
    script = 'LC_ALL=C pg_controldata "$1" | sed -n "s/^Latest checkpoint\'s TimeLineID: *//p"'
    return int(bench.sh(script, PGDATA))


def _newest_commit(bench: Workbench) -> datetime | None:
    epoch = psql(bench.name, "SELECT extract(epoch FROM pg_last_xact_replay_timestamp())").strip()
    return datetime.fromtimestamp(float(epoch), UTC) if epoch else None
