"""Has a running server take up its files again: no restart, and no connection is lost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pulumi
from pulumi import dynamic

from infra.docker.engine import docker
from infra.dynamic import Provider


class ReloadProvider(Provider):
    """Runs a command in the container whenever the files have changed, and once after it was made."""

    # How, not what.
    ignored = frozenset({"command"})

    def create(self, props: dict[str, Any]) -> dynamic.CreateResult:
        # Also now: an `up` may have been killed between another change of the files and this.
        self._reload(props)
        return dynamic.CreateResult(id_=f"{props['container']}/reload", outs=dict(props))

    def update(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> dynamic.UpdateResult:
        self._reload(_news)
        return dynamic.UpdateResult(outs=dict(_news))

    @staticmethod
    def _reload(props: dict[str, Any]) -> None:
        docker("exec", props["container"], *props["command"])


class Reload(dynamic.Resource):
    """The files with this digest, as the server holds them. `command` makes it so, and fails where it cannot."""

    def __init__(
        self,
        name: str,
        *,
        container: pulumi.Input[str],
        container_id: pulumi.Input[str],
        digest: pulumi.Input[str],
        command: Sequence[str],
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        props = {
            "container": container,
            # A server that has started since has read them by itself, or died trying.
            "container_id": container_id,
            "digest": digest,
            "command": list(command),
        }
        super().__init__(ReloadProvider(), name, props, opts)
