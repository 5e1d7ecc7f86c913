"""A container of the stack's Postgres image next to its server. It mounts volumes, and starts no server by default.

Restores and drills work on data folders in it, as the server's user and without a network.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from infra.docker.engine import CONFINED, DockerError, docker, inspect, label_options, remove_container
from infra.docker.ownership import WORKBENCH_LABEL
from infra.spec import backup, postgres
from infra.spec.checkout import STATE_LABEL, Checkout
from ops.backup.errors import BackupError, RecoveryFailed
from ops.backup.restore_record import RestoreRecord
from ops.backup.site import BackupSite
from ops.errors import Exit, OpsError
from ops.servers.relay import socket_volume

_LOG = "/tmp/postgres.log"
_START_SECONDS = 24 * 3600
# The server's answer to a check whether it is ready, such as "the database system is starting up".
_REFUSAL = "FATAL:  the database system is "


@dataclass(frozen=True)
class Workbench:
    """A running container, by name."""

    name: str

    def sh(self, script: str, *arguments: str, timeout_seconds: float = 24 * 3600) -> str:
        """Run a shell script in the container. Raise DockerError with its last output."""
        return docker(
            "exec", self.name, "sh", "-ceu", script, "sh", *arguments, timeout_seconds=timeout_seconds
        )

    def existing(self, *paths: str) -> list[str]:
        """Return those of the paths that exist."""
        return self.sh('for path; do [ ! -e "$path" ] || echo "$path"; done', *paths).splitlines()

    def start_server(self, data: str, **parameters: str) -> None:
        """Start Postgres on a folder, and wait until recovery has finished and it answers queries.

        Do nothing if a server in the container answers already.
        Raise RecoveryFailed with the server's own reason.
        """
        options = {
            "config_file": f"{postgres.CONFIG_DIR}/postgresql.conf",
            "hba_file": f"{postgres.CONFIG_DIR}/pg_hba.conf",
            # With hot standby, recovery would pause if a setting is smaller than on the backup's server.
            "hot_standby": "off",
            "logging_collector": "off",
        } | parameters
        words = " ".join(f"-c {key}={value}" for key, value in options.items())
        try:
            # The PID in the lock file is from another container. pg_ctl only waits until the cluster is consistent,
            # which is earlier than the first answer.
            self.sh(
                "! pg_isready --quiet || exit 0;"
                f' rm -f {_LOG} "$1/postmaster.pid"; pg_ctl start --wait --timeout={_START_SECONDS} --silent'
                f' --pgdata="$1" --log={_LOG} --options="$2" >/dev/null;'
                ' until pg_isready --quiet; do pg_ctl status --pgdata="$1" >/dev/null; sleep 0.1; done',
                data,
                words,
            )
        except DockerError as error:
            raise RecoveryFailed(self.last_words()) from error

    def recover_fully(self, data: str, **parameters: str) -> None:
        """Start Postgres on a folder whose WAL ends before its target time, and recover to the end of the WAL."""
        self.sh('printf "recovery_target_time = \'\'\\n" >> "$1/postgresql.auto.conf"', data)
        self.start_server(data, **parameters)

    def last_words(self) -> str:
        """Return why the server stopped, from its FATAL and PANIC lines."""
        log = self.sh(f"cat {_LOG} 2>/dev/null || true").splitlines()
        ends = [line for line in log if ("FATAL:" in line or "PANIC:" in line) and _REFUSAL not in line]
        # The first one is the reason; the following ones belong to the shutdown.
        line = ends[0] if ends else (log[-1] if log else "its log is empty")
        return line.partition("FATAL:")[2].strip() or line.strip()

    def stop_server(self, data: str) -> None:
        self.sh('pg_ctl stop --wait --mode=fast --silent --pgdata="$1" >/dev/null', data)

    def log(self) -> str:
        return self.sh(f"cat {_LOG}")


@contextmanager
def workbench(
    site: BackupSite,
    what: str,
    volumes: Mapping[str, tuple[str, bool]],
    *,
    uid: int = postgres.UID,
    lifetime_seconds: int | None = None,
) -> Iterator[Workbench]:
    """Yield a workbench, and remove it at the end. A leftover one of a killed run is removed first.

    `volumes`: path -> (volume, whether it is writable). Without a volume, the data folder is the container's own and
    is removed with it. `lifetime_seconds`: after that time the container is removed, also if this process was killed.
    """
    name = f"{site.prefix}-{what}"
    remove(site, name)
    command = [
        *("run", "--detach", "--init", "--name", name, *labels_of(site)),
        *("--network", "none", "--user", f"{uid}:{uid}", *CONFINED, "--shm-size", "256m"),
        *("--tmpfs", f"/tmp:rw,nosuid,nodev,noexec,size=64m,uid={uid},gid={uid}"),
        *socket_volume(postgres.SOCKET_DIR, f"uid={uid}", f"gid={uid}", "mode=0755"),
        *_mounts(volumes),
        *(["--rm"] if lifetime_seconds is not None else []),
        *("--entrypoint", "sleep", site.image),
        *(["infinity"] if lifetime_seconds is None else [str(lifetime_seconds)]),
    ]
    try:
        docker(*command)
        yield Workbench(name)
    finally:
        remove(site, name)


def remove(site: BackupSite, name: str) -> None:
    """Remove a workbench of a site with its anonymous volumes; do nothing if it does not exist."""
    remove_container(name, site.labels.get(STATE_LABEL, ""))


def labels_of(site: BackupSite) -> list[str]:
    """Return the options that label a workbench with its owner, and mark it as not part of the site's stack."""
    return label_options({**site.labels, WORKBENCH_LABEL: site.prefix})


def refuse_during_restore(checkout: Checkout, stack: str) -> None:
    """Raise OpsError (5) from the time at which a restore stops the servers until it is completed or abandoned."""
    if said := RestoreRecord.of_stack(checkout, stack).unfinished(stack):
        raise OpsError(said, Exit.LOCKED)


def remove_all(prefix: str) -> None:
    """Remove the containers that killed restores and drills of a stack have left."""
    for identity in docker("ps", "--all", "--quiet", "--filter", f"label={WORKBENCH_LABEL}={prefix}").split():
        docker("rm", "--force", "--volumes", identity)


def require_room(bench: Workbench, size_bytes: int) -> None:
    """Raise BackupError if restored files of that size do not fit beside what is in the data volume."""
    free = int(bench.sh('df --output=avail --block-size=1 "$1" | tail -n 1', postgres.DATA_DIR))
    if free < size_bytes:
        raise BackupError(
            f"the restored files need {size_bytes / 1024**2:.0f} MB and the WAL to replay needs more, but only"
            f" {free / 1024**2:.0f} MB are free for Docker's volumes; free disk space, then run the command again"
        )


def restore_files(
    bench: Workbench,
    folder: str,
    label: str,
    *,
    target: str | None,
    timeline: int,
) -> None:
    """Restore a backup's files with pgBackRest to an empty folder, ready to recover to `target` (None: all WAL)."""
    from ops.backup import pgbackrest

    aim: Sequence[str] = (
        ["--type=default"]
        if target is None
        else ["--type=time", f"--target={target}", "--target-action=promote"]
    )
    bench.sh('rm -rf "$1"; install -d -m 0700 "$1"', folder)
    pgbackrest.run(
        bench.name,
        "restore",
        f"--pg1-path={folder}",
        f"--set={label}",
        f"--target-timeline={timeline}",
        f"--recovery-option=restore_command={backup.RESTORE_COMMAND}",
        *aim,
    )


def require_volumes(site: BackupSite) -> None:
    """Raise BackupError if a volume is missing, because Docker would create an empty one instead."""
    for volume in (site.data_volume, site.config_volume, site.repository_volume):
        if not inspect("volume", volume):
            raise BackupError(
                f"volume {volume} is missing; run `groundwork up --stack {site.stack}` to create a new one"
            )


def _mounts(volumes: Mapping[str, tuple[str, bool]]) -> list[str]:
    arguments = []
    for path, (volume, writable) in volumes.items():
        arguments += ["--volume", f"{volume}:{path}{'' if writable else ':ro'}"]
    return arguments
