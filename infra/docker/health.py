"""The health of a container as a resource: its dependents start when the container is healthy."""

from __future__ import annotations

from typing import Any

import pulumi
from pulumi import dynamic

from infra.docker.health_check import wait_until_healthy
from infra.dynamic import Provider


class HealthyProvider(Provider):
    """Waits until the container's own check succeeds (docs/adr/0017)."""

    def create(self, props: dict[str, Any]) -> dynamic.CreateResult:
        wait_until_healthy(props["container_id"])
        return dynamic.CreateResult(id_=f"{props['container']}/healthy", outs=dict(props))

    def update(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> dynamic.UpdateResult:
        wait_until_healthy(_news["container_id"])
        return dynamic.UpdateResult(outs=dict(_news))


class Healthy(dynamic.Resource):
    """A container's name and id, which resolve once the container is healthy."""

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
