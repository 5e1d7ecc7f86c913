"""A throwaway Postgres with a backup repository: what a stack's is, without Pulumi around it."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from db.migrator import apply_pending, read_source
from infra.docker.engine import docker, inspect
from infra.spec import backup, backup_repository, postgres, roles
from ops.backup import keepers, taking
from ops.backup.keepers import Keepers
from ops.backup.repository import Backup, Contents
from ops.backup.restore import Restored, Target, look, restore
from ops.backup.site import Site
from tests.containers import LABEL, Server, postgres_server, wait_until

ROOT = Path(__file__).parents[1]


@dataclass
class BackedUp:
    """The server, its site, and what was said while something was done to it."""

    server: Server
    site: Site
    said: list[str] = field(default_factory=list)
    flushes: int = 0
    noted_in: str = ""

    def sql(self, text: str) -> str:
        return self.server.psql(text, roles.DATABASE).strip()

    def note(self, text: str) -> datetime:
        """Commit a row of that text, and return a moment after it that has a commit after it.

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
        return taking.take(self.site, kind=kind, progress=self.said.append)

    def contents(self) -> Contents:
        return look(self.site)

    def keepers(self) -> Keepers:
        return Keepers(self.apply_roles, self._flushed)

    def restore(self, moment: datetime | None, timeline: int | None = None) -> Restored:
        return restore(self.site, Target(moment, timeline), self.keepers(), self.said.append)

    def apply_roles(self, container: str) -> None:
        verifiers = {
            name: roles.scram_verifier(password, os.urandom(16))
            for name, password in self.server.passwords.items()
        }
        keepers.apply_roles(container, verifiers, dict.fromkeys(roles.LOGINS, 60))

    def archived(self) -> None:
        """Wait until everything committed so far is in the repository, by the clock alone."""
        name = self.sql("SELECT pg_walfile_name(pg_current_wal_lsn())")
        wait_until(
            lambda: self.sql("SELECT last_archived_wal FROM pg_stat_archiver").split(".")[0] >= name, 90
        )

    def in_volume(self, script: str, *arguments: str) -> str:
        """A shell script with the repository at /repo, the data at /data."""
        return docker(
            *("run", "--rm", "--user", f"{postgres.UID}", "--network", "none", "--label", LABEL),
            *(
                "--volume",
                f"{self.site.repository_volume}:/repo",
                "--volume",
                f"{self.site.data_volume}:/data",
            ),
            *("--entrypoint", "sh", self.site.image, "-ceu", script, "sh", *arguments),
        )

    def started_at(self) -> str:
        return str(inspect("container", self.site.postgres)[0]["State"]["StartedAt"])

    def killed_at(self, step: str, *arguments: str) -> None:
        """Run tests.faults.backup_run in a process, and SIGKILL it when it says `step`."""
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
        # What ran in a container at that moment goes on for a while, as after a real kill.
        time.sleep(0.5)

    def _flushed(self) -> None:
        self.flushes += 1


def site_of(container: str, image: str, data: str, config: str, repository: str, lock_file: str) -> Site:
    """The site of a throwaway server, whose access service is not there."""
    return Site(
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


@contextmanager
def backed_up_server(
    folder: Path, *, repository_options: Sequence[str] = (), queue_max_bytes: int = 1024**3
) -> Iterator[BackedUp]:
    """A migrated server that archives every second, into an encrypted repository on a volume of its own."""
    name = f"gw-test-{uuid.uuid4().hex[:8]}"
    data, repository = f"{name}-data", f"{name}-backups"
    conf = backup.render_conf(
        cipher_pass=secrets.token_urlsafe(32), retention_full=2, queue_max_bytes=queue_max_bytes
    )
    docker("volume", "create", "--label", LABEL, data)
    docker("volume", "create", "--label", LABEL, *repository_options, repository)
    options = [
        *("--volume", f"{data}:{postgres.DATA_DIR}", "--volume", f"{repository}:{backup_repository.FOLDER}"),
        *("--health-cmd", "groundwork-health", "--health-interval", "1s", "--stop-timeout", "60"),
    ]
    parameters = backup.archive_parameters() | {"archive_timeout": "1s"}
    try:
        with postgres_server(
            parameters, extra_files={"pgbackrest.conf": conf}, keeps_port=True, run_options=options
        ) as server:
            (found,) = inspect("container", server.container)
            config = next(m["Name"] for m in found["Mounts"] if m["Destination"] == postgres.CONFIG_DIR)
            lock = str(folder / f"{name}.lock")
            site = site_of(server.container, found["Image"], data, config, repository, lock)
            apply_pending(server.database_url("migrator"), read_source())
            yield BackedUp(server, site)
    finally:
        docker("volume", "rm", "--force", data, repository)
