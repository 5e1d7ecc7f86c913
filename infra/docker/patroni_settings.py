"""The settings that the members of a Postgres cluster share, as a Pulumi resource. Patroni stores them in etcd."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from typing import Any

import pulumi
from pulumi import dynamic

from infra.docker.engine import DockerError, psql
from infra.docker.members import (
    WAIT_SECONDS,
    listed_members,
    member_containers,
    patronictl,
    primary_container,
    stack_of,
    store_settings,
    stored_settings,
)
from infra.dynamic import Provider
from infra.spec.errors import InfraError
from infra.spec.postgres_cluster import LOOP_SECONDS, SCOPE

_POLL_SECONDS = 0.5
_STREAMING = "SELECT application_name FROM pg_stat_replication WHERE state = 'streaming'"
# Patroni answers this if the member has lost its mark since it was listed.
_UNNEEDED = "restart conditions are not satisfied"


class PatroniSettingsProvider(Provider):
    """Replaces the settings in etcd, and restarts the servers that must restart for changed parameters.

    Servers restart in place, one after the other, replicas first, and the primary stays the primary. A server that does
    not start is the last one that is restarted with them, and the former settings are stored again.
    """

    ignored = frozenset({"container"})

    def diff(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> dynamic.DiffResult:
        """Report a change also if etcd has other settings, which a failed or killed `up` may have left there."""
        result = super().diff(_id, _olds, _news)
        if not result.changes:
            # In a preview, the container of `_news` may be unknown.
            result.changes = not _is_stored(_olds["container"], _olds["configuration"])
        return result

    def create(self, props: dict[str, Any]) -> dynamic.CreateResult:
        _apply(props["container"], props["configuration"])
        return dynamic.CreateResult(id_=f"{props['container']}/settings", outs=dict(props))

    def update(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> dynamic.UpdateResult:
        try:
            _apply(_news["container"], _news["configuration"])
        except InfraError as error:
            # With them the failed server starts again.
            _roll_back(_news["container"], _olds["configuration"], error)
            raise
        return dynamic.UpdateResult(outs=dict(_news))


def _is_stored(container: str, configuration: str) -> bool:
    """Return whether etcd has these settings, or cannot be asked. It may have more of them, such as a pause."""
    try:
        stored = stored_settings(container)
    except DockerError:
        # The server is about to be started, or `up` fails later.
        return True
    # A parameter that was added must be found too, so each setting is compared as a whole.
    return not stored or all(stored.get(key) == value for key, value in json.loads(configuration).items())


def _roll_back(first: str, configuration: str, error: InfraError) -> None:
    """Store the former settings again after `error`. Raise DockerError with both reasons if this fails.

    Servers that have restarted with the new settings restart again if they can.
    """
    try:
        is_changed = store_settings(member_containers(first).values(), configuration)
    except DockerError as failed:
        raise DockerError(
            f"`up` failed ({error}), and could not roll the Postgres settings in etcd back"
            f" ({str(failed).splitlines()[-1]}); do not restart a server before the next"
            f" `groundwork up --stack {stack_of(first)}`"
        ) from error
    if is_changed:
        _await_marks()
        # The user needs to know `error`, and not why a server keeps a setting until its next restart.
        with suppress(InfraError):
            _restart_marked(first)


def _apply(first: str, configuration: str) -> None:
    if store_settings([primary_container(first)], configuration, seconds=300):
        _await_marks()
    _restart_marked(first)


def _await_marks() -> None:
    # The members see a change in their next loop, and mark themselves if they must restart.
    time.sleep(3 * LOOP_SECONDS)


def _restart_marked(first: str) -> None:
    """Restart the servers that must restart for a changed parameter, one after the other."""
    container = primary_container(first)
    # A larger max_connections must reach the replicas first, and a smaller one the primary first.
    for is_primary in (False, True, False):
        # A killed `up` may have left marks of an earlier change.
        for member in listed_members(container):
            if member.get("Pending restart") and (member["Role"] == "Leader") == is_primary:
                _await_replicas(first)
                _restart(container, member["Member"])


def _await_replicas(first: str) -> None:
    """Wait until every replica streams, so that a restart that fails is that of the only missing server."""
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        primary = primary_container(first)
        streaming = psql(primary, _STREAMING).split()
        missing = [
            member
            for member, container in member_containers(first).items()
            if container != primary and member not in streaming
        ]
        if not missing:
            return
        if time.monotonic() > deadline:
            stack = stack_of(first)
            raise DockerError(
                f"{missing[0]} does not stream from the primary, so no other server is restarted for the changed"
                f" parameters; see `groundwork logs --stack {stack} --service {missing[0]}`, correct"
                f" groundwork:postgresParameters or run `groundwork cluster reinit --stack {stack} {missing[0]}`, and"
                f" run `groundwork up --stack {stack}` again"
            )
        time.sleep(_POLL_SECONDS)


def _restart(container: str, member: str) -> None:
    """Restart a member's Postgres. Raise DockerError if it does not start."""
    try:
        said = patronictl(container, "restart", SCOPE, member, "--pending", "--force")
    except DockerError as error:
        said = f"Failed: {str(error).splitlines()[-1]}"
    # patronictl exits with 0 although a restart has failed.
    for line in said.splitlines():
        if line.startswith("Failed:") and _UNNEEDED not in line:
            stack = stack_of(container)
            raise DockerError(
                f"{member} did not restart with the changed parameters: {line.removeprefix('Failed: ')}; see"
                f" `groundwork logs --stack {stack} --service {member}`, correct groundwork:postgresParameters, and run"
                f" `groundwork up --stack {stack}` again"
            )


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
