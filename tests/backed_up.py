"""A temporary Postgres with a backup repository, like a stack's but without Pulumi."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from db.migrator import apply_pending, read_source
from infra.docker import server_roles
from infra.docker.container import CHECK_INTERVAL_SECONDS
from infra.docker.engine import docker, inspect
from infra.docker.health_check import run_check
from infra.spec import backup, backup_repository, postgres, roles
from infra.spec.checkout import Checkout
from ops.backup.pgbackrest import Progress
from ops.backup.post_restore import PostRestore
from ops.backup.repository import Backup, Contents
from ops.backup.restore import Restored, Target, look, restore
from ops.backup.site import BackupSite
from ops.backup.take_backup import take_backup
from tests.containers import LABEL, START_SECONDS, Server, postgres_server, wait_until

ROOT = Path(__file__).parents[1]
CONNECTION_LIMITS = dict.fromkeys(roles.LOGINS, 60)
_OWNER = f"uid={postgres.UID},gid={postgres.GID},mode=0700"


def _in_memory(options: str = "") -> list[str]:
    """Return the options of a volume in memory: on disk, the inodes of so many files take most of the CPU time.

    It keeps its content as long as some container uses it.
    """
    return ["--opt", "type=tmpfs", "--opt", "device=tmpfs", "--opt", f"o={options}{_OWNER}"]


@dataclass
class BackedUp:
    """The server, its site, and the messages that were printed during an operation."""

    server: Server
    site: BackupSite
    # A container that only mounts the data and the repository.
    bench: str
    said: list[str] = field(default_factory=list)
    flushes: int = 0
    noted_in: str = ""

    @property
    def checkout(self) -> Checkout:
        """A checkout whose state folder has the site's files."""
        state_dir = self.site.lock_file.parents[2]
        return Checkout(root=ROOT, key="0a1b2c", state_dir=state_dir, cache_dir=state_dir)

    def sql(self, text: str) -> str:
        return self.server.psql(text, roles.DATABASE).strip()

    def note(self, text: str) -> datetime:
        """Commit a row with that text, and return a time between this commit and another one.

        `noted_in` is the WAL file that holds the row.
        """
        row = f"INSERT INTO groundwork.users (github_id, username) VALUES ({uuid.uuid4().int % 2**62}, '{text}')"
        self.noted_in = self.sql(f"{row}; SELECT pg_walfile_name(pg_current_wal_lsn())")
        moment = datetime.fromtimestamp(float(self.sql("SELECT extract(epoch FROM clock_timestamp())")), UTC)
        self.sql("SELECT pg_logical_emit_message(true, 'tick', '')")
        return moment

    def notes(self) -> set[str]:
        return set(self.sql("SELECT username FROM groundwork.users").split())

    def backup(self, kind: str | None = None) -> Backup:
        return take_backup(self.site, kind=kind, progress=self.said.append)

    def contents(self) -> Contents:
        return look(self.site)

    def post_restore(self) -> PostRestore:
        return PostRestore(self.apply_roles, self._flushed)

    def restore(self, moment: datetime | None, timeline: int | None = None) -> Restored:
        return restore(self.site, Target(moment, timeline), self.post_restore(), self.said.append)

    def apply_roles(self, container: str) -> None:
        verifiers = {
            name: roles.scram_verifier(password, os.urandom(16))
            for name, password in self.server.passwords.items()
        }
        server_roles.apply_roles(container, verifiers, CONNECTION_LIMITS)

    def archived(self) -> None:
        """Wait until everything committed so far is in the repository, archived by the archive timeout alone."""
        # Writes a WAL record, because an empty segment is never archived.
        name = self.sql("SELECT pg_walfile_name(pg_logical_emit_message(true, 'tick', ''))")
        wait_until(
            lambda: self.sql("SELECT last_archived_wal FROM pg_stat_archiver").split(".")[0] >= name, 90
        )

    def in_volume(self, script: str, *arguments: str) -> str:
        """Run a shell script with the repository at /repo and the data at /data."""
        return docker("exec", self.bench, "sh", "-ceu", script, "sh", *arguments)

    def started_at(self) -> str:
        return str(inspect("container", self.site.postgres)[0]["State"]["StartedAt"])

    def killed_at(self, step: str, *arguments: str) -> None:
        """Run tests.faults.backup_run in a process, and SIGKILL it when it prints `step`."""
        site = self.site
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "tests.faults.backup_run"),
                *(site.postgres, site.image, site.data_volume, site.config_volume, site.repository_volume),
                *(str(site.lock_file), *arguments),
            ],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stderr is not None
        heard = []
        with process:
            for line in process.stderr:
                heard.append(line.strip())
                if line.startswith(step):
                    process.kill()
                    break
        assert process.returncode == -9, heard
        # A process in a container continues for a while, as after a real kill.
        time.sleep(0.5)

    def _flushed(self, _: Progress) -> None:
        self.flushes += 1


def site_of(
    container: str, image: str, data: str, config: str, repository: str, lock_file: str
) -> BackupSite:
    """Return the site of a temporary server without an access service."""
    return BackupSite(
        stack="test",
        prefix=container,
        image=image,
        data_volume=data,
        config_volume=config,
        repository_volume=repository,
        postgres=container,
        access=f"{container}-access",
        lock_file=Path(lock_file),
    )


def _is_healthy(server: Server) -> bool:
    """Run the health check, which also makes a server that has started archive by the clock."""
    return run_check(inspect("container", server.container)[0]).is_healthy


@contextmanager
def backed_up_server(
    folder: Path, *, repository_mib: int | None = None, queue_max_bytes: int = 1024**3
) -> Iterator[BackedUp]:
    """Yield a migrated server that archives every second into an encrypted repository on its own volume."""
    size = "" if repository_mib is None else f"size={repository_mib}m,"
    name = f"gw-test-{uuid.uuid4().hex[:8]}"
    data, repository, bench = f"{name}-data", f"{name}-backups", f"{name}-bench"
    conf = backup.render_conf(
        cipher_pass=secrets.token_urlsafe(32), retention_full=2, queue_max_bytes=queue_max_bytes
    )
    docker("volume", "create", "--label", LABEL, *_in_memory(), data)
    docker("volume", "create", "--label", LABEL, *_in_memory(size), repository)
    options = [
        *("--volume", f"{data}:{postgres.DATA_DIR}", "--volume", f"{repository}:{backup_repository.FOLDER}"),
        # As infrequent as a stack's. What waits for the server runs the check.
        *("--health-cmd", "groundwork-health", "--health-interval", f"{CHECK_INTERVAL_SECONDS}s"),
        *("--stop-timeout", "60"),
    ]
    # A WAL file for each second soon fills the memory, unless checkpoints remove the archived ones.
    parameters = backup.archive_parameters() | {"archive_timeout": "1s", "max_wal_size": "192MB"}
    try:
        with postgres_server(
            parameters, extra_files={"pgbackrest.conf": conf}, keeps_port=True, run_options=options
        ) as server:
            server.answers = lambda: _is_healthy(server)
            (found,) = inspect("container", server.container)
            config = next(m["Name"] for m in found["Mounts"] if m["Destination"] == postgres.CONFIG_DIR)
            lock = str(folder / "stacks" / "test" / "backup.lock")
            site = site_of(server.container, found["Image"], data, config, repository, lock)
            apply_pending(server.database_url("migrator"), read_source())
            # Only now, because a server that archives by the clock makes a WAL file for each second of the migrations.
            wait_until(server.answers, START_SECONDS)
            docker(
                *("run", "--detach", "--init", "--name", bench, "--label", LABEL, "--network", "none"),
                *(
                    "--user",
                    f"{postgres.UID}",
                    "--volume",
                    f"{repository}:/repo",
                    "--volume",
                    f"{data}:/data",
                ),
                *("--entrypoint", "sleep", site.image, "infinity"),
            )
            yield BackedUp(server, site, bench)
    finally:
        docker("rm", "--force", "--volumes", bench)
        docker("volume", "rm", "--force", data, repository)
