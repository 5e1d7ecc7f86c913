"""Roles and migrations as resources, so that `preview` shows what is pending and `up` applies it.

The algorithm is db.migrator's; here it is given a server, a login and a folder.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pulumi
from pulumi import dynamic

from infra.docker.engine import DockerError, docker, inspect, psql
from infra.docker.health import WAIT_SECONDS
from infra.dynamic import Provider, merged_secret
from infra.outputs import database_url
from infra.spec import roles
from infra.spec.errors import InfraError


class RolesProvider(Provider):
    """Makes the server's roles, database and grants match infra.spec.roles, over the local socket.

    A login that has lost its password loses its sessions too.
    """

    def create(self, props: dict[str, Any]) -> dynamic.CreateResult:
        self._apply(props)
        return dynamic.CreateResult(id_=f"{props['container']}/roles", outs=dict(props))

    def update(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> dynamic.UpdateResult:
        self._apply(_news)
        return dynamic.UpdateResult(outs=dict(_news))

    @staticmethod
    def _apply(props: dict[str, Any]) -> None:
        container = props["container"]
        limits = {role: int(limit) for role, limit in props["connection_limits"].items()}
        wait_until_answering(container)
        psql(
            container,
            roles.roles_sql(props["verifiers"], limits),
            options=["--single-transaction"],
        )
        psql(container, roles.end_sessions_sql(props["verifiers"]))
        exists = f"SELECT 1 FROM pg_database WHERE datname = '{roles.DATABASE}'"
        if not psql(container, exists).strip():
            psql(container, roles.database_sql())
        psql(
            container,
            roles.grants_sql(),
            database=roles.DATABASE,
            options=["--single-transaction"],
        )


def wait_until_answering(container: str) -> None:
    """Return once the server in a running container takes connections: sooner than its next health check."""
    loop = "until pg_isready --quiet; do sleep 0.1; done"
    docker(
        *("exec", container, "timeout", f"{WAIT_SECONDS:.0f}", "sh", "-c", loop),
        timeout_seconds=WAIT_SECONDS + 30,
    )


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
            # A new container may stand on a new volume: then everything is to be made again.
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
    """Applies what is pending; a migration that fails leaves the database as it was and fails the `up`."""

    ignored = frozenset({"conninfo", "folder"})

    def create(self, props: dict[str, Any]) -> dynamic.CreateResult:
        self._apply(props)
        return dynamic.CreateResult(id_=f"{props['container_id'][:12]}/migrations", outs=dict(props))

    def update(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> dynamic.UpdateResult:
        self._apply(_news)
        return dynamic.UpdateResult(outs=dict(_news))

    @staticmethod
    def _apply(props: dict[str, Any]) -> None:
        from db.migrator import apply_pending, read_source

        apply_pending(props["conninfo"], read_source(Path(props["folder"])))


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
        from db.migrator import read_source

        migrations = read_source(folder)
        props = {
            "folder": str(folder),
            "container_id": container_id,
            "conninfo": pulumi.Output.secret(conninfo),
            "migrations": {m.name: m.checksum.hex()[:16] for m in migrations},
            "version": max((m.version for m in migrations), default=0),
        }
        opts = pulumi.ResourceOptions.merge(
            opts, pulumi.ResourceOptions(additional_secret_outputs=["conninfo"])
        )
        super().__init__(MigrationsProvider(), name, props, opts)


def applied_checksums(container: str) -> dict[int, tuple[bool, bytes]]:
    """What the ledger of a stack's database holds: version -> (success, checksum). Empty where there is none."""
    found = inspect("container", container)
    if not found or not found[0]["State"]["Running"]:
        return {}
    table = f"{roles.SCHEMA}._sqlx_migrations"
    try:
        if not psql(container, f"SELECT to_regclass('{table}')", database=roles.DATABASE).strip():
            return {}
        rows = psql(
            container,
            f"SELECT version, success, encode(checksum, 'hex') FROM {table}",
            database=roles.DATABASE,
        )
    except DockerError:
        # The database is not there yet, or not up: everything is pending, and `up` will say if not.
        return {}
    fields = (line.split("|") for line in rows.splitlines() if line)
    return {int(version): (success == "t", bytes.fromhex(digest)) for version, success, digest in fields}


def announce_pending(folder: Path, container: str) -> None:
    """Name the pending migrations in the output of `preview` and `up`.

    InfraError where an applied migration's file was edited or a half-applied one needs a person: said now,
    before anything is changed.
    """
    from db.migrator import read_source

    applied = applied_checksums(container)
    for migration in read_source(folder):
        success, checksum = applied.get(migration.version, (None, b""))
        path = migration.up.path
        if success is None:
            pulumi.log.info(f"pending migration: {path.name}")
        elif not success:
            raise InfraError(
                f"{path}: this migration failed half-way before and is marked dirty;"
                " look at the schema, mend it, and delete its row from _sqlx_migrations"
            )
        elif checksum != migration.checksum:
            raise InfraError(
                f"{path}: this migration was applied and has been edited since;"
                " put its old text back, and write the change as a new migration"
            )


def database_conninfo(
    *, password: pulumi.Input[str], port: int, ca_file: pulumi.Input[str]
) -> pulumi.Output[str]:
    """The migrator's URL from this machine, secret."""
    return pulumi.Output.secret(
        pulumi.Output.all(password, ca_file).apply(
            lambda values: database_url(
                login="migrator",
                password=values[0],
                host="localhost",
                port=port,
                ca_file=values[1],
            )
        )
    )


def _specification_digest() -> str:
    import hashlib

    no_verifiers = roles.roles_sql({}, dict.fromkeys(roles.LOGINS, 0))
    text = no_verifiers + roles.database_sql() + roles.grants_sql()
    return hashlib.sha256(text.encode()).hexdigest()[:16]
