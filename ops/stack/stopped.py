"""Start the containers of a stack that were stopped, killed or paused. Docker does not start them again itself."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

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
    following `up` may repair it.
    """
    stopped = {
        each["Name"].lstrip("/"): each["State"]
        for each in (inspect("container", *containers) if containers else ())
        if each["Name"].lstrip("/") not in retired
        and (each["State"]["Paused"] or not (each["State"]["Running"] or each["State"]["Restarting"]))
    }
    for name, state in stopped.items():
        is_paused = state["Paused"]
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
