"""Stop and start the servers of a stack around a restore: one server, or the servers of a cluster.

A restore replaces the data of the first server. The others copy it afterwards, because their data is of a history that
the restore ends.
"""

from __future__ import annotations

from typing import Any

from infra.docker.engine import STOP_LIMIT_SECONDS, DockerError, docker, inspect
from infra.docker.health_check import wait_until_healthy
from infra.docker.members import NoPrimary, primary_container
from infra.spec import etcd
from ops.backup import markers
from ops.backup.errors import BackupError
from ops.backup.folders import Folders
from ops.backup.pgbackrest import Progress
from ops.backup.site import BackupSite
from ops.backup.workbench import workbench

_HEALTHY_SECONDS = 300
# Copying a database of terabytes takes hours.
_COPIED_SECONDS = 24 * 3600


def is_serving(site: BackupSite) -> bool:
    """Return whether a server of the stack runs."""
    return any(site.is_running(server) for server in _servers(site))


def are_up(site: BackupSite) -> bool:
    """Return whether a server of the stack runs or is paused, so that a restore would stop it."""
    return any(found["State"]["Running"] for found in _found(site))


def stop(site: BackupSite, progress: Progress, *, mark: bool) -> None:
    """Stop the access service and Postgres. A clean shutdown archives the last WAL.

    The primary is stopped last, so that no other server is promoted.
    """
    primary = _primary(site) if is_serving(site) else None
    if mark and primary:
        progress("writing a marker, so that WAL continues past the requested time")
        try:
            markers.write(primary, "restore")
        except DockerError as error:
            progress(f"warning: cannot write a marker to the server ({error}); continuing without one")
    if inspect("container", site.access):
        progress("stopping access service")
        docker("stop", site.access)
    for server in sorted(_servers(site), key=lambda server: server == (primary or site.postgres)):
        progress(f"stopping {_name(site, server)}")
        docker("stop", server, timeout_seconds=STOP_LIMIT_SECONDS)


def start(site: BackupSite, progress: Progress) -> str | None:
    """Start the servers on the data that they have, and the access service. Return the container of the primary.

    Return None if there are no containers. Raise BackupError if the servers do not serve.
    """
    servers = _servers(site)
    if not servers:
        return None
    progress("starting Postgres")
    docker("start", *servers)
    try:
        primary = primary_container(site.postgres, _HEALTHY_SECONDS)
        wait_until_healthy(primary, _HEALTHY_SECONDS)
    except (DockerError, NoPrimary) as error:
        raise BackupError(str(error)) from error
    _start_access(site, progress)
    return primary


def await_others(site: BackupSite, primary: str, progress: Progress) -> None:
    """Wait for the servers beside the primary, each for a limited time. Only warn about one that is not healthy.

    Commands that repair a server are refused until the restore is completed.
    """
    for server in _servers(site):
        if server == primary:
            continue
        progress(f"waiting for {_name(site, server)}")
        try:
            wait_until_healthy(server, _HEALTHY_SECONDS)
        except DockerError as error:
            progress(
                f"warning: {_name(site, server)} is not healthy yet ({error}); see `groundwork cluster"
                " status` when the restore has ended"
            )


def start_restored(site: BackupSite, folders: Folders, progress: Progress) -> bool:
    """Start the first server on the restored data, and let the others copy it. Return whether Postgres serves.

    Without containers, nothing is started. Raise BackupError if a server does not become healthy.
    """
    servers = _servers(site)
    if site.postgres not in servers:
        folders.clear_copies()
        return False
    progress("starting Postgres")
    docker("start", site.postgres)
    _await_health(site.postgres, _HEALTHY_SECONDS)
    folders.mark_served()
    folders.clear_copies()
    copies = [server for server in servers if server != site.postgres]
    for server in copies:
        progress(f"copying the restored data to {_name(site, server)}")
        docker("start", server)
    for server in copies:
        _await_health(server, _COPIED_SECONDS)
    _start_access(site, progress)
    return True


def forget_cluster(site: BackupSite, progress: Progress) -> None:
    """Delete what etcd stores about a cluster, so that the restored server begins a new one.

    Patroni would otherwise accept only the former primary and its synchronous replica. etcd stores nothing else, so its
    data folders are deleted. This works without a majority of its members too.
    """
    if not site.replicas:
        return
    progress("deleting the cluster's state in etcd")
    stores = [site.container(member) for member in etcd.MEMBERS]
    stores = [found["Name"].lstrip("/") for found in inspect("container", *stores)]
    if stores:
        docker("stop", *stores)
    volumes = {member: site.volume(member) for member in etcd.MEMBERS}
    mounts = {f"/mnt/{member}": (name, True) for member, name in volumes.items() if inspect("volume", name)}
    with workbench(site, "etcd", mounts, uid=etcd.UID) as bench:
        bench.sh("rm -rf /mnt/*/data")
    if stores:
        docker("start", *stores)


def _servers(site: BackupSite) -> list[str]:
    """Return the containers of the stack's servers that exist, the first one first."""
    return [found["Name"].lstrip("/") for found in _found(site)]


def _found(site: BackupSite) -> list[dict[str, Any]]:
    return inspect("container", site.postgres, *map(site.container, site.replicas))


def _primary(site: BackupSite) -> str | None:
    """Return the running primary, or None if there is none now."""
    try:
        return primary_container(site.postgres, wait_seconds=0)
    except NoPrimary:
        return None


def _name(site: BackupSite, server: str) -> str:
    return server.removeprefix(f"{site.prefix}-") if site.replicas else "Postgres"


def _await_health(container: str, seconds: float) -> None:
    try:
        wait_until_healthy(container, seconds)
    except DockerError as error:
        raise BackupError(str(error)) from error


def _start_access(site: BackupSite, progress: Progress) -> None:
    if inspect("container", site.access):
        progress("starting the access service")
        docker("start", site.access)
