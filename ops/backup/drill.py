"""A drill: restores to a random moment in a throwaway, and checks what came back. It never writes to the repository.

The throwaway has the repository read-only, a data folder of its own, and a network that leads nowhere.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from infra.docker.engine import DockerError, docker, inspect, psql
from infra.spec import backup, backup_repository, postgres
from ops.backup import checks, markers, repository, taking
from ops.backup.errors import OutsideWindow
from ops.backup.evidence import CheckFailed, Evidence
from ops.backup.markers import Marker
from ops.backup.pgbackrest import Progress
from ops.backup.repository import Contents, show_time
from ops.backup.site import Site
from ops.backup.workbench import LABEL, Workbench, remove, require_volumes, restore_files, workbench
from ops.errors import Exit, OpsError

# Longer than the archive's timeout: beyond it a marker that is not there means that archiving is broken.
_ARCHIVED_SECONDS = 3 * backup.ARCHIVE_TIMEOUT_SECONDS
MAX_RPO_SECONDS = 2.0 * backup.ARCHIVE_TIMEOUT_SECONDS


@dataclass(frozen=True)
class Terms:
    """What a drill is held to: the moment (None: a random one), and the RPO in seconds that it may measure."""

    moment: datetime | None = None
    max_rpo_seconds: float = MAX_RPO_SECONDS
    ca_file: Path | None = None


def drill(site: Site, terms: Terms, progress: Progress) -> Evidence:
    """Make a drill. A check that fails is in the evidence; an error is what kept the drill from being made.

    OutsideWindow where there is no backup, or none that reaches the moment asked for.
    """
    require_volumes(site)
    evidence = Evidence(site.stack, datetime.now(UTC))
    with site.exclusive(), _throwaway(site) as bench:
        _run(site, terms, bench, evidence, progress)
    evidence.ended_at = datetime.now(UTC)
    return evidence


def _run(site: Site, terms: Terms, bench: Workbench, evidence: Evidence, progress: Progress) -> None:
    marker = None
    with evidence.check(
        "archive", progress, "writing a marker, and waiting until it is in the repository"
    ) as check:
        marker = _mark(site, progress)
        _wait_archived(site, bench, marker)
        check.detail = _measure_rpo(evidence, repository.read(bench.name), marker, terms)
    with evidence.check("repository", progress, "reading every file of every backup, and all WAL") as check:
        check.detail = checks.verify_repository(bench.name)
    with evidence.check("wal", progress, "looking for gaps in the WAL") as check:
        contents = repository.read(bench.name)
        check.detail = checks.no_gap(contents)
    if evidence.failures:
        return
    _refuse_outside_window(site, contents, terms.moment)
    with evidence.check("recovery", progress, "choosing the moment to restore to") as check:
        moment = terms.moment or _random_moment(contents, marker)
        evidence.aimed_for = moment
        progress(f"the moment is {moment.isoformat()}")
        chosen = contents.backup_for(moment, datetime.now(UTC))
        evidence.backup = chosen.label
        began = time.monotonic()
        progress(f"restoring backup {chosen.label} in a throwaway")
        target = moment.astimezone(UTC).isoformat(" ")
        restore_files(bench, backup.PGDATA, chosen.label, target=target, timeline=contents.history.timeline)
        progress("replaying WAL")
        _recover(bench)
        psql(bench.name, "SELECT 1")
        evidence.rto_seconds = round(time.monotonic() - began, 3)
        evidence.newest_commit = checks.newest_commit(bench.name)
        check.detail = checks.reached(bench, moment, evidence.newest_commit)
    if evidence.failures:
        return
    with evidence.check("markers", progress, "comparing markers with the server's") as check:
        live = markers.read(site.postgres) if site.is_running(site.postgres) else None
        check.detail = checks.same_markers(live, markers.read(bench.name), moment)
    with evidence.check("amcheck", progress, "checking every table and index (amcheck)") as check:
        check.detail = checks.amcheck(bench)
    with evidence.check("smoke", progress, "reading through the data access (smoke test)") as check:
        check.detail, evidence.rows = checks.smoke(bench, terms.ca_file)
    with evidence.check("checksums", progress, "checking every page's checksum (pg_checksums)") as check:
        bench.stop_server(backup.PGDATA)
        check.detail = checks.page_checksums(bench)


@contextmanager
def _throwaway(site: Site) -> Iterator[Workbench]:
    """A workbench with the repository read-only, whose port is on 127.0.0.1. Its data goes with it."""
    network = f"{site.prefix}-drill"
    # What a killed drill left, and nothing else: by the workbench of a killed restore `up` knows to wait for its end.
    remove(network)
    if inspect("network", network):
        docker("network", "rm", network)
    docker(
        *("network", "create", "--label", f"{LABEL}={site.prefix}"),
        *("--opt", "com.docker.network.bridge.enable_ip_masquerade=false"),
        *("--opt", "com.docker.network.bridge.host_binding_ipv4=127.0.0.1", network),
    )
    volumes = {
        backup_repository.FOLDER: (site.repository_volume, False),
        postgres.CONFIG_DIR: (site.config_volume, False),
    }
    try:
        with workbench(site, "drill", volumes, network=network, publish=postgres.PORT) as bench:
            yield bench
    finally:
        docker("network", "rm", network)


def _mark(site: Site, progress: Progress) -> Marker | None:
    """Commit a marker on the server: how long it takes to be safe is the RPO. None where there is no server."""
    if not site.is_running(site.postgres):
        progress("warning: Postgres does not run: the RPO cannot be measured")
        return None
    taking.report_archiver(site, progress)
    try:
        return markers.write(site.postgres, "drill")
    except DockerError as error:
        raise OpsError(f"the server takes no marker: {error}", Exit.UNREACHABLE) from error


def _refuse_outside_window(site: Site, contents: Contents, moment: datetime | None) -> None:
    if not contents.windows():
        raise OutsideWindow(
            f"there is no backup to drill with; `groundwork backup --stack {site.stack}` makes one"
        )
    if moment is not None:
        contents.backup_for(moment, datetime.now(UTC))


def _random_moment(contents: Contents, marker: Marker | None) -> datetime:
    """Any moment that can be restored, up to this drill's own marker."""
    windows = contents.windows()
    newest = contents.archived_at[contents.newest] if contents.newest else windows[-1].start
    upper = marker.written_at if marker else newest
    spans = [(w.start, max(w.start, w.end or upper)) for w in windows]
    lengths = [(end - start).total_seconds() for start, end in spans]
    at = random.SystemRandom().uniform(0, sum(lengths))
    for (start, _), length in zip(spans, lengths, strict=True):
        if at <= length:
            return start + timedelta(seconds=at)
        at -= length
    return spans[-1][1]


def _wait_archived(site: Site, bench: Workbench, marker: Marker | None) -> None:
    """Wait until the drill's marker is in the repository, without hurrying it along."""
    deadline = time.monotonic() + _ARCHIVED_SECONDS
    while marker is not None and marker.segment not in repository.read(bench.name).archived_at:
        if time.monotonic() > deadline:
            raise CheckFailed(
                f"a commit of {show_time(marker.written_at)} is not in the repository after {_ARCHIVED_SECONDS} s;"
                f" {taking.archiver(site.postgres).waiting} WAL files wait"
            )
        time.sleep(1)


def _measure_rpo(evidence: Evidence, contents: Contents, marker: Marker | None, terms: Terms) -> str:
    """How long the marker's commit was on the server alone: what a machine lost then would have cost."""
    if marker is None:
        return "the server does not run: not measured"
    seconds = (contents.archived_at[marker.segment] - marker.written_at).total_seconds()
    # The repository knows when in whole seconds.
    evidence.rpo_seconds = round(max(seconds, 0.0), 3)
    if seconds > terms.max_rpo_seconds:
        raise CheckFailed(f"the RPO is {seconds:.0f} s, and {terms.max_rpo_seconds:.0f} s are allowed")
    return f"a commit was in the repository after {evidence.rpo_seconds} s"


def _recover(bench: Workbench) -> None:
    # Its new timeline is nobody's: it must not reach the archive, and could not.
    bench.start_server(backup.PGDATA, archive_mode="off", fsync="off", shared_buffers="128MB")
