"""Roles and migrations as resources, so that `preview` shows what is pending and `up` applies it.

db.migrator compares the folder with the ledger and applies what is pending. This module passes it a server, a login and
a folder. The ledger is read as role migrator, never as superuser, because its owner could replace the table by a view.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pulumi
from pulumi import dynamic
from pulumi.runtime.rpc import UNKNOWN

from infra.docker.engine import DockerError, inspect
from infra.docker.health_check import wait_until_healthy
from infra.docker.members import NoPrimary, primary_container
from infra.docker.server_roles import apply_roles, fingerprint
from infra.dynamic import Provider, merged_secret
from infra.outputs import database_url
from infra.spec import roles

if TYPE_CHECKING:
    from db.migrator import Event, MigrationStatus


class RolesProvider(Provider):
    """Makes the server's roles, database and grants match infra.spec.roles."""

    def diff(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> dynamic.DiffResult:
        """Report a change also if a role was changed since: by an operator, or by the role itself."""
        result = super().diff(_id, _olds, _news)
        if not result.changes:
            # A server that does not answer is about to be started, or `up` fails later.
            with suppress(DockerError, NoPrimary):
                container = primary_container(_olds["container"], wait_seconds=0)
                result.changes = fingerprint(container) != _olds.get("fingerprint")
        return result

    def create(self, props: dict[str, Any]) -> dynamic.CreateResult:
        return dynamic.CreateResult(id_=f"{props['container']}/roles", outs=self._apply(props))

    def update(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> dynamic.UpdateResult:
        return dynamic.UpdateResult(outs=self._apply(_news))

    @staticmethod
    def _apply(props: dict[str, Any]) -> dict[str, Any]:
        wait_until_healthy(props["container"])
        container = primary_container(props["container"])
        limits = {role: int(limit) for role, limit in props["connection_limits"].items()}
        apply_roles(container, props["verifiers"], limits)
        return {**props, "fingerprint": fingerprint(container)}


class Roles(dynamic.Resource):
    """Every Postgres role of the specification, with verifiers (secret) by login name."""

    def __init__(
        self,
        name: str,
        *,
        container: pulumi.Input[str],
        container_id: pulumi.Input[str],
        verifiers: Mapping[str, pulumi.Input[str]],
        connection_limits: Mapping[str, int],
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        props = {
            "container": container,
            # A new container may have a new volume, on which everything must be created again.
            "container_id": container_id,
            "verifiers": merged_secret(verifiers),
            "connection_limits": dict(connection_limits),
            "specification": _specification_digest(),
        }
        opts = pulumi.ResourceOptions.merge(
            opts, pulumi.ResourceOptions(additional_secret_outputs=["verifiers"])
        )
        super().__init__(RolesProvider(), name, props, opts)


class MigrationsProvider(Provider):
    """Applies pending migrations. One that fails leaves the database unchanged, and fails the `up`."""

    ignored = frozenset({"conninfo", "folder"})

    def diff(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> dynamic.DiffResult:
        """Print the pending migrations, and report a change if there are any, whatever the last `up` applied.

        Raises LedgerMismatch for a migration that `up` could not resume, before anything is applied. A server that
        cannot be reached is ignored: either it is about to be started, or `up` fails later.
        """
        result = super().diff(_id, _olds, _news)
        state = _live_status(_news, _olds)
        if state is None:
            return result
        for problem in state.problems:
            raise problem
        for migration in state.pending:
            _say(f"pending migration: {migration.up.path.name}")
        result.changes = result.changes or bool(state.pending)
        return result

    def create(self, props: dict[str, Any]) -> dynamic.CreateResult:
        self._apply(props)
        return dynamic.CreateResult(id_=f"{props['container_id'][:12]}/migrations", outs=dict(props))

    def update(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> dynamic.UpdateResult:
        self._apply(_news)
        return dynamic.UpdateResult(outs=dict(_news))

    @staticmethod
    def _apply(props: dict[str, Any]) -> None:
        from db.migrator import apply_pending, read_source

        apply_pending(props["conninfo"], read_source(Path(props["folder"])), on_event=_say_event)


def _live_status(*props: dict[str, Any]) -> MigrationStatus | None:
    """Compare the folder with the database, using the first inputs that can log in; None if none can."""
    from db.migrator import Unreachable, read_source, status

    migrations = read_source(Path(props[0]["folder"]))
    for conninfo in dict.fromkeys(given.get("conninfo", UNKNOWN) for given in props):
        # In a preview a new password is unknown, or not yet the server's.
        if conninfo != UNKNOWN:
            with suppress(Unreachable):
                return status(conninfo, migrations)
    return None


def _say_event(event: Event) -> None:
    if event.kind in ("waiting", "begin", "warning", "retry"):
        _say(str(event))


def _say(line: str) -> None:
    # A provider has no log; the engine shows its standard output.
    print(line, flush=True)


class Migrations(dynamic.Resource):
    """The schema at the version of a folder of migrations; `version` is the newest one's."""

    version: pulumi.Output[int]

    def __init__(
        self,
        name: str,
        *,
        folder: Path,
        container_id: pulumi.Input[str],
        conninfo: pulumi.Input[str],
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        from db.migrator import read_source, short_checksums

        migrations = read_source(folder)
        props = {
            "folder": str(folder),
            "container_id": container_id,
            "conninfo": pulumi.Output.secret(conninfo),
            "migrations": short_checksums(migrations),
            "version": max((m.version for m in migrations), default=0),
        }
        opts = pulumi.ResourceOptions.merge(
            opts, pulumi.ResourceOptions(additional_secret_outputs=["conninfo"])
        )
        super().__init__(MigrationsProvider(), name, props, opts)


def announce_first(folder: Path, volume: str, container: str) -> None:
    """Print all migrations as pending if the database's volume does not exist yet.

    Later MigrationsProvider.diff prints the pending ones, which needs a running server.
    """
    from db.migrator import read_source

    if not inspect("volume", volume):
        for migration in read_source(folder):
            pulumi.log.info(f"pending migration: {migration.up.path.name}")
    elif pulumi.runtime.is_dry_run() and not _is_running(container):
        pulumi.log.info("Postgres is not running, so pending migrations are not known; `up` applies them")


def _is_running(container: str) -> bool:
    found = inspect("container", container)
    return bool(found) and bool(found[0]["State"]["Running"])


def database_conninfo(
    *, password: pulumi.Input[str], port: int, ca_file: pulumi.Input[str], others: Sequence[int] = ()
) -> pulumi.Output[str]:
    """Return the migrator's URL on this machine, as a secret. `others` are the ports of the other members."""
    return pulumi.Output.secret(
        pulumi.Output.all(password, ca_file).apply(
            lambda values: database_url(
                login="migrator",
                password=values[0],
                host="localhost",
                port=port,
                ca_file=values[1],
                others=[("localhost", each) for each in others],
            )
        )
    )


def _specification_digest() -> str:
    import hashlib

    no_verifiers = roles.roles_sql({}, dict.fromkeys(roles.LOGINS, 0))
    text = no_verifiers + roles.database_sql() + roles.grants_sql()
    return hashlib.sha256(text.encode()).hexdigest()[:16]
