"""Addresses and credentials for monitoring a stack, taken from the stack outputs. Nothing connects here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from infra import outputs
from infra.spec.postgres_cluster import MEMBERS
from infra.spec.roles import DATABASE

_MIGRATIONS = Path(__file__).parents[2] / "db" / "migrations"


@dataclass(frozen=True)
class MonitoredStack:
    """A stack as seen by role monitor (both servers) and user ops (Redis).

    `expected` is the stack output of that name. `postgres_container` is None if the stack is not on Docker; then there
    is no local socket, and what only a superuser can read is not available. `access_url` is None without an access
    service, and `prometheus_url` without monitoring.
    """

    name: str
    postgres_address: tuple[str, int]
    redis_addresses: Sequence[tuple[str, int]]
    ca_file: Path
    expected: Mapping[str, Any]
    database_url: str = field(repr=False)
    redis_url: str = field(repr=False)
    ops_redis_url: str = field(repr=False)
    # For role migrator, which reads the ledger. None if the stack outputs have no such URL.
    migrator_url: str | None = field(default=None, repr=False)
    # Of each other server of Postgres. One of them may be the primary.
    replica_addresses: Sequence[tuple[str, int]] = ()
    access_url: str | None = None
    prometheus_url: str | None = None
    postgres_container: str | None = None
    # Docker names by service, as in the stack output. Empty on AWS.
    containers: Mapping[str, str] = field(default_factory=dict)
    # With replicas on Docker: the containers of Postgres by member. `postgres_container` is then the primary's.
    members: Mapping[str, str] = field(default_factory=dict)
    # On AWS: the variables that select logins by token.
    login: Mapping[str, str] = field(default_factory=dict)
    # On AWS: region and name of the RDS instance.
    rds_instance: tuple[str, str] | None = None
    database: str = DATABASE
    migrations: Path = _MIGRATIONS

    @property
    def target(self) -> str:
        """Return where the stack runs: `docker` or `aws`."""
        return "docker" if self.rds_instance is None else "aws"

    @property
    def redis_replicas(self) -> int:
        """Return how many replicas of Redis the stack has if all its servers run."""
        promised = self.expected.get("highAvailability")
        # Stacks that were deployed before this output existed lack it. In Docker, the URL lists all servers.
        return (
            int(promised["redis"]["replicas"]) if promised else len(outputs.server_urls(self.redis_url)) - 1
        )

    @property
    def postgres_servers(self) -> dict[str, str]:
        """Return the names of several servers of Postgres in Docker by host:port. Empty for a single server."""
        places = [*map(outputs.address_of, outputs.server_urls(self.database_url))]
        return dict(zip(places, MEMBERS, strict=False)) if len(places) > 1 else {}

    @classmethod
    def of(cls, stack: str) -> MonitoredStack:
        """Return the stack with that name of this checkout. Raise OpsError (6) if it is not up."""
        from infra.docker.members import NoPrimary, member_containers, primary_container
        from infra.spec.checkout import Checkout
        from ops.stack.pulumi_stack import PulumiStack

        values = PulumiStack(Checkout.here(), stack).outputs()
        found = cls.from_outputs(stack, values)
        if found.postgres_container is None or not values.get(outputs.POSTGRES_REPLICAS):
            return found
        try:
            primary = primary_container(found.postgres_container, wait_seconds=0)
        except NoPrimary:
            # The checks report it.
            primary = found.postgres_container
        return replace(found, postgres_container=primary, members=member_containers(found.postgres_container))

    @classmethod
    def from_outputs(cls, name: str, values: Mapping[str, Any]) -> MonitoredStack:
        containers = values.get(outputs.CONTAINERS) or {}
        return cls(
            name=name,
            postgres_address=_address(values[outputs.POSTGRES]),
            redis_addresses=outputs.redis_addresses(values),
            ca_file=Path(values[outputs.CA_FILE]),
            expected=values[outputs.EXPECTED],
            database_url=values[outputs.DATABASE_URLS]["monitor"],
            redis_url=values[outputs.REDIS_URLS]["monitor"],
            ops_redis_url=values[outputs.REDIS_URLS]["ops"],
            migrator_url=values[outputs.DATABASE_URLS].get("migrator"),
            replica_addresses=[*map(_address, values.get(outputs.POSTGRES_REPLICAS, ()))],
            access_url=values.get(outputs.ACCESS_URL),
            prometheus_url=values.get(outputs.PROMETHEUS_URL),
            postgres_container=containers.get("postgres"),
            containers=containers,
            login=values.get(outputs.LOGIN_ENVIRONMENT, {}),
            rds_instance=outputs.rds_instance(values),
        )


def _address(endpoint: Mapping[str, Any]) -> tuple[str, int]:
    return str(endpoint["host"]), int(endpoint["port"])
