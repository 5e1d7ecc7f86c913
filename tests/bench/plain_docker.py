"""The comparison for `up`: a stack's containers started by docker commands alone, with the same waits.

Uses the images, configuration volumes, limits and health checks of a running stack, with other names and fresh data
volumes. Creates roles and schema with psql, so that the access service becomes ready under the same conditions.
"""

from __future__ import annotations

import shlex
import uuid
from dataclasses import dataclass
from typing import Any

from db.migrator import read_source
from infra.docker.engine import docker, inspect, psql
from infra.docker.health_check import wait_until_healthy
from infra.spec import roles
from infra.spec.checkout import Checkout

SERVICES = ("postgres", "redis", "access")
_DATA = {"postgres": "/var/lib/postgresql", "redis": "/var/lib/redis"}


@dataclass(frozen=True)
class PlainStack:
    """The containers to start, by service, as `docker inspect` describes them. `verifiers` are by login."""

    prefix: str
    containers: dict[str, dict[str, Any]]
    verifiers: dict[str, str]

    @classmethod
    def like(cls, checkout: Checkout, stack: str) -> PlainStack:
        containers = {s: inspect("container", checkout.name(stack, s))[0] for s in SERVICES}
        sql = "SELECT rolname, rolpassword FROM pg_authid WHERE rolpassword IS NOT NULL"
        rows = psql(checkout.name(stack, "postgres"), sql).splitlines()
        verifiers = dict(row.split("|", 1) for row in rows if row)
        return cls(f"gw-bench-{uuid.uuid4().hex[:6]}", containers, verifiers)

    def start(self) -> None:
        """Start network, data volumes, servers, roles, schema and access service. Waits for each as `up` does."""
        docker("network", "create", self.prefix)
        for service in _DATA:
            docker("volume", "create", f"{self.prefix}-{service}")
        for service in ("postgres", "redis"):
            self._run(service)
        for service in ("postgres", "redis"):
            self._wait(service)
        server = f"{self.prefix}-postgres"
        psql(server, roles.roles_sql(self.verifiers, dict.fromkeys(roles.LOGINS, 20)))
        psql(server, roles.database_sql())
        psql(server, roles.grants_sql(), database=roles.DATABASE)
        psql(server, _schema_sql(), database=roles.DATABASE)
        self._run("access")
        self._wait("access")

    def remove(self) -> None:
        names = [f"{self.prefix}-{service}" for service in SERVICES]
        docker("rm", "--force", "--volumes", *names)
        docker("volume", "rm", "--force", *(f"{self.prefix}-{service}" for service in _DATA))
        docker("network", "rm", self.prefix)

    def _run(self, service: str) -> None:
        container = self.containers[service]
        config, host = container["Config"], container["HostConfig"]
        mounts = []
        for mount in container["Mounts"]:
            volume = (
                f"{self.prefix}-{service}" if mount["Destination"] == _DATA.get(service) else mount["Name"]
            )
            mounts += ["--volume", f"{volume}:{mount['Destination']}{'' if mount['RW'] else ':ro'}"]
        health = config["Healthcheck"]
        check = shlex.join(health["Test"][1:])
        port = next(iter(host["PortBindings"]))
        docker(
            *("run", "--detach", "--name", f"{self.prefix}-{service}", "--network", self.prefix),
            *("--network-alias", service, "--user", config["User"], "--memory", str(host["Memory"])),
            *("--memory-swap", str(host["MemorySwap"]), "--read-only", "--cap-drop", "ALL"),
            *("--security-opt", "no-new-privileges=true", "--shm-size", str(host["ShmSize"])),
            *(word for path, options in host["Tmpfs"].items() for word in ("--tmpfs", f"{path}:{options}")),
            *(word for entry in config["Env"] for word in ("--env", entry)),
            *("--publish", f"127.0.0.1::{port.split('/')[0]}", "--pids-limit", str(host["PidsLimit"])),
            *("--health-cmd", check, "--health-interval", f"{health['Interval'] // 10**6}ms"),
            *("--health-timeout", f"{health['Timeout'] // 10**6}ms", "--health-retries", "1"),
            *(*mounts, container["Image"]),
        )

    def _wait(self, service: str) -> None:
        wait_until_healthy(f"{self.prefix}-{service}")


def _schema_sql() -> str:
    """Return every up script and its ledger row as one psql script for the owner."""
    parts = [
        f"SET ROLE {roles.OWNER}; SET search_path = {roles.SCHEMA};",
        "CREATE TABLE _sqlx_migrations (version BIGINT PRIMARY KEY, description TEXT NOT NULL,"
        " installed_on TIMESTAMPTZ NOT NULL DEFAULT now(), success BOOLEAN NOT NULL,"
        " checksum BYTEA NOT NULL, execution_time BIGINT NOT NULL);",
    ]
    for migration in read_source():
        parts.append(migration.up.path.read_text())
        parts.append(
            f"INSERT INTO _sqlx_migrations VALUES ({migration.version}, 'bench', now(), true,"
            f" decode('{migration.checksum.hex()}', 'hex'), 0);"
        )
    return "\n".join(parts)
