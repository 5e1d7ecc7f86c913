"""A container of the stack's own Postgres image beside its server: mounts volumes, runs nothing until told to.

What a restore and a drill do to data folders is done in here, as the server's user and without a network.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from infra.docker.engine import DockerError, docker, inspect
from infra.spec import backup, postgres
from ops.backup.errors import BackupError, RecoveryFailed
from ops.backup.site import Site
from ops.errors import Exit, OpsError

LABEL = "groundwork.workbench"
_LOG = "/tmp/postgres.log"
_START_SECONDS = 24 * 3600


@dataclass(frozen=True)
class Workbench:
    """A running container, by name. `data` is the folder that it serves."""

    name: str

    def sh(self, script: str, *arguments: str, timeout_seconds: float = 24 * 3600) -> str:
        """Run a shell script in it; DockerError has its last words."""
        return docker(
            "exec", self.name, "sh", "-ceu", script, "sh", *arguments, timeout_seconds=timeout_seconds
        )

    def exists(self, path: str) -> bool:
        return bool(self.sh('[ ! -e "$1" ] || echo yes', path).strip())

    def start_server(self, data: str, **parameters: str) -> None:
        """Start Postgres on a folder and wait until it answers queries, through recovery if it has to.

        RecoveryFailed has the server's own reason.
        """
        options = {
            "config_file": f"{postgres.CONFIG_DIR}/postgresql.conf",
            "hba_file": f"{postgres.CONFIG_DIR}/pg_hba.conf",
            # Recovery would stop and wait where a setting is smaller than it was on the server of the backup.
            "hot_standby": "off",
            "logging_collector": "off",
        } | parameters
        if self.answers():
            return
        words = " ".join(f"-c {key}={value}" for key, value in options.items())
        try:
            # The lock's number means nothing here: a process of another container had it. pg_ctl waits until
            # the cluster is consistent, which is before it answers.
            self.sh(
                f'rm -f {_LOG} "$1/postmaster.pid"; pg_ctl start --wait --timeout={_START_SECONDS} --silent'
                f' --pgdata="$1" --log={_LOG} --options="$2" >/dev/null;'
                ' until pg_isready --quiet; do pg_ctl status --pgdata="$1" >/dev/null; sleep 0.1; done',
                data,
                words,
            )
        except DockerError as error:
            raise RecoveryFailed(self.last_words()) from error

    def answers(self) -> bool:
        """Whether a server in it answers queries."""
        return bool(self.sh("! pg_isready --quiet || echo yes").strip())

    def last_words(self) -> str:
        """Why the server ended: its last FATAL or PANIC line."""
        log = self.sh(f"cat {_LOG} 2>/dev/null || true").splitlines()
        ends = [line for line in log if "FATAL:" in line or "PANIC:" in line]
        # The first is the reason; what follows is the server taking itself down.
        line = ends[0] if ends else (log[-1] if log else "it said nothing")
        return line.partition("FATAL:")[2].strip() or line.strip()

    def stop_server(self, data: str) -> None:
        self.sh('pg_ctl stop --wait --mode=fast --silent --pgdata="$1" >/dev/null', data)

    def log(self) -> str:
        return self.sh(f"cat {_LOG}")


@contextmanager
def workbench(
    site: Site,
    what: str,
    volumes: Mapping[str, tuple[str, bool]],
    *,
    network: str = "none",
    publish: int | None = None,
) -> Iterator[Workbench]:
    """A workbench of a site, removed at the end; one that a killed run left is removed before.

    `volumes`: path -> (volume, whether it may be written). A data folder without a volume is the
    workbench's own, and goes with it. `publish`: a port of the container, on any of 127.0.0.1.
    """
    name = f"{site.prefix}-{what}"
    remove(name)
    uid = postgres.UID
    command = [
        *("run", "--detach", "--init", "--name", name, "--label", f"{LABEL}={site.prefix}"),
        *("--network", network, "--user", f"{uid}:{uid}", "--read-only", "--cap-drop", "ALL"),
        *("--security-opt", "no-new-privileges", "--dns", "127.0.0.1", "--shm-size", "256m"),
        *("--tmpfs", f"/tmp:rw,nosuid,nodev,noexec,size=64m,uid={uid},gid={uid}"),
        *("--tmpfs", f"{postgres.SOCKET_DIR}:rw,nosuid,nodev,noexec,size=1m,uid={uid},gid={uid},mode=0755"),
        *(["--publish", f"127.0.0.1::{publish}"] if publish else []),
        *_mounts(volumes),
        *("--entrypoint", "sleep", site.image, "infinity"),
    ]
    try:
        docker(*command)
        yield Workbench(name)
    finally:
        remove(name)


def remove(name: str) -> None:
    """Remove a workbench with the volumes that are its own; one that is not there is none."""
    if inspect("container", name):
        docker("rm", "--force", "--volumes", name)


def refuse_during_restore(prefix: str, stack: str) -> None:
    """OpsError (5) while a restore of a stack is under way, or was killed: its workbench is there until another run."""
    if inspect("container", f"{prefix}-restore"):
        raise OpsError(
            f"a restore of stack {stack!r} is under way, or was interrupted: run the same `groundwork restore` again,"
            f" or `groundwork restore --abandon --stack {stack}`",
            Exit.LOCKED,
        )


def remove_all(prefix: str) -> None:
    """Remove whatever a killed restore or drill of a stack has left: containers, then networks."""
    for kind, every in (("container", ["--all"]), ("network", [])):
        found = docker(kind, "ls", *every, "--quiet", "--filter", f"label={LABEL}={prefix}").split()
        for identity in found:
            docker(kind, "rm", *(["--force", "--volumes"] if kind == "container" else []), identity)


def restore_files(
    bench: Workbench,
    folder: str,
    label: str,
    *,
    target: str | None,
    timeline: int,
) -> None:
    """Have pgBackRest put a backup's files into an empty folder, ready to recover to `target` (None: all WAL)."""
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


def require_volumes(site: Site) -> None:
    """BackupError where a volume is gone: Docker would make an empty one in its place."""
    for volume in (site.data_volume, site.config_volume, site.repository_volume):
        if not inspect("volume", volume):
            raise BackupError(
                f"volume {volume} is gone; `groundwork up --stack {site.stack}` makes a new one"
            )


def _mounts(volumes: Mapping[str, tuple[str, bool]]) -> list[str]:
    arguments = []
    for path, (volume, writable) in volumes.items():
        arguments += ["--volume", f"{volume}:{path}{'' if writable else ':ro'}"]
    return arguments
