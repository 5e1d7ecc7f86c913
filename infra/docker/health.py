"""Waits until a started container is healthy. What healthy means is the container's own check."""

from __future__ import annotations

import time
from typing import Any

import pulumi
from pulumi import dynamic

from infra.docker.engine import DockerError, inspect
from infra.dynamic import Provider

WAIT_SECONDS = 120.0
_LOOK_SECONDS = 0.2


class HealthyProvider(Provider):
    """Waits by looking often: the Docker provider looks once a second (docs/adr/0017)."""

    def create(self, props: dict[str, Any]) -> dynamic.CreateResult:
        wait_until_healthy(props["container_id"])
        return dynamic.CreateResult(id_=f"{props['container']}/healthy", outs=dict(props))

    def update(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> dynamic.UpdateResult:
        wait_until_healthy(_news["container_id"])
        return dynamic.UpdateResult(outs=dict(_news))


class Healthy(dynamic.Resource):
    """A container by its name and id, which come once it is healthy."""

    container: pulumi.Output[str]
    container_id: pulumi.Output[str]

    def __init__(
        self,
        name: str,
        *,
        container: pulumi.Input[str],
        container_id: pulumi.Input[str],
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        props = {"container": container, "container_id": container_id}
        super().__init__(HealthyProvider(), name, props, opts)


def wait_until_healthy(container: str, seconds: float = WAIT_SECONDS) -> None:
    """Return once its health check holds. DockerError with the check's last words where it does not in time."""
    deadline = time.monotonic() + seconds
    while (state := _state(container)).get("Health", {}).get("Status") != "healthy":
        if time.monotonic() > deadline:
            raise DockerError(_complaint(container, state, seconds))
        time.sleep(_LOOK_SECONDS)


def _state(container: str) -> dict[str, Any]:
    found = inspect("container", container)
    if not found:
        raise DockerError(f"container {container[:12]} was removed while it was waited for; run it again")
    state: dict[str, Any] = found[0]["State"] | {"Name": found[0]["Name"].lstrip("/")}
    return state


def _complaint(container: str, state: dict[str, Any], seconds: float) -> str:
    health = state.get("Health") or {}
    log = health.get("Log") or []
    words = " ".join(str(log[-1]["Output"]).split()) if log else ""
    return (
        f"container {state['Name']} is {health.get('Status', 'without a health check')} and {state['Status']}"
        f" after {seconds:.0f} s{f' ({words[:200]})' if words else ''};"
        f" `docker logs {state['Name']}` has the reason, and the same command goes on from here"
    )
