"""The settings that have an effect on every target, and their checks."""

from __future__ import annotations

import re
from dataclasses import dataclass

from infra.settings.checks import require_one_of, require_range
from infra.settings.declaration import TARGETS, full, setting
from infra.spec.errors import SettingError
from infra.spec.postgres import REFUSED_PARAMETERS, SUPERUSER_RESERVE
from infra.spec.redis import EVICTION_POLICIES, PERSISTENCE


@dataclass(frozen=True, kw_only=True)
class SharedSettings:
    """What both targets render."""

    target: str = setting("docker", "Where the stack runs: docker (this machine) or aws.")
    protect_data: bool = setting(
        False,
        "Refuse to delete what holds data, also in `pulumi destroy`; on AWS with deletion protection.",
    )
    postgres_max_connections: int = setting(100, "max_connections of Postgres.")
    postgres_parameters: dict[str, str] = setting(
        {},
        "More parameters of postgresql.conf, over the ones derived from the server's memory.",
    )
    migrations_folder: str = setting("db/migrations", "Folder of the migrations, from the project's root.")
    app_connection_limit: int = setting(40, "CONNECTION LIMIT of each login of role app.")
    readonly_connection_limit: int = setting(10, "CONNECTION LIMIT of each login of role readonly.")
    monitor_connection_limit: int = setting(5, "CONNECTION LIMIT of each login of role monitor.")
    migrator_connection_limit: int = setting(5, "CONNECTION LIMIT of role migrator.")
    redis_eviction_policy: str = setting(
        "allkeys-lfu", f"maxmemory-policy of Redis: {', '.join(EVICTION_POLICIES)}."
    )
    redis_persistence: str = setting(
        "none",
        "What a restart of Redis keeps: none, rdb (snapshots) or aof (all but the last second; not on AWS).",
    )
    access_pool_size: int = setting(8, "Database connections of the access service's pool.")
    token_keys: str = setting(
        "k1",
        "Ids of the keys that encrypt users' tokens, the one that encrypts first; a new id makes a new key.",
    )

    @property
    def connection_limits(self) -> dict[str, int]:
        """CONNECTION LIMIT by the keys of infra.spec.roles.LOGINS."""
        return {
            "app": self.app_connection_limit,
            "readonly": self.readonly_connection_limit,
            "monitor": self.monitor_connection_limit,
            "migrator": self.migrator_connection_limit,
        }

    @property
    def token_key_ids(self) -> list[str]:
        """The ids of tokenKeys, the one that encrypts first."""
        return [key_id.strip() for key_id in self.token_keys.split(",")]


def check(settings: SharedSettings) -> None:
    """SettingError for the first of these settings that no target can render."""
    require_one_of("target", settings.target, TARGETS)
    require_one_of("redisEvictionPolicy", settings.redis_eviction_policy, EVICTION_POLICIES)
    require_one_of("redisPersistence", settings.redis_persistence, tuple(PERSISTENCE))
    _check_connections(settings)
    _check_parameters(settings)
    _check_token_keys(settings)


def _check_connections(settings: SharedSettings) -> None:
    require_range("postgresMaxConnections", settings.postgres_max_connections, 10, 10_000)
    for role, limit in settings.connection_limits.items():
        require_range(f"{role}ConnectionLimit", limit, 1, 10_000)
    require_range("accessPoolSize", settings.access_pool_size, 1, 10_000)
    if settings.access_pool_size > settings.app_connection_limit:
        raise SettingError(
            full("accessPoolSize"),
            f"a pool of {settings.access_pool_size} is larger than the connection limit of role app"
            f" ({settings.app_connection_limit})",
            f"lower it, or raise {full('appConnectionLimit')}",
        )
    total = sum(settings.connection_limits.values())
    available = settings.postgres_max_connections - SUPERUSER_RESERVE
    if total > available:
        raise SettingError(
            full("postgresMaxConnections"),
            f"the roles' connection limits add up to {total}, and only {available} of"
            f" {settings.postgres_max_connections} connections are theirs ({SUPERUSER_RESERVE} are the"
            " superuser's)",
            f"raise it to {total + SUPERUSER_RESERVE}, or lower a limit",
        )


def _check_parameters(settings: SharedSettings) -> None:
    for name, value in settings.postgres_parameters.items():
        if name in REFUSED_PARAMETERS:
            raise SettingError(
                full("postgresParameters"),
                f"{name} is groundwork's to set (docs/security.md)",
                "take it out"
                + (f"; use {full('postgresMaxConnections')}" if name == "max_connections" else ""),
            )
        if not re.fullmatch(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)?", name):
            raise SettingError(
                full("postgresParameters"),
                f"{name!r} is no parameter's name",
                "write names as in postgresql.conf",
            )
        if not value.isprintable():
            raise SettingError(
                full("postgresParameters"),
                f"the value of {name} holds a line break or another control character",
                "write it on one line",
            )


def _check_token_keys(settings: SharedSettings) -> None:
    for key_id in settings.token_key_ids:
        if not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,31}", key_id):
            raise SettingError(
                full("tokenKeys"),
                f"{key_id!r} is no usable id",
                "write ids of a-z, 0-9, - and _, like k2,k1",
            )
    if len(set(settings.token_key_ids)) < len(settings.token_key_ids):
        raise SettingError(full("tokenKeys"), "an id is there twice", "name each key once, like k2,k1")
