"""Where the backups of one stack on this machine are: containers, volumes, image, and one operation at a time."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from infra import outputs
from infra.docker.engine import DockerError, docker, inspect
from infra.spec.world import World
from ops.backup.errors import BackupError
from ops.errors import Exit, OpsError


@dataclass(frozen=True)
class Site:
    """One stack's Postgres, as its outputs name it. The containers need not exist."""

    stack: str
    # What containers made for it are called: `gw-1a2b3c-dev`.
    prefix: str
    image: str
    data_volume: str
    config_volume: str
    repository_volume: str
    postgres: str
    access: str
    lock_file: Path
    full_days: int = 7

    @classmethod
    def of(cls, world: World, stack: str) -> Site:
        """The site of a stack; no secret is opened. OpsError (6) where it was never brought up, (2) where unknown."""
        from ops.pulumi_stack import PulumiStack

        values = PulumiStack(world, stack).known_outputs()
        backups = values.get(outputs.BACKUPS)
        if backups is None:
            raise BackupError(
                f"stack {stack!r} is older than backups; run `groundwork up --stack {stack}`, which adds them"
            )
        if not backups["enabled"]:
            raise BackupError(
                f"backups are off for stack {stack!r}; set groundwork:backups to true in"
                f" Pulumi.{stack}.yaml, and run `groundwork up --stack {stack}`"
            )
        # Without an engine every container and volume would look as if it were gone.
        try:
            docker("version", "--format", "{{.Server.Version}}")
        except DockerError as error:
            raise OpsError(
                "the Docker engine does not answer; `make up` starts it", Exit.UNREACHABLE
            ) from error
        return cls(
            stack=stack,
            prefix=world.name(stack, "")[:-1],
            image=backups["image"],
            data_volume=backups["dataVolume"],
            config_volume=backups["configVolume"],
            repository_volume=backups["repositoryVolume"],
            postgres=values[outputs.CONTAINERS]["postgres"],
            access=values[outputs.CONTAINERS]["access"],
            lock_file=world.stack_dir(stack) / "backup.lock",
            full_days=int(backups["fullDays"]),
        )

    def is_running(self, container: str) -> bool:
        found = inspect("container", container)
        return bool(found) and bool(found[0]["State"]["Running"])

    def require_running(self) -> None:
        """OpsError (6) unless Postgres runs."""
        if not self.is_running(self.postgres):
            raise OpsError(
                f"Postgres of stack {self.stack!r} does not run; `groundwork status --stack {self.stack}`"
                " shows what does",
                Exit.UNREACHABLE,
            )

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """One backup, restore or drill at a time: each may remove what another reads. Freed by the process's end."""
        self.lock_file.parent.mkdir(parents=True, exist_ok=True)
        with self.lock_file.open("a+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                holder = file.read().strip() or "another process"
                raise OpsError(
                    f"a backup, restore or drill of stack {self.stack!r} is being done by process {holder};"
                    " wait for it to end",
                    Exit.LOCKED,
                ) from None
            file.truncate(0)
            file.write(f"{os.getpid()}\n")
            file.flush()
            yield
