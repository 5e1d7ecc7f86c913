"""A Pulumi resource that makes a running server reload its files, without a restart and without closing connections."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pulumi
from pulumi import dynamic

from infra.docker.engine import docker
from infra.docker.health import Healthy
from infra.dynamic import Provider


class ReloadProvider(Provider):
    """Runs a command in the container when the resource is created, and whenever the files have changed."""

    # Changing the command must not cause a reload.
    ignored = frozenset({"command"})

    def create(self, props: dict[str, Any]) -> dynamic.CreateResult:
        # Reload on creation too, because an `up` may have been killed after it changed the files.
        self._reload(props)
        return dynamic.CreateResult(id_=f"{props['container']}/reload", outs=dict(props))

    def update(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> dynamic.UpdateResult:
        self._reload(_news)
        return dynamic.UpdateResult(outs=dict(_news))

    @staticmethod
    def _reload(props: dict[str, Any]) -> None:
        docker("exec", props["container"], *props["command"])


class Reload(dynamic.Resource):
    """The server's reload of the files with this digest. `command` reloads them, and fails if the server does not."""

    def __init__(
        self,
        name: str,
        *,
        server: Healthy,
        digest: pulumi.Input[str],
        command: Sequence[str],
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        props = {
            "container": server.container,
            # A new container triggers a reload too.
            "container_id": server.container_id,
            "digest": digest,
            "command": list(command),
        }
        super().__init__(ReloadProvider(), name, props, opts)
