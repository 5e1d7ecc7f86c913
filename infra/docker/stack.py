"""The Docker target: settings -> network -> Postgres and Redis -> roles -> migrations -> access."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pulumi

from infra import outputs
from infra.credentials import Authority, Password
from infra.docker.access import Access, AccessArgs
from infra.docker.files import HostFile
from infra.docker.leases import Leases
from infra.docker.network import DataNetwork, DataNetworkArgs
from infra.docker.postgres import Postgres, PostgresArgs, server_parameters
from infra.docker.redis import Redis, RedisArgs
from infra.dynamic import merged_secret
from infra.schema import Migrations, Roles, database_conninfo
from infra.settings import StackSettings
from infra.spec import redis_acl
from infra.spec.quantity import parse_bytes
from infra.spec.world import World

HOST = "localhost"


@dataclass(frozen=True)
class DockerStack:
    """Declares every resource of a stack on one machine; `declare` returns the outputs."""

    world: World
    stack: str
    settings: StackSettings
    leases: Leases

    def declare(self) -> dict[str, pulumi.Input[Any]]:
        world, stack, settings, leases = (
            self.world,
            self.stack,
            self.settings,
            self.leases,
        )
        authority = Authority("authority", f"groundwork {world.key} {stack}")
        database_passwords = {
            login: Password(f"postgres-{login}") for login, _ in outputs.ROLES.values() if login is not None
        }
        redis_passwords = {user.name: Password(f"redis-{user.name}") for user in redis_acl.USERS}
        token_keys = {key_id: Password(f"token-key-{key_id}").value for key_id in settings.token_key_ids}
        ca = HostFile("ca-file", path=world.ca_file(stack), content=authority.certificate)

        network = DataNetwork("data", DataNetworkArgs(world, stack, leases.subnet))
        database = Postgres(
            "postgres",
            PostgresArgs(world, stack, settings, network.name, leases.postgres, authority),
        )
        cache = Redis(
            "redis",
            RedisArgs(
                world,
                stack,
                settings,
                network.name,
                leases.redis,
                authority,
                redis_passwords,
            ),
        )
        roles = Roles(
            "roles",
            container=database.container_name,
            container_id=database.container_id,
            verifiers={login: p.verifier for login, p in database_passwords.items()},
            connection_limits=settings.connection_limits,
        )
        migrations = Migrations(
            "migrations",
            folder=world.root / settings.migrations_folder,
            container_id=database.container_id,
            conninfo=database_conninfo(
                password=database_passwords["migrator"].value,
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
                authority,
                database_passwords["app_a"].value,
                redis_passwords["app"].value,
                starts_after=[migrations, cache],
            ),
        )
        return {
            outputs.TARGET: "docker",
            outputs.POSTGRES: {"host": HOST, "port": leases.postgres},
            outputs.REDIS: {"host": HOST, "port": leases.redis},
            outputs.ACCESS_URL: f"http://{HOST}:{leases.access}",
            outputs.CA_FILE: ca.path,
            outputs.CA_CERTIFICATE: authority.certificate,
            outputs.CONTAINERS: {
                "postgres": database.container_name,
                "redis": cache.container_name,
                "access": access.container_name,
                "network": network.name,
            },
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
            outputs.TOKEN_KEYS: merged_secret(token_keys).apply(
                lambda keys: ",".join(f"{key_id}:{keys[key_id]}" for key_id in settings.token_key_ids)
            ),
            outputs.DATABASE_URLS: _urls(
                {role: login for role, (login, _) in outputs.ROLES.items()},
                database_passwords,
                ca.path,
                lambda login, password, ca_file: outputs.database_url(
                    login=login, password=password, host=HOST, port=leases.postgres, ca_file=ca_file
                ),
            ),
            outputs.REDIS_URLS: _urls(
                {role: user for role, (_, user) in outputs.ROLES.items()},
                redis_passwords,
                ca.path,
                lambda user, password, ca_file: outputs.redis_url(
                    user=user, password=password, host=HOST, port=leases.redis, ca_file=ca_file
                ),
            ),
        }


def _urls(
    users: Mapping[str, str | None],
    passwords: Mapping[str, Password],
    ca_file: pulumi.Output[str],
    url: Callable[[str, str, str], str],
) -> pulumi.Output[dict[str, str]]:
    """Role -> connection string, of the roles that have a user; `url` makes one of user, password and CA file."""

    def url_of(user: str) -> pulumi.Output[str]:
        return pulumi.Output.all(passwords[user].value, ca_file).apply(lambda values: url(user, *values))

    return merged_secret({role: url_of(user) for role, user in users.items() if user is not None})


def _expected(settings: StackSettings, migrations: Migrations) -> dict[str, Any]:
    """What a live check compares the servers with."""
    return {
        "postgresParameters": server_parameters(settings),
        "redisMaxmemoryBytes": parse_bytes(settings.redis_maxmemory),
        "redisEvictionPolicy": settings.redis_eviction_policy,
        "redisPersistence": settings.redis_persistence,
        "schemaVersion": migrations.version,
    }
