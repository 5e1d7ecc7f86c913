"""Restores a stack's Postgres to a moment: in steps, each of which may be the last before a kill.

What has been done is read from the data volume: folders are renamed, never written over, so that the old data
or the new answers at any time. Which moment was asked for is in a file beside them.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime

from infra.docker.engine import DockerError, docker, inspect, psql
from infra.spec import backup_repository, postgres
from ops.backup import markers, repository
from ops.backup.errors import BackupError, RecoveryFailed
from ops.backup.folders import PGDATA, RESTORING, Folders
from ops.backup.keepers import Keepers
from ops.backup.last_wal import add_last_wal
from ops.backup.pgbackrest import Progress
from ops.backup.repository import Backup, Contents, show_time
from ops.backup.site import Site
from ops.backup.wal import Segment
from ops.backup.workbench import Workbench, require_volumes, restore_files, workbench
from ops.errors import Exit, OpsError

_HEALTHY_SECONDS = 300
# Settings of the recovery that the restored cluster must not start with again.
_RECOVERY_SETTINGS = (
    "restore_command",
    "recovery_target_time",
    "recovery_target_action",
    "recovery_target_timeline",
)


@dataclass(frozen=True)
class Target:
    """What is asked for: a moment, or None for the newest; a timeline where it is not the newest."""

    moment: datetime | None
    timeline: int | None = None

    def __str__(self) -> str:
        words = "LATEST" if self.moment is None else self.moment.astimezone(UTC).isoformat()
        return words if self.timeline is None else f"{words} --timeline {self.timeline}"


@dataclass(frozen=True)
class Restored:
    """What came of a restore: the backup it began with, and the newest commit that is in it (None: not known)."""

    target: str
    backup: str
    newest_commit: datetime | None
    timeline: int
    is_serving: bool


def restore(site: Site, target: Target, keepers: Keepers, progress: Progress) -> Restored:
    """Bring the stack's Postgres to `target`. Killed anywhere, the same call completes it.

    OutsideWindow before anything is touched. Where recovery fails the old data is back, and serves.
    """
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
                serves = ", and serves again" if was_running else ""
                raise BackupError(f"{reason}; the data is as it was before{serves}") from error
        else:
            progress("going on with a restore that was interrupted")
            _stop(site, progress, mark=False)
        return _finish(site, bench, target, keepers, progress)


def abandon(site: Site, progress: Progress) -> None:
    """Give an interrupted restore up: the data of before it serves again. Refused (7) once recovery is over."""
    require_volumes(site)
    with site.exclusive(), _bench(site) as bench:
        folders = Folders(bench)
        if not folders.are_touched():
            progress("no restore is under way; nothing to do")
            return
        folders.refuse_past_return()
        folders.bring_back(progress)
        _start(site, progress)


def look(site: Site, timeline: int | None = None) -> Contents:
    """What the repository holds, also where the stack is down. Changes nothing."""
    if site.is_running(site.postgres):
        return repository.read(site.postgres, timeline)
    require_volumes(site)
    with _readers_bench(site) as bench:
        return repository.read(bench.name, timeline)


def plan(site: Site, target: Target) -> Backup | None:
    """The backup that a restore to `target` begins with, None where an interrupted one only needs finishing.

    OutsideWindow where there is none. Changes nothing.
    """
    require_volumes(site)
    with _readers_bench(site) as bench:
        if Folders(bench).are_past_return(str(target)):
            return None
        contents = repository.read(bench.name, target.timeline)
        return _backup_for(site, contents, target)


def _bench(site: Site) -> AbstractContextManager[Workbench]:
    return workbench(
        site,
        "restore",
        {
            postgres.DATA_DIR: (site.data_volume, True),
            postgres.CONFIG_DIR: (site.config_volume, False),
            backup_repository.FOLDER: (site.repository_volume, True),
        },
    )


def _readers_bench(site: Site) -> AbstractContextManager[Workbench]:
    return workbench(
        site,
        "plan",
        {
            backup_repository.FOLDER: (site.repository_volume, False),
            postgres.CONFIG_DIR: (site.config_volume, False),
            postgres.DATA_DIR: (site.data_volume, False),
        },
    )


def _choose(site: Site, bench: Workbench, target: Target, progress: Progress) -> Backup:
    progress("choosing the backup to begin with")
    return _backup_for(site, repository.read(bench.name, target.timeline), target)


def _backup_for(site: Site, contents: Contents, target: Target) -> Backup:
    now = datetime.now(UTC)
    if not site.is_running(site.postgres) and contents.newest is not None:
        # Of a server that is gone there is nothing newer than its last WAL here or in its own folder.
        now = max(now, contents.archived_at[contents.newest])
    _refuse_ambiguous(contents, target)
    return contents.backup_for(target.moment, now)


def _refuse_ambiguous(contents: Contents, target: Target) -> None:
    """A moment between the point an earlier restore went back to and that restore lies on two timelines."""
    if target.moment is None or target.timeline is not None or not contents.history.branches:
        return
    branch = contents.history.branches[-1]
    own = [at for s, at in contents.archived_at.items() if s.timeline == contents.history.timeline]
    if branch.since is not None and own and branch.since < target.moment < min(own):
        raise OpsError(
            f"before a restore to {show_time(branch.since)} there was other data at {show_time(target.moment)}:"
            f" add --timeline {branch.timeline} for that, --timeline {contents.history.timeline} for what"
            " the restore left",
            Exit.USAGE,
        )


def _stop(site: Site, progress: Progress, *, mark: bool) -> None:
    """Stop who writes. A server that is stopped in order archives its last WAL first."""
    if mark and site.is_running(site.postgres):
        progress("writing a marker, so that WAL goes on past the moment asked for")
        try:
            markers.write(site.postgres, "restore")
        except DockerError as error:
            progress(f"warning: the server takes no marker ({error}); going on without")
    for what, container in (("access service", site.access), ("Postgres", site.postgres)):
        if inspect("container", container):
            progress(f"stopping {what}")
            docker("stop", container)


def _restore_files(bench: Workbench, chosen: Backup, target: Target, progress: Progress) -> None:
    progress(f"restoring the files of backup {chosen.label} beside the old data")
    Folders(bench).begin(str(target), chosen.label)
    contents = repository.read(bench.name, target.timeline)
    moment = None if target.moment is None else target.moment.astimezone(UTC).isoformat(" ")
    restore_files(bench, RESTORING, chosen.label, target=moment, timeline=contents.history.timeline)
    if target.timeline is None and bench.exists(f"{PGDATA}/pg_wal"):
        add_last_wal(bench, contents, target.moment, PGDATA, RESTORING, progress)


def _recover(bench: Workbench, chosen: Backup, target: Target, progress: Progress) -> None:
    progress("exchanging the folders; the old data is kept until the new one answers")
    Folders(bench).exchange()
    _serve_in_bench(bench, progress)


def _serve_in_bench(bench: Workbench, progress: Progress) -> None:
    """Start the restored cluster where nobody reaches it; it recovers, and its new timeline is archived."""
    progress("replaying WAL")
    try:
        bench.start_server(PGDATA)
    except RecoveryFailed as error:
        if "before configured recovery target was reached" not in str(error):
            raise
        # The WAL is known to be without a gap, so nothing was committed between its end and that moment.
        progress("nothing was committed between the end of the WAL and the moment asked for")
        bench.sh(f"printf \"recovery_target_time = ''\\n\" >> {PGDATA}/postgresql.auto.conf")
        bench.start_server(PGDATA)


def _finish(site: Site, bench: Workbench, target: Target, keepers: Keepers, progress: Progress) -> Restored:
    """The restored cluster answers: make it fit the stack, and give it back to its container."""
    folders = Folders(bench)
    bench.start_server(PGDATA)
    newest_commit = _newest_commit(bench)
    progress("applying the stack's roles and passwords")
    keepers.apply_roles(bench.name)
    psql(bench.name, "".join(f"ALTER SYSTEM RESET {name};\n" for name in _RECOVERY_SETTINGS))
    current = Segment.parse(psql(bench.name, "SELECT pg_walfile_name(pg_current_wal_lsn())").strip())
    timeline = 0 if current is None else current.timeline
    label = folders.journal().get("backup", "")
    bench.stop_server(PGDATA)
    folders.release()
    progress("having the cache forget everything")
    keepers.flush_cache()
    serving = _start(site, progress)
    progress("removing the old data")
    folders.end()
    return Restored(str(target), label, newest_commit, timeline, serving)


def _newest_commit(bench: Workbench) -> datetime | None:
    epoch = psql(bench.name, "SELECT extract(epoch FROM pg_last_xact_replay_timestamp())").strip()
    return datetime.fromtimestamp(float(epoch), UTC) if epoch else None


def _start(site: Site, progress: Progress) -> bool:
    """Start the containers that exist; returns whether Postgres serves. BackupError where it does not get healthy."""
    if not inspect("container", site.postgres):
        return False
    progress("starting Postgres")
    docker("start", site.postgres)
    _wait_healthy(site.postgres)
    if inspect("container", site.access):
        progress("starting the access service")
        docker("start", site.access)
    return True


def _wait_healthy(container: str) -> None:
    import time

    deadline = time.monotonic() + _HEALTHY_SECONDS
    while True:
        (found,) = inspect("container", container)
        state = found["State"]
        health = state.get("Health", {}).get("Status", "healthy" if state["Running"] else state["Status"])
        if health == "healthy":
            return
        if time.monotonic() > deadline:
            raise BackupError(
                f"{container} is {health} after {_HEALTHY_SECONDS} s; `groundwork logs` says why, and the same"
                " command goes on from here"
            )
        time.sleep(0.5)
