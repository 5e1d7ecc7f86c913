"""The settings that the members of a Postgres cluster share, as a Pulumi resource. Patroni stores them in etcd."""

from __future__ import annotations

import time
from typing import Any

import pulumi
from pulumi import dynamic

from infra.docker.members import listed_members, patronictl, primary_container
from infra.dynamic import Provider
from infra.spec.postgres_cluster import LOOP_SECONDS, SCOPE


class PatroniSettingsProvider(Provider):
    """Replaces the settings in etcd, and restarts the servers that must restart for changed parameters.

    Servers restart in place, replicas first, and the primary stays the primary.
    """

    ignored = frozenset({"container"})

    def create(self, props: dict[str, Any]) -> dynamic.CreateResult:
        self._apply(props["container"], props["configuration"])
        return dynamic.CreateResult(id_=f"{props['container']}/settings", outs=dict(props))

    def update(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> dynamic.UpdateResult:
        self._apply(_news["container"], _news["configuration"])
        return dynamic.UpdateResult(outs=dict(_news))

    @staticmethod
    def _apply(first: str, configuration: str) -> None:
        container = primary_container(first)
        edit = ("edit-config", SCOPE, "--replace=-", "--force", "--quiet")
        if "Configuration changed" in patronictl(container, *edit, stdin=configuration):
            # The members see the change in their next loop, and mark themselves if they must restart.
            time.sleep(3 * LOOP_SECONDS)
        # A killed `up` may have left marks of an earlier change.
        if any(member.get("Pending restart") for member in listed_members(container)):
            # A larger max_connections must reach the replicas first, and a smaller one the primary first.
            for role in ("replica", "primary", "replica"):
                patronictl(container, "restart", SCOPE, "--role", role, "--pending", "--force")


class PatroniSettings(dynamic.Resource):
    """The dynamic configuration of a cluster, as JSON. `container` is the first member's."""

    def __init__(
        self,
        name: str,
        *,
        container: pulumi.Input[str],
        configuration: str,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        props = {"container": container, "configuration": configuration}
        super().__init__(PatroniSettingsProvider(), name, props, opts)
