"""The backups of one stack on this machine: containers, volumes, image, and the lock for one operation at a time."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from infra import outputs
from infra.docker import ownership
from infra.docker.engine import DockerError, docker, inspect
from infra.docker.members import member_containers, primary_container, retired_replicas
from infra.spec.checkout import Checkout
from infra.spec.postgres_cluster import MEMBERS
from ops.backup.errors import BackupError
from ops.errors import Exit, OpsError
from ops.file_lock import file_lock


@dataclass(frozen=True)
class BackupSite:
    """One stack's Postgres, as named in the stack outputs. The containers need not exist.

    With replicas, `postgres` and the volumes are those of the first server, and `replicas` are the other servers.
    """

    stack: str
    # Prefix of the names of its containers, such as `gw-1a2b3c-dev`.
    prefix: str
    image: str
    data_volume: str
    config_volume: str
    repository_volume: str
    postgres: str
    access: str
    lock_file: Path
    full_days: int = 7
    replicas: tuple[str, ...] = ()
    # Labels that name the owner of the Docker resources created for this site.
    labels: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, checkout: Checkout, stack: str) -> BackupSite:
        """Return the site of a stack without decrypting a secret.

        Raises OpsError: 6 if the stack was never up, 2 if it is unknown. Raises OwnedByAnother (7) if
        another state owns its containers or volumes.
        """
        from ops.stack.pulumi_stack import PulumiStack

        values = PulumiStack(checkout, stack).known_outputs()
        backups = values.get(outputs.BACKUPS)
        if backups is None:
            raise BackupError(
                f"stack {stack!r} was deployed before backups existed; run `groundwork up --stack {stack}` to add them"
            )
        if not backups["enabled"]:
            raise BackupError(
                f"backups are turned off for stack {stack!r}; set groundwork:backups to true in"
                f" Pulumi.{stack}.yaml and run `groundwork up --stack {stack}`"
            )
        # Without a Docker engine, every container and volume would look missing.
        try:
            docker("version", "--format", "{{.Server.Version}}")
        except DockerError as error:
            raise OpsError(
                "the Docker engine does not answer; start it with `make up`", Exit.UNREACHABLE
            ) from error
        ownership.require_own(checkout, stack)
        first = values[outputs.CONTAINERS]["postgres"]
        # A killed `up` that turned replicas on has changed the servers, but not the outputs.
        has_replicas = bool(values.get(outputs.POSTGRES_REPLICAS) or member_containers(first))
        # A killed `up` that turned replicas off has stopped them. They must not run beside the single server.
        if has_replicas and retired_replicas(checkout, stack):
            if not _is_single(first):
                raise OpsError(
                    f"an `up` of stack {stack!r} that turns replicas off was interrupted; run"
                    f" `groundwork up --stack {stack}` to complete it, and then this command again",
                    Exit.REFUSED,
                )
            has_replicas = False
        return cls(
            stack=stack,
            prefix=checkout.name(stack, "")[:-1],
            image=backups["image"],
            data_volume=backups["dataVolume"],
            config_volume=backups["configVolume"],
            repository_volume=backups["repositoryVolume"],
            postgres=first,
            replicas=MEMBERS[1:] if has_replicas else (),
            access=values[outputs.CONTAINERS]["access"],
            lock_file=_lock_file(checkout, stack),
            full_days=int(backups["fullDays"]),
            labels=ownership.labels(checkout, stack),
        )

    @cached_property
    def primary(self) -> str:
        """The container of the primary, which alone can be backed up. Waits for it, and raises NoPrimary (6)."""
        return primary_container(self.postgres)

    def container(self, service: str) -> str:
        """Return the name of a server's container."""
        return f"{self.prefix}-{service}"

    def volume(self, service: str) -> str:
        """Return the name of a server's data volume."""
        return f"{self.prefix}-{service}-data"

    def is_running(self, container: str) -> bool:
        """Return whether a container runs and is not frozen, so that commands can be run in it."""
        found = inspect("container", container)
        return bool(found) and bool(found[0]["State"]["Running"]) and not found[0]["State"].get("Paused")

    def require_running(self) -> None:
        """Raise OpsError (6) if Postgres does not run."""
        if not self.is_running(self.primary):
            raise OpsError(
                f"Postgres of stack {self.stack!r} does not run; see `groundwork status --stack {self.stack}`",
                Exit.UNREACHABLE,
            )

    def exclusive(self) -> AbstractContextManager[None]:
        """Lock out other backups, restores and drills, which may remove files. Released when the process exits."""
        return _exclusive(self.lock_file, self.stack)


def excluding_backups(checkout: Checkout, stack: str) -> AbstractContextManager[None]:
    """Lock out backups, restores and drills of a stack. Raise OpsError (5) if one is running."""
    return _exclusive(_lock_file(checkout, stack), stack)


def _lock_file(checkout: Checkout, stack: str) -> Path:
    return checkout.stack_dir(stack) / "backup.lock"


@contextmanager
def _exclusive(lock_file: Path, stack: str) -> Iterator[None]:
    lock_file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)

    def refusal(holder: str) -> str:
        return (
            f"stack {stack!r} is locked by a backup, restore or drill of process {holder or 'another process'};"
            " wait until it has finished"
        )

    with file_lock(lock_file, f"{os.getpid()}\n", refusal):
        yield


def _is_single(container: str) -> bool:
    """Return whether the container is that of a single server. Only servers of a cluster have fixed addresses."""
    return any(
        not (network["IPAMConfig"] or {}).get("IPv4Address")
        for found in inspect("container", container)
        for network in found["NetworkSettings"]["Networks"].values()
    )
