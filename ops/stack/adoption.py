"""Take over a stack whose state is lost: remove that state's Docker resources, or record them as this state's.

Containers, networks and configuration are removed; the next `up` recreates them with new secrets. Data volumes stay.
Backups are encrypted with a key that only the lost state contains, so they are set aside and never removed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from infra import state_folder
from infra.docker.engine import CONFINED, STOP_LIMIT_SECONDS, docker, inspect, label_options
from infra.docker.ownership import (
    CONTAINER,
    NETWORK,
    VOLUME,
    WORKBENCH_LABEL,
    DockerResource,
    adopt_volumes,
    foreign,
    forgotten,
    labels,
)
from infra.spec import postgres
from infra.spec.checkout import Checkout
from ops.backup.restore_record import RestoreRecord
from ops.errors import Exit, OpsError

_SET_ASIDE = """
cd /repository
for each in archive backup; do
    [ ! -e "$each" ] || { mkdir -p "$1"; mv "$each" "$1/"; echo "$1"; }
done
"""


@dataclass(frozen=True)
class Adoption:
    """The resources of a stack whose state is lost, grouped by what `adopt` does with them.

    Another state owns them, or this one does and has lost its record of them.
    """

    checkout: Checkout
    stack: str
    containers: tuple[DockerResource, ...]
    networks: tuple[DockerResource, ...]
    configuration: tuple[DockerResource, ...]
    data: tuple[DockerResource, ...]
    # One of `data`.
    repository: DockerResource | None

    @classmethod
    def of(cls, checkout: Checkout, stack: str) -> Adoption | None:
        """Return the adoption, or None if there is nothing to adopt. Changes nothing.

        Raises OpsError (7) if the owner's state is not lost, or a restore was interrupted.
        """
        others = foreign(checkout, stack)
        found = [*others, *forgotten(checkout, stack)]
        if not found:
            return None
        _refuse_a_living_owner(others, stack)
        _refuse_interrupted_restore(checkout, stack)
        volumes = [each for each in found if each.kind == VOLUME]
        data = [each for each in volumes if not each.name.endswith("-config")]
        repository = checkout.name(stack, "postgres-backups")
        return cls(
            checkout=checkout,
            stack=stack,
            containers=tuple(each for each in found if each.kind == CONTAINER),
            networks=tuple(each for each in found if each.kind == NETWORK),
            configuration=tuple(each for each in volumes if each not in data),
            data=tuple(data),
            repository=next((each for each in data if each.name == repository), None),
        )

    def as_lines(self) -> list[str]:
        """Describe what `adopt` does, with a line for each kind of resource."""
        gone = [*self.containers, *self.networks, *self.configuration]
        lines = [f"removed: {', '.join(each.name for each in gone) or 'nothing'}"]
        lines += [f"kept:    {', '.join(each.name for each in self.data) or 'nothing'}"]
        lines += [
            "lost:    the passwords, the certificate authority, and the keys of users' encrypted tokens"
        ]
        if self.repository is not None:
            lines += [f"lost:    the key of the backups in {self.repository.name}; they are set aside there"]
        return lines

    def adopt(self, progress: Callable[[str], None]) -> str | None:
        """Take over the stack. Return the folder with the set-aside backups, or None if there are none.

        An interrupted call is resumed by another one. Needs the base image in the Docker engine.
        """
        if self.containers:
            progress("stopping and removing containers")
            ids = [each.id for each in self.containers]
            docker("stop", *ids, timeout_seconds=STOP_LIMIT_SECONDS)
            docker("rm", "--force", "--volumes", *ids)
        for each in self.networks:
            docker("network", "rm", each.id)
        aside = self._set_backups_aside(progress)
        for each in self.configuration:
            docker("volume", "rm", each.name)
        adopt_volumes(self.checkout, self.stack, self.data)
        # This certificate belongs to the lost CA. The file still exists if only this stack's state was lost.
        self.checkout.ca_file(self.stack).unlink(missing_ok=True)
        return aside

    def _set_backups_aside(self, progress: Callable[[str], None]) -> str | None:
        if self.repository is None:
            return None
        from infra.images.context import BASE_IMAGE

        progress("setting the backups aside")
        prefix = self.checkout.name(self.stack, "")[:-1]
        folder = f"set-aside-{datetime.now(UTC):%Y%m%d-%H%M%S}"
        moved = docker(
            *("run", "--rm", "--init", "--network", "none", "--user", f"{postgres.UID}:{postgres.UID}"),
            *CONFINED,
            *label_options({**labels(self.checkout, self.stack), WORKBENCH_LABEL: prefix}),
            *("--volume", f"{self.repository.name}:/repository", "--entrypoint", "sh", BASE_IMAGE),
            *("-ceu", _SET_ASIDE, "sh", folder),
        )
        return folder if moved else None


def _refuse_a_living_owner(found: list[DockerResource], stack: str) -> None:
    """Raise OpsError (7) if the owner's state exists, because two states must not own one stack.

    It may exist too if this user is not allowed to look.
    """
    for each in found:
        try:
            is_alive = (
                bool(each.state)
                and (Path(each.folder) / state_folder.ID_FILE).read_text(encoding="utf-8").strip()
                == each.state
            )
        except PermissionError as error:
            raise OpsError(
                f"stack {stack!r} belongs to the state in {each.folder}, which this user may not read; run"
                " groundwork as the folder's owner; if that state is lost, run `adopt` as a user who can read it",
                Exit.REFUSED,
            ) from error
        except OSError:
            continue
        if is_alive:
            raise OpsError(
                f"the state of stack {stack!r} is not lost: it is in {each.folder}; use that state"
                f" (GROUNDWORK_STATE={Path(each.folder).parent}), or take the stack down with it",
                Exit.REFUSED,
            )


def _refuse_interrupted_restore(checkout: Checkout, stack: str) -> None:
    workbench, record = checkout.name(stack, "restore"), RestoreRecord.of_stack(checkout, stack)
    # The record is in this state's folder, and the container says so for another state.
    if record.exists() or inspect("container", workbench):
        raise OpsError(
            f"cannot adopt stack {stack!r}: a restore was interrupted, and its data is incomplete; finish the restore"
            f" with the state that started it (docs/backup.md). When the data is complete, remove container {workbench}"
            f" and file {record.path}, and run `groundwork adopt --stack {stack}` again",
            Exit.REFUSED,
        )
