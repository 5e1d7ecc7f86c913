"""A restore drill: restore to a random point in time in a temporary server, and check the result.

The server mounts the repository read-only, and has its own data folder and no network.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from infra.docker.engine import DockerError, psql
from infra.spec import backup, backup_repository, postgres
from ops.backup import checks, markers, repository, servers, take_backup
from ops.backup.errors import OutsideWindow, RecoveryFailed
from ops.backup.evidence import CheckFailed, Evidence
from ops.backup.markers import Marker
from ops.backup.pgbackrest import Progress
from ops.backup.repository import Contents, show_time
from ops.backup.site import BackupSite
from ops.backup.workbench import (
    Workbench,
    labels_of,
    remove,
    require_room,
    require_volumes,
    restore_files,
    workbench,
)
from ops.errors import Exit, OpsError
from ops.servers.relay import relay

# Longer than archive_timeout. A marker that is not archived by then, or within a longer --max-rpo, means that archiving
# is broken.
_ARCHIVED_SECONDS = 3 * backup.ARCHIVE_TIMEOUT_SECONDS
MAX_RPO_SECONDS = 2.0 * backup.ARCHIVE_TIMEOUT_SECONDS
# Migrations and the smoke test log in through the relay, which connects to the socket.
_SOCKET = f"{postgres.SOCKET_DIR}/.s.PGSQL.{postgres.PORT}"
_HBA_FILE = "/tmp/pg_hba.conf"
_HBA = "local all postgres peer\nlocal all all scram-sha-256\n"


@dataclass(frozen=True)
class DrillOptions:
    """Options of a drill: the point in time (None: a random one), and the largest accepted RPO in seconds.

    `migrations` is the stack's folder of migrations, and `connection_limits` are those of its roles.
    """

    migrations: Path
    connection_limits: Mapping[str, int]
    moment: datetime | None = None
    max_rpo_seconds: float = MAX_RPO_SECONDS


def drill(site: BackupSite, options: DrillOptions, progress: Progress) -> Evidence:
    """Run a drill. A failed check is recorded in the evidence; an exception means that the drill could not be run.

    Raise OutsideWindow if there is no backup, or none that reaches the requested point in time.
    """
    require_volumes(site)
    evidence = Evidence(site.stack, datetime.now(UTC))
    with site.exclusive(), _throwaway(site) as bench:
        _run(site, options, bench, evidence, progress)
    evidence.ended_at = datetime.now(UTC)
    return evidence


def _run(
    site: BackupSite, options: DrillOptions, bench: Workbench, evidence: Evidence, progress: Progress
) -> None:
    marker, contents = None, None
    with evidence.check("archive", progress, "writing a marker and waiting until it is archived") as check:
        marker = _mark(site, progress)
        _wait_archived(site, bench, marker, options)
        contents = repository.read(bench.name)
        check.detail = _measure_rpo(evidence, contents, marker, options)
    with evidence.check("repository", progress, "reading every file of every backup, and all WAL") as check:
        check.detail = checks.verify_repository(bench.name)
    with evidence.check("wal", progress, "checking the WAL for gaps") as check:
        contents = contents or repository.read(bench.name)
        check.detail = checks.no_gap(contents)
    if evidence.failures:
        return
    assert contents is not None
    _refuse_outside_window(site, contents, options.moment)
    with evidence.check("recovery", progress, "choosing the point in time to restore to") as check:
        moment = options.moment or _random_moment(contents, marker)
        evidence.aimed_for = moment
        progress(f"the point in time is {moment.isoformat()}")
        chosen = contents.backup_for(moment, datetime.now(UTC))
        evidence.backup = chosen.label
        require_room(bench, chosen.size_bytes)
        began = time.monotonic()
        progress(f"restoring backup {chosen.label} in a temporary server")
        target = moment.astimezone(UTC).isoformat(" ")
        restore_files(bench, backup.PGDATA, chosen.label, target=target, timeline=contents.history.timeline)
        bench.sh('printf %s "$1" > "$2"', _HBA, _HBA_FILE)
        progress("replaying WAL")
        # Without this drill's marker, the last commit may be older than the point in time.
        is_at_end = _recover(bench, may_end_early=marker is None)
        psql(bench.name, "SELECT 1")
        evidence.rto_seconds = round(time.monotonic() - began, 3)
        evidence.newest_commit = checks.newest_commit(bench.name)
        check.detail = (
            "all archived WAL was replayed; it has no commit after that time"
            if is_at_end
            else checks.reached(bench, moment, evidence.newest_commit)
        )
    if evidence.failures:
        return
    with evidence.check("markers", progress, "comparing the markers with the server's") as check:
        primary = _running_primary(site)
        live = markers.read(primary) if primary else None
        check.detail = checks.same_markers(live, markers.read(bench.name), moment)
    with evidence.check("amcheck", progress, "checking every table and B-tree index (amcheck)") as check:
        check.detail = checks.amcheck(bench)
    with relay(bench.name, site.image, _SOCKET, postgres.PORT, labels_of(site)) as port:
        with evidence.check(
            "migrations", progress, "applying the stack's roles and the migrations after that time"
        ) as check:
            urls = checks.login_urls(bench, port, options.connection_limits)
            check.detail = checks.apply_later_migrations(options.migrations, urls.__getitem__)
        if check.ok:
            with evidence.check("smoke", progress, "reading through the data access (smoke test)") as check:
                check.detail, evidence.rows = checks.smoke(urls["app"])
    with evidence.check("checksums", progress, "checking the checksums of all pages (pg_checksums)") as check:
        bench.stop_server(backup.PGDATA)
        check.detail = checks.page_checksums(bench)


@contextmanager
def _throwaway(site: BackupSite) -> Iterator[Workbench]:
    """Yield a container with the repository read-only. Its data is removed with it."""
    volumes = {
        backup_repository.FOLDER: (site.repository_volume, False),
        postgres.CONFIG_DIR: (site.config_volume, False),
    }
    # The container of a killed restore has to stay: it makes `adopt` refuse.
    with workbench(site, "drill", volumes) as bench:
        remove(site, f"{bench.name}-relay")
        yield bench


def _mark(site: BackupSite, progress: Progress) -> Marker | None:
    """Commit a marker on the server, whose delay until it is archived is the RPO. Return None if no server runs."""
    primary = _running_primary(site)
    if primary is None:
        progress("warning: Postgres does not run, so that the RPO cannot be measured")
        return None
    take_backup.report_archiver(site, progress)
    try:
        return markers.write(primary, "drill")
    except DockerError as error:
        raise OpsError(f"cannot write a marker to the server: {error}", Exit.UNREACHABLE) from error


def _running_primary(site: BackupSite) -> str | None:
    """Return the primary, or None if no server runs.

    While another server of a cluster runs, wait for a failover. Raise NoPrimary (6) if there is no primary after that.
    """
    return site.primary if servers.is_serving(site) and site.is_running(site.primary) else None


def _refuse_outside_window(site: BackupSite, contents: Contents, moment: datetime | None) -> None:
    if not contents.windows():
        raise OutsideWindow(f"there is no backup to drill with; run `groundwork backup --stack {site.stack}`")
    if moment is not None:
        contents.backup_for(moment, datetime.now(UTC))


def _random_moment(contents: Contents, marker: Marker | None) -> datetime:
    """Return a random point in time in the newest window, at most that of this drill's own marker."""
    start = contents.windows()[-1].start
    newest = contents.archived_at[contents.newest] if contents.newest else start
    upper = marker.written_at if marker else newest
    seconds = max(0.0, (upper - start).total_seconds())
    return start + timedelta(seconds=random.SystemRandom().uniform(0, seconds))


def _wait_archived(site: BackupSite, bench: Workbench, marker: Marker | None, options: DrillOptions) -> None:
    """Wait until the drill's marker is archived, without forcing a WAL switch."""
    if marker is None:
        return
    seconds = max(_ARCHIVED_SECONDS, options.max_rpo_seconds)
    if not bench.sh(repository.AWAIT_ARCHIVED, str(marker.segment), f"{seconds:.0f}"):
        raise CheckFailed(
            f"a commit of {show_time(marker.written_at)} is not archived after {seconds:.0f} s;"
            f" {take_backup.archiver(site.primary).waiting} WAL files are waiting"
        )


def _measure_rpo(evidence: Evidence, contents: Contents, marker: Marker | None, options: DrillOptions) -> str:
    """Measure how long the marker's commit existed only on the server. Losing the machine then would lose it."""
    if marker is None:
        return "not measured, because the server does not run"
    seconds = (contents.archived_at[marker.segment] - marker.written_at).total_seconds()
    # The repository records times in whole seconds.
    evidence.rpo_seconds = round(max(seconds, 0.0), 3)
    if seconds > options.max_rpo_seconds:
        raise CheckFailed(
            f"the RPO is {seconds:.0f} s, but at most {options.max_rpo_seconds:.0f} s are allowed"
        )
    return f"a commit was archived after {evidence.rpo_seconds} s"


def _recover(bench: Workbench, *, may_end_early: bool) -> bool:
    """Recover to the point in time. Return whether recovery replayed all WAL without reaching that point."""
    # The new timeline must not be archived. It could not be either, because the repository is read-only.
    parameters = {"archive_mode": "off", "fsync": "off", "shared_buffers": "128MB", "hba_file": _HBA_FILE}
    try:
        bench.start_server(backup.PGDATA, **parameters)
    except RecoveryFailed as error:
        if not (may_end_early and error.is_before_target):
            raise
        bench.recover_fully(backup.PGDATA, **parameters)
        return True
    return False
