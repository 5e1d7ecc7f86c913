"""The Docker target: settings -> network -> Postgres and Redis -> roles -> migrations -> access -> monitoring."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pulumi
import pulumi_docker as docker

from infra import outputs
from infra.credentials import Password, Trust
from infra.docker.access import Access, AccessArgs
from infra.docker.engine import inspect
from infra.docker.files import HostFile
from infra.docker.leases import Leases
from infra.docker.monitoring import Monitoring, MonitoringArgs
from infra.docker.network import DataNetwork, DataNetworkArgs
from infra.docker.postgres import Postgres, PostgresArgs, server_parameters
from infra.docker.redis import Redis, RedisArgs
from infra.docker.volume import make_volume
from infra.dynamic import merged_secret
from infra.passwords import Passwords
from infra.schema import Migrations, Roles, database_conninfo
from infra.settings import StackSettings
from infra.spec.quantity import parse_bytes
from infra.spec.rotation import Rotation
from infra.spec.world import World

HOST = "localhost"
METRICS_VOLUME = "prometheus-data"


@dataclass(frozen=True)
class DockerStack:
    """Declares every resource of a stack on one machine; `declare` returns the outputs."""

    world: World
    stack: str
    settings: StackSettings
    leases: Leases
    rotation: Rotation = field(default_factory=Rotation)
    # Whether a volume with metrics of earlier days is there: it stays when monitoring is off.
    has_metrics: bool = False

    def declare(self) -> dict[str, pulumi.Input[Any]]:
        world, stack, settings, leases = (
            self.world,
            self.stack,
            self.settings,
            self.leases,
        )
        engine = _engine()
        trust = Trust.make(f"groundwork {world.key} {stack}", self.rotation)
        passwords = Passwords(self.rotation)
        token_keys = {key_id: Password(f"token-key-{key_id}").value for key_id in settings.token_key_ids}
        ca = HostFile("ca-file", path=world.ca_file(stack), content=trust.bundle)

        network = DataNetwork("data", DataNetworkArgs(world, stack, leases.subnet))
        database = Postgres(
            "postgres",
            PostgresArgs(world, stack, settings, network.name, leases.postgres, trust),
            engine,
        )
        cache = Redis(
            "redis",
            RedisArgs(
                world,
                stack,
                settings,
                network.name,
                leases.redis,
                trust,
                passwords,
            ),
            engine,
        )
        roles = Roles(
            "roles",
            container=world.name(stack, "postgres"),
            # They wait for the server by themselves, and not for its next health check.
            container_id=database.started_id,
            verifiers=passwords.verifiers(),
            connection_limits=settings.connection_limits,
        )
        migrations = Migrations(
            "migrations",
            folder=world.root / settings.migrations_folder,
            container_id=database.started_id,
            conninfo=database_conninfo(
                password=passwords.postgres("migrator")[1],
                port=leases.postgres,
                ca_file=ca.path,
            ),
            opts=pulumi.ResourceOptions(depends_on=[roles]),
        )
        access = Access(
            "access",
            AccessArgs(
                world,
                stack,
                settings,
                network.name,
                leases.access,
                trust,
                passwords,
                starts_after=[database, migrations, cache],
            ),
            engine,
        )
        monitoring = self._monitoring(
            network=network.name,
            trust=trust,
            certificates={"postgres": database.certificate, "redis": cache.certificate},
            passwords=passwords,
            starts_after=[roles, access],
            engine=engine,
        )
        return {
            outputs.TARGET: "docker",
            outputs.POSTGRES: {"host": HOST, "port": leases.postgres},
            outputs.REDIS: {"host": HOST, "port": leases.redis},
            outputs.ACCESS_URL: f"http://{HOST}:{leases.access}",
            outputs.CA_FILE: ca.path,
            outputs.CA_CERTIFICATE: trust.bundle,
            outputs.CONTAINERS: {
                "postgres": database.container_name,
                "redis": cache.container_name,
                "access": access.container_name,
                "network": network.name,
                **(monitoring.container_names if monitoring else {}),
            },
            # Absent rather than empty where there is no monitoring.
            **({outputs.PROMETHEUS_URL: f"http://{HOST}:{leases.prometheus}"} if monitoring else {}),
            outputs.BACKUPS: {
                "enabled": settings.backups,
                "retentionFull": settings.backup_retention_full,
                "fullDays": settings.backup_full_days,
                "image": database.image,
                "dataVolume": database.data_volume,
                "configVolume": database.config_volume,
                "repositoryVolume": database.repository_volume,
            },
            outputs.EXPECTED: _expected(settings, migrations),
            outputs.ROTATION: self.rotation.as_json(),
            outputs.TOKEN_KEYS: merged_secret(token_keys).apply(
                lambda keys: ",".join(f"{key_id}:{keys[key_id]}" for key_id in settings.token_key_ids)
            ),
            outputs.DATABASE_URLS: _urls(
                {role: passwords.postgres(login) for role, (login, _) in outputs.ROLES.items() if login},
                ca.path,
                lambda login, password, ca_file: outputs.database_url(
                    login=login, password=password, host=HOST, port=leases.postgres, ca_file=ca_file
                ),
            ),
            outputs.REDIS_URLS: _urls(
                {role: (user, passwords.redis(user)) for role, (_, user) in outputs.ROLES.items() if user},
                ca.path,
                lambda user, password, ca_file: outputs.redis_url(
                    user=user, password=password, host=HOST, port=leases.redis, ca_file=ca_file
                ),
            ),
        }

    def _monitoring(
        self,
        *,
        network: pulumi.Input[str],
        trust: Trust,
        certificates: Mapping[str, pulumi.Output[str]],
        passwords: Passwords,
        starts_after: Sequence[pulumi.Resource],
        engine: pulumi.ResourceOptions,
    ) -> Monitoring | None:
        settings = self.settings
        if not (settings.monitoring or self.has_metrics):
            return None
        # Not the component's: what was measured outlives a time without monitoring.
        metrics = make_volume(
            self.world,
            self.stack,
            METRICS_VOLUME,
            engine,
            protect=settings.protect_data,
        )
        if not settings.monitoring:
            return None
        return Monitoring(
            "monitoring",
            MonitoringArgs(
                self.world,
                self.stack,
                settings,
                network,
                self.leases.prometheus,
                trust,
                certificates,
                metrics.name,
                database_login=passwords.postgres("monitor"),
                redis_user=("monitor", passwords.redis("monitor")),
                starts_after=starts_after,
            ),
            engine,
        )


def _engine() -> pulumi.ResourceOptions:
    """The Docker provider, declared: one that is only implied is started after that of the dynamic resources."""
    return pulumi.ResourceOptions(providers={"docker": docker.Provider("docker")})


def metrics_are_kept(world: World, stack: str, *, monitoring: bool) -> bool:
    """Whether the volume of metrics is there; where monitoring is off, say that it stays and how it goes."""
    volume = world.name(stack, METRICS_VOLUME)
    exists = bool(inspect("volume", volume))
    if exists and not monitoring:
        pulumi.log.info(
            f"monitoring is off, and volume {volume} keeps what was measured:"
            " it is used again when monitoring is on, and goes with `groundwork down --volumes`"
        )
    return exists


def _urls(
    users: Mapping[str, tuple[str, pulumi.Output[str]]],
    ca_file: pulumi.Output[str],
    url: Callable[[str, str, str], str],
) -> pulumi.Output[dict[str, str]]:
    """Role -> connection string. `users`: role -> user and password; `url` makes one of those and the CA file."""

    def url_of(user: str, password: pulumi.Output[str]) -> pulumi.Output[str]:
        return pulumi.Output.all(password, ca_file).apply(lambda values: url(user, *values))

    return merged_secret({role: url_of(*user) for role, user in users.items()})


def _expected(settings: StackSettings, migrations: Migrations) -> dict[str, Any]:
    """What a live check compares the servers with."""
    return {
        "postgresParameters": server_parameters(settings),
        "redisMaxmemoryBytes": parse_bytes(settings.redis_maxmemory),
        "redisEvictionPolicy": settings.redis_eviction_policy,
        "redisPersistence": settings.redis_persistence,
        "redisMaxclients": settings.redis_maxclients,
        "connectionLimits": dict(settings.connection_limits),
        "schemaVersion": migrations.version,
    }
