"""The settings that have an effect on every target, and their checks."""

from __future__ import annotations

import re
from dataclasses import dataclass

from infra.settings.checks import require_one_of, require_range
from infra.settings.declaration import AWS, TARGETS, full, setting
from infra.spec import postgres, rds
from infra.spec.errors import SettingError
from infra.spec.redis import EVICTION_POLICIES, PERSISTENCE

# What the names of the resources of tokenKeys begin with.
TOKEN_KEY = "token-key-"


@dataclass(frozen=True, kw_only=True)
class SharedSettings:
    """The settings that have an effect on both targets."""

    target: str = setting("docker", "Where the stack runs: docker (on this machine) or aws.")
    protect_data: bool = setting(
        False,
        "Refuse to delete resources with data, even in `pulumi destroy`; on AWS also with deletion protection.",
    )
    postgres_max_connections: int = setting(100, "max_connections of Postgres.")
    postgres_replicas: int = setting(
        0,
        "Replicas of Postgres: 0, or 2 on Docker, which take over from the primary; on AWS 0 to 5, for reads only.",
    )
    postgres_parameters: dict[str, str] = setting(
        {},
        "Additional parameters of postgresql.conf; they override those derived from the memory.",
    )
    migrations_folder: str = setting(
        "db/migrations", "Folder of the migrations, relative to the project's root."
    )
    app_connection_limit: int = setting(
        40,
        "CONNECTION LIMIT of each login of role app. All roles together: at most postgresMaxConnections"
        f" - {postgres.SUPERUSER_RESERVE}, or - {rds.SUPERUSER_RESERVE} on AWS.",
    )
    readonly_connection_limit: int = setting(10, "CONNECTION LIMIT of each login of role readonly.")
    monitor_connection_limit: int = setting(5, "CONNECTION LIMIT of each login of role monitor.")
    migrator_connection_limit: int = setting(5, "CONNECTION LIMIT of role migrator.")
    redis_replicas: int = setting(
        0,
        "Replicas of Redis: 0, or 2, one of which replaces a failed primary; a primary without replicas stops writing.",
    )
    redis_eviction_policy: str = setting(
        "allkeys-lfu", f"maxmemory-policy of Redis: {', '.join(EVICTION_POLICIES)}."
    )
    redis_persistence: str = setting(
        "none",
        "What Redis keeps across a restart: none, rdb (snapshots) or aof (all but the last second; not on AWS).",
    )
    access_pool_size: int = setting(8, "Size of the access service's connection pool.")
    token_keys: str = setting(
        "k1",
        "Ids of the keys for users' tokens, like k1,k2; the first one encrypts. A new id creates a key. Append it,"
        " and move it to the front when every program has it.",
    )
    image_refresh: str = setting(
        "",
        "Time of the last refresh of the images; another value rebuilds them with current Debian packages.",
    )

    @property
    def connection_limits(self) -> dict[str, int]:
        """Return the CONNECTION LIMIT of each key of infra.spec.roles.LOGINS."""
        return {
            "app": self.app_connection_limit,
            "readonly": self.readonly_connection_limit,
            "monitor": self.monitor_connection_limit,
            "migrator": self.migrator_connection_limit,
        }

    @property
    def superuser_reserve(self) -> int:
        """Return the number of connections that the target's Postgres reserves for superusers."""
        return rds.SUPERUSER_RESERVE if self.target == AWS else postgres.SUPERUSER_RESERVE

    @property
    def token_key_ids(self) -> list[str]:
        """Return the ids of tokenKeys. The first one encrypts."""
        return [key_id.strip() for key_id in self.token_keys.split(",")]


def check(settings: SharedSettings) -> None:
    """Raise SettingError for the first of these settings that is invalid."""
    require_one_of("target", settings.target, TARGETS)
    require_one_of("redisEvictionPolicy", settings.redis_eviction_policy, EVICTION_POLICIES)
    require_one_of("redisPersistence", settings.redis_persistence, tuple(PERSISTENCE))
    _check_connections(settings)
    _check_parameters(settings)
    _check_token_keys(settings)
    if not re.fullmatch(r"(\d{4}-\d\d-\d\d(T\d\d:\d\d:\d\dZ)?)?", settings.image_refresh):
        raise SettingError(
            full("imageRefresh"),
            f"{settings.image_refresh!r} is not a date or a time in UTC",
            "write it like 2026-11-30 or 2026-11-30T09:00:00Z",
        )


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
    reserve = settings.superuser_reserve
    available = settings.postgres_max_connections - reserve
    if total > available:
        raise SettingError(
            full("postgresMaxConnections"),
            f"the roles' connection limits add up to {total}, but only {available} of"
            f" {settings.postgres_max_connections} connections are available to them ({reserve} are"
            " reserved for the superuser)",
            f"raise it to {total + reserve}, or lower a limit",
        )


def _check_parameters(settings: SharedSettings) -> None:
    for name, value in settings.postgres_parameters.items():
        if name in postgres.REFUSED_PARAMETERS:
            raise SettingError(
                full("postgresParameters"),
                f"{name} is set by groundwork (docs/security.md)",
                "remove it"
                + (f"; use {full('postgresMaxConnections')}" if name == "max_connections" else ""),
            )
        if not re.fullmatch(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)?", name):
            raise SettingError(
                full("postgresParameters"),
                f"{name!r} is not a parameter name",
                "write names as in postgresql.conf",
            )
        if not value.isprintable():
            raise SettingError(
                full("postgresParameters"),
                f"the value of {name} contains a line break or another control character",
                "write it on one line",
            )


def _check_token_keys(settings: SharedSettings) -> None:
    for key_id in settings.token_key_ids:
        if not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,31}", key_id):
            raise SettingError(
                full("tokenKeys"),
                f"{key_id!r} is not a valid id",
                "use ids of a-z, 0-9, - and _, like k2,k1",
            )
    if len(set(settings.token_key_ids)) < len(settings.token_key_ids):
        raise SettingError(full("tokenKeys"), "an id occurs twice", "name each key once, like k2,k1")
