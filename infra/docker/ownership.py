"""Find out which state owns a stack's resources in Docker, and refuse to change those of another state.

Each container, network and volume has labels with the id, the folder and the user of the state that created it. The
checkout's key cannot distinguish two states, because its path may be the same for root and a user, or on two machines
that use one engine.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from infra import state_folder
from infra.atomic_write import put
from infra.checkpoint import read_deployment, resources_of
from infra.docker.engine import docker
from infra.spec.checkout import PROJECT, STATE_LABEL, STATE_VARIABLE, Checkout
from infra.spec.errors import InfraError

CONTAINER, NETWORK, VOLUME = "container", "network", "volume"
# Marks a workbench, which runs temporarily beside the stack and is not in Pulumi's state.
WORKBENCH_LABEL = f"{PROJECT}.workbench"
_FOLDER_LABEL, _USER_LABEL = f"{STATE_LABEL}-folder", f"{STATE_LABEL}-user"
_VOLUME_TYPE = "docker:index/volume:Volume"
_LIST_SECONDS = 30
# How many of Pulumi's copies of a lost state are read.
_COPIES = 5


class OwnedByAnother(InfraError):
    """Another state owns resources of the stack; nothing was changed."""

    # Exit.REFUSED of ops.errors.
    exit_code = 7


class StateLost(InfraError):
    """The state has forgotten a stack that it owns; nothing was changed."""

    # Exit.REFUSED of ops.errors.
    exit_code = 7


@dataclass(frozen=True)
class DockerResource:
    """A container, network or volume of a stack. `state` is empty if an earlier version of groundwork made it."""

    kind: str
    id: str
    name: str
    state: str
    is_workbench: bool
    user: str
    folder: str


@dataclass(frozen=True)
class Known:
    """The resources of a stack in a state: Pulumi's ids, and each volume's owner label by the volume's name."""

    state: str | None
    ids: frozenset[str]
    volumes: Mapping[str, str]

    @classmethod
    def of(cls, checkout: Checkout, stack: str) -> Known:
        """Read the local backend's file: a stack in Docker always has its state there."""
        try:
            deployment = read_deployment(checkout.state_file(stack))
        except FileNotFoundError:
            deployment = {}
        resources = [each for each in resources_of(deployment) if each.get("id")]
        volumes = {each["id"]: _owner_of(each) for each in resources if each["type"] == _VOLUME_TYPE}
        return cls(
            state=state_folder.read_id(checkout),
            ids=frozenset(each["id"] for each in resources),
            volumes=volumes | _adopted(checkout, stack),
        )

    def owns(self, resource: DockerResource) -> bool:
        if resource.state and resource.state == self.state:
            return True
        if resource.kind == VOLUME:
            # Docker cannot change a volume's labels, and Pulumi's id of a volume is its name.
            return self.volumes.get(resource.name) == resource.state
        if resource.id in self.ids:
            return True
        # Left by an interrupted run of an earlier version, if the state knows the stack at all.
        return not resource.state and bool(self.ids)

    def is_lost(self, checkout: Checkout, stack: str, found: Iterable[DockerResource]) -> bool:
        """Return whether the state knew resources of the stack and has lost them.

        An `up` creates the state file before anything else, and containers only after it has recorded volumes. So if it
        is killed early, it leaves at most a network and volumes, and no certificate.
        """
        if self.ids:
            return False
        own = {
            each.kind
            for each in found
            if each.state
            and each.state == self.state
            and not each.is_workbench
            and each.name not in self.volumes
        }
        was_recorded = not checkout.state_file(stack).exists() or checkout.ca_file(stack).exists()
        return CONTAINER in own or (VOLUME in own and was_recorded)


def state_labels(checkout: Checkout) -> dict[str, str]:
    """Return the labels that name the owner of a container, network or volume."""
    state = state_folder.ensure_id(checkout)
    return {
        STATE_LABEL: state,
        _FOLDER_LABEL: str(checkout.state_dir.resolve()),
        _USER_LABEL: state_folder.owner(checkout),
    }


def labels(checkout: Checkout, stack: str) -> dict[str, str]:
    """Return the labels of all resources of a stack in Docker."""
    return checkout.labels(stack) | state_labels(checkout)


def resources(checkout: Checkout, stack: str) -> list[DockerResource]:
    """List all resources with the stack's labels, regardless of the state that created them."""
    filters = [f"--filter=label={name}={value}" for name, value in checkout.labels(stack).items()]
    columns = [
        f'{{{{.Label "{name}"}}}}' for name in (STATE_LABEL, WORKBENCH_LABEL, _USER_LABEL, _FOLDER_LABEL)
    ]
    found = []
    for kind, identity, name, options in (
        (CONTAINER, "{{.ID}}", "{{.Names}}", ["--all", "--no-trunc"]),
        (NETWORK, "{{.ID}}", "{{.Name}}", ["--no-trunc"]),
        (VOLUME, "{{.Name}}", "{{.Name}}", []),
    ):
        line = "\t".join([identity, name, *columns])
        listed = docker(kind, "ls", *options, *filters, "--format", line, timeout_seconds=_LIST_SECONDS)
        for row in listed.splitlines():
            id_, called, state, workbench, user, folder = row.split("\t", 5)
            found.append(
                DockerResource(
                    kind=kind,
                    id=id_,
                    name=called,
                    state=state,
                    is_workbench=bool(workbench),
                    user=user,
                    folder=folder,
                )
            )
    return found


def foreign(checkout: Checkout, stack: str) -> list[DockerResource]:
    """List the stack's resources that another state owns: containers first, then networks and volumes."""
    known = Known.of(checkout, stack)
    return [each for each in resources(checkout, stack) if not known.owns(each)]


def forgotten(checkout: Checkout, stack: str) -> list[DockerResource]:
    """List the stack's resources that this state made and has lost. Empty if it knows any."""
    known, found = Known.of(checkout, stack), resources(checkout, stack)
    own = [each for each in found if known.owns(each) and each.name not in known.volumes]
    return own if known.is_lost(checkout, stack, found) else []


def require_own(checkout: Checkout, stack: str) -> list[DockerResource]:
    """Return the stack's resources.

    Raises OwnedByAnother if another state owns one, and StateLost if this state has lost them. Both say what to do.
    """
    known, found = Known.of(checkout, stack), resources(checkout, stack)
    if others := [each for each in found if not known.owns(each)]:
        raise OwnedByAnother(_refusal(checkout, stack, others))
    if known.is_lost(checkout, stack, found):
        raise StateLost(_loss(checkout, stack, found))
    return found


def remove_leftovers(checkout: Checkout, stack: str) -> list[str]:
    """Remove own containers and networks that are not in the state, and return their names: a killed `up` left them.

    Pulumi records a resource after it was created. If it is killed in between, the resource has the name that the
    next `up` needs. Volumes stay: Docker does not fail to create one that exists. Raises OwnedByAnother, StateLost.
    """
    found, known = require_own(checkout, stack), Known.of(checkout, stack)
    removed = []
    for each in found:
        if each.kind == VOLUME or each.is_workbench or each.id in known.ids:
            continue
        forced = ["--force", "--volumes"] if each.kind == CONTAINER else []
        docker(each.kind, "rm", *forced, each.id)
        removed.append(each.name)
    return removed


def adopt_volumes(checkout: Checkout, stack: str, volumes: Iterable[DockerResource]) -> None:
    """Record that volumes of another state belong to this state from now on."""
    path = _adopted_file(checkout, stack)
    state_folder.make_private(checkout, path.parent)
    adopted = _adopted(checkout, stack) | {each.name: each.state for each in volumes}
    put(path, json.dumps(adopted, indent=2) + "\n")


def forget_adopted(checkout: Checkout, stack: str) -> None:
    """Delete the record of adopted volumes, when their stack is deleted."""
    _adopted_file(checkout, stack).unlink(missing_ok=True)


def _adopted_file(checkout: Checkout, stack: str) -> Path:
    return checkout.stack_dir(stack) / "adopted.json"


def _adopted(checkout: Checkout, stack: str) -> dict[str, str]:
    """Return the owner label of each adopted volume, by the volume's name."""
    try:
        adopted: dict[str, str] = json.loads(_adopted_file(checkout, stack).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    return adopted


def _owner_of(volume: Mapping[str, object]) -> str:
    """Return the owner label of a volume in the state."""
    given = volume.get("outputs")
    labels = given.get("labels") if isinstance(given, dict) else None
    return next((str(each["value"]) for each in labels or () if each["label"] == STATE_LABEL), "")


def _refusal(checkout: Checkout, stack: str, found: list[DockerResource]) -> str:
    first, own = found[0], checkout.state_dir.resolve()
    more = f" and {len(found) - 1} more were" if len(found) > 1 else " was"
    what = f"stack {stack!r} belongs to another state: {first.kind} {first.name}{more} made"
    lost = f"if that state is lost, run `groundwork adopt --stack {stack}` (docs/toolchain.md)"
    folder = Path(first.folder)
    if not first.state:
        return (
            f"{what} by an earlier version of groundwork with another state folder than {own}; nothing was changed;"
            f" run this as the user who made the stack, or set {STATE_VARIABLE} to that user's folder; {lost}"
        )
    if folder == own:
        return (
            f"{what} by the state that was in {own} before, or by one in the same folder on another machine;"
            f" nothing was changed; put that state back from a copy, or work on that machine; {lost}"
        )
    return (
        f"{what} by user {first.user} with the state folder {folder}; nothing was changed;"
        f" run this as {first.user}, or set {STATE_VARIABLE}={folder.parent}; {lost}"
    )


def _loss(checkout: Checkout, stack: str, found: list[DockerResource]) -> str:
    first, file = found[0], checkout.state_file(stack)
    more = f" and {len(found) - 1} more exist" if len(found) > 1 else " exists"
    what = "has no resources" if file.exists() else "is missing"
    fix = (
        f"restore that file from a copy; if there is none, run `groundwork adopt --stack {stack}`, which keeps the data"
        " (docs/toolchain.md)"
    )
    if backup := _backup_of(checkout, stack):
        fix = f"copy Pulumi's last backup over it: `cp {backup} {file}`"
    return (
        f"the state of stack {stack!r} is lost: {file} {what}, but {first.kind} {first.name}{more};"
        f" nothing was changed; {fix}"
    )


def _backup_of(checkout: Checkout, stack: str) -> Path | None:
    """Return Pulumi's newest copy of the state that has resources, if there is one."""
    file = checkout.state_file(stack)
    folder = checkout.backend_dir / ".pulumi" / "backups" / PROJECT / stack
    copies = sorted(folder.glob("*.json"), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in (file.with_name(f"{file.name}.bak"), *copies[:_COPIES]):
        try:
            if any(each.get("id") for each in resources_of(read_deployment(path))):
                return path
        except (OSError, InfraError):
            continue
    return None
