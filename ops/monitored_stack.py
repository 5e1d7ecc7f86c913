"""Where a stack's servers are and who may look at them: plain data out of the stack's outputs, nothing connects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from infra import outputs
from infra.spec.roles import DATABASE

_MIGRATIONS = Path(__file__).parents[1] / "db" / "migrations"


@dataclass(frozen=True)
class MonitoredStack:
    """A stack as role monitor (both servers) and user ops (Redis) reach it.

    `expected` is the stack's output of that name. A container is None where the target is not Docker: then there
    is no local socket, and what only a superuser sees stays unseen. `access_url` is None where no access service is.
    """

    name: str
    postgres_address: tuple[str, int]
    redis_address: tuple[str, int]
    ca_file: Path
    expected: Mapping[str, Any]
    database_url: str = field(repr=False)
    redis_url: str = field(repr=False)
    ops_redis_url: str = field(repr=False)
    access_url: str | None = None
    postgres_container: str | None = None
    # On AWS: region and name of the instance that keeps the backups.
    rds_instance: tuple[str, str] | None = None
    database: str = DATABASE
    migrations: Path = _MIGRATIONS

    @classmethod
    def of(cls, stack: str) -> MonitoredStack:
        """The stack of that name of this checkout. OpsError (6) where it is not up."""
        from infra.spec.world import World
        from ops.pulumi_stack import PulumiStack

        return cls.from_outputs(stack, PulumiStack(World.here(), stack).outputs())

    @classmethod
    def from_outputs(cls, name: str, values: Mapping[str, Any]) -> MonitoredStack:
        containers = values.get(outputs.CONTAINERS) or {}
        return cls(
            name=name,
            postgres_address=_address(values[outputs.POSTGRES]),
            redis_address=_address(values[outputs.REDIS]),
            ca_file=Path(values[outputs.CA_FILE]),
            expected=values[outputs.EXPECTED],
            database_url=values[outputs.DATABASE_URLS]["monitor"],
            redis_url=values[outputs.REDIS_URLS]["monitor"],
            ops_redis_url=values[outputs.REDIS_URLS]["ops"],
            access_url=values.get(outputs.ACCESS_URL),
            postgres_container=containers.get("postgres"),
            rds_instance=outputs.rds_instance(values),
        )


def _address(endpoint: Mapping[str, Any]) -> tuple[str, int]:
    return str(endpoint["host"]), int(endpoint["port"])
