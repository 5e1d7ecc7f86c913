"""Start the containers of a stack that were stopped, killed or paused. Docker does not start them again itself."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from infra.docker.engine import DockerError, docker, inspect
from infra.docker.health_check import wait_until_healthy
from infra.docker.members import NoPrimary, member_containers, primary_container

# A server that needs longer becomes healthy during the `up`, or is changed by it.
_HEALTHY_SECONDS = 60.0


def start_stopped(
    containers: Sequence[str], first: str, say: Callable[[str], None], *, retired: Collection[str] = ()
) -> None:
    """Start those of the containers, given by id, that do not run, and wait until they are healthy.

    `first` is the container of the first Postgres server: in a cluster, one of its servers has to become the primary.
    The containers named in `retired` are not started. A container that cannot start is reported and left, because the
    following `up` may repair it. One whose network was removed is removed too, because Docker can never start it, and
    one that was disconnected from its network, because no client reaches it. The following `up` creates it again.
    """
    known = {each["Name"].lstrip("/"): each for each in inspect("container", *containers)}
    known = {name: found for name, found in known.items() if name not in retired}
    for name in [name for name, found in known.items() if not found["NetworkSettings"]["Networks"]]:
        say(f"removing {name}, which has no network; it is created again, and its data is kept")
        state = known.pop(name)["State"]
        if state["Running"] and not state["Paused"]:
            docker("stop", name)
        docker("rm", "--force", "--volumes", name)
    stopped = {
        name: found
        for name, found in known.items()
        if found["State"]["Paused"] or not (found["State"]["Running"] or found["State"]["Restarting"])
    }
    for name in _without_network(stopped):
        say(f"removing {name}, whose network was removed; it is created again, and its data is kept")
        docker("rm", "--volumes", name)
        del stopped[name]
    for name, found in stopped.items():
        is_paused = found["State"]["Paused"]
        say(f"starting {name}, which was {'paused' if is_paused else 'stopped'}")
        try:
            docker("unpause" if is_paused else "start", name)
        except DockerError as error:
            say(f"warning: {error}")
    if member_containers(first).keys() & {
        name.removeprefix(first.removesuffix("postgres")) for name in stopped
    }:
        try:
            primary_container(first)
        except NoPrimary as error:
            say(f"warning: {error}")
    for name in stopped:
        try:
            wait_until_healthy(name, _HEALTHY_SECONDS)
        except DockerError as error:
            say(f"warning: {error}")


def _without_network(stopped: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the stopped containers that belong to a network that does not exist. Docker prunes unused networks."""
    networks = {
        # A container that never ran may know only the network's name.
        name: {
            given["NetworkID"] or network for network, given in found["NetworkSettings"]["Networks"].items()
        }
        for name, found in stopped.items()
        # A paused container keeps its network.
        if not found["State"]["Paused"]
    }
    needed = set().union(*networks.values())
    missing = needed - {each[key] for each in inspect("network", *needed) for key in ("Id", "Name")}
    return [name for name, known in networks.items() if known & missing]
