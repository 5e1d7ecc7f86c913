"""StackSettings: every setting of a stack, typed and validated before any resource is made.

The fields are the one list of what can be set: Pulumi.yaml's config schema and the README's table are
rendered from them. This module reads plain mappings; it never talks to Pulumi, Docker or AWS.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from infra.spec.errors import SettingError
from infra.spec.monitoring import JOBS
from infra.spec.postgres import REFUSED_PARAMETERS, SUPERUSER_RESERVE
from infra.spec.quantity import format_mb, parse_bytes
from infra.spec.redis import EVICTION_POLICIES, MAXMEMORY_SHARE, PERSISTENCE
from infra.spec.world import PROJECT

# host:port, as Prometheus takes a target
_TARGET = r"[A-Za-z0-9][A-Za-z0-9.-]*:[0-9]{1,5}"
_TYPES = {
    "str": "string",
    "int": "integer",
    "bool": "boolean",
    "dict[str, str]": "object",
}


@dataclass(frozen=True)
class Setting:
    """How one setting is declared: its key without the project, Pulumi's name of its type, and what it says."""

    field: str
    key: str
    type: str
    default: Any
    description: str


def _setting(default: Any, description: str) -> Any:
    metadata = {"description": description}
    if isinstance(default, dict):
        return dataclasses.field(default_factory=lambda: dict(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


@dataclass(frozen=True, kw_only=True)
class StackSettings:
    """Every setting of a stack. Build it with `parse`; an instance is valid."""

    target: str = _setting("docker", "Where the stack runs: docker (this machine).")
    network_subnet: str = _setting(
        "",
        "Subnet of the data network, for example 10.201.7.0/24; empty: one that is free here.",
    )
    protect_data: bool = _setting(
        False,
        "Refuse to delete the data volumes, also in `pulumi destroy`.",
    )
    postgres_port: int = _setting(0, "Port of Postgres on 127.0.0.1; 0: one that is free, and kept.")
    postgres_memory: str = _setting("1GB", "Memory limit of the Postgres container, 256MB at least.")
    postgres_max_connections: int = _setting(100, "max_connections of Postgres.")
    postgres_parameters: dict[str, str] = _setting(
        {},
        "More parameters of postgresql.conf, over the ones derived from postgresMemory.",
    )
    migrations_folder: str = _setting("db/migrations", "Folder of the migrations, from the project's root.")
    app_connection_limit: int = _setting(40, "CONNECTION LIMIT of each login of role app.")
    readonly_connection_limit: int = _setting(10, "CONNECTION LIMIT of each login of role readonly.")
    monitor_connection_limit: int = _setting(5, "CONNECTION LIMIT of each login of role monitor.")
    migrator_connection_limit: int = _setting(5, "CONNECTION LIMIT of role migrator.")
    backups: bool = _setting(
        True, "Archive Postgres's WAL into a repository of its own, from which `groundwork restore` restores."
    )
    backup_retention_full: int = _setting(2, "How many full backups are kept, with the WAL since the oldest.")
    backup_full_days: int = _setting(7, "Age in days at which the next `groundwork backup` is a full one.")
    backup_queue_max: str = _setting(
        "1GB",
        "WAL that waits where it cannot be archived; beyond it WAL is given up, and restores have a gap.",
    )
    redis_port: int = _setting(0, "Port of Redis on 127.0.0.1; 0: one that is free, and kept.")
    redis_memory: str = _setting("256MB", "Memory limit of the Redis container, 64MB at least.")
    redis_maxmemory: str = _setting("160MB", "maxmemory of Redis, at most 75 % of redisMemory.")
    redis_eviction_policy: str = _setting(
        "allkeys-lfu", f"maxmemory-policy of Redis: {', '.join(EVICTION_POLICIES)}."
    )
    redis_persistence: str = _setting(
        "none",
        "What a restart of Redis keeps: none, rdb (snapshots) or aof (all but the last second).",
    )
    redis_maxclients: int = _setting(1000, "maxclients of Redis.")
    access_port: int = _setting(0, "Port of the access service on 127.0.0.1; 0: one that is free, and kept.")
    access_memory: str = _setting("256MB", "Memory limit of the access container, 128MB at least.")
    access_pool_size: int = _setting(8, "Database connections of the access service's pool.")
    token_keys: str = _setting(
        "k1",
        "Ids of the keys that encrypt users' tokens, the one that encrypts first; a new id makes a new key.",
    )
    monitoring: bool = _setting(
        False, "Run Prometheus and the exporters of Postgres and Redis beside the stack."
    )
    monitoring_targets: dict[str, str] = _setting(
        {},
        "More that Prometheus scrapes: job -> host:port, ... of containers in the data network.",
    )
    prometheus_port: int = _setting(0, "Port of Prometheus on 127.0.0.1; 0: one that is free, and kept.")
    prometheus_memory: str = _setting("256MB", "Memory limit of the Prometheus container, 128MB at least.")
    prometheus_retention: str = _setting(
        "15d", "How long Prometheus keeps what it measured, like 36h or 15d."
    )
    prometheus_disk: str = _setting(
        "1GB", "Disk that Prometheus fills before the oldest goes, 256MB at least."
    )
    log_max_size: str = _setting("10MB", "Size at which a container's log is rotated.")
    log_max_files: int = _setting(3, "How many rotated logs of a container are kept.")

    @classmethod
    def declarations(cls) -> list[Setting]:
        """Every setting, in the order in which people read them."""
        instance = cls()
        return [
            Setting(
                field=f.name,
                key=_camel(f.name),
                type=_TYPES[str(f.type)],
                default=getattr(instance, f.name),
                description=f.metadata["description"],
            )
            for f in dataclasses.fields(cls)
        ]

    @classmethod
    def parse(cls, values: Mapping[str, Any]) -> StackSettings:
        """Settings from a mapping of keys (`redisMaxmemory`, with or without `groundwork:`) to values.

        Values may be text, as Pulumi's engine hands them over. SettingError names the first bad one.
        """
        known = {s.key: s for s in cls.declarations()}
        parsed: dict[str, Any] = {}
        for full_key, value in values.items():
            key = full_key.removeprefix(f"{PROJECT}:")
            if key not in known:
                raise SettingError(_full(key), "no such setting", _suggestion(key, known))
            parsed[known[key].field] = _coerce(known[key], value)
        settings = cls(**parsed)
        settings._validate()
        return settings

    @property
    def connection_limits(self) -> dict[str, int]:
        """CONNECTION LIMIT by the keys of infra.spec.roles.LOGINS."""
        return {
            "app": self.app_connection_limit,
            "readonly": self.readonly_connection_limit,
            "monitor": self.monitor_connection_limit,
            "migrator": self.migrator_connection_limit,
        }

    def _validate(self) -> None:
        _require_one_of("target", self.target, ("docker",))
        _require_one_of("redisEvictionPolicy", self.redis_eviction_policy, EVICTION_POLICIES)
        _require_one_of("redisPersistence", self.redis_persistence, tuple(PERSISTENCE))
        self._validate_subnet()
        self._validate_ports()
        self._validate_memory()
        self._validate_connections()
        self._validate_parameters()
        self._validate_token_keys()
        self._validate_monitoring()
        _require_range("backupRetentionFull", self.backup_retention_full, 1, 1000)
        _require_range("backupFullDays", self.backup_full_days, 1, 365)
        _bytes("backupQueueMax", self.backup_queue_max, "64MB")
        _require_range("logMaxFiles", self.log_max_files, 1, 100)
        _bytes("logMaxSize", self.log_max_size, "1MB")

    def _validate_subnet(self) -> None:
        if not self.network_subnet:
            return
        try:
            subnet = ipaddress.IPv4Network(self.network_subnet)
        except ValueError as error:
            raise SettingError(
                _full("networkSubnet"),
                f"{error}",
                "write an IPv4 subnet like 10.201.7.0/24",
            ) from error
        if not subnet.is_private or subnet.prefixlen > 28:
            raise SettingError(
                _full("networkSubnet"),
                f"{subnet} is public or smaller than 16 addresses",
                "take a private subnet of /28 or larger, like 10.201.7.0/24",
            )

    @property
    def token_key_ids(self) -> list[str]:
        """The ids of tokenKeys, the one that encrypts first."""
        return [key_id.strip() for key_id in self.token_keys.split(",")]

    def _validate_token_keys(self) -> None:
        for key_id in self.token_key_ids:
            if not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,31}", key_id):
                raise SettingError(
                    _full("tokenKeys"),
                    f"{key_id!r} is no usable id",
                    "write ids of a-z, 0-9, - and _, like k2,k1",
                )
        if len(set(self.token_key_ids)) < len(self.token_key_ids):
            raise SettingError(_full("tokenKeys"), "an id is there twice", "name each key once, like k2,k1")

    def _validate_ports(self) -> None:
        ports = {
            "postgresPort": self.postgres_port,
            "redisPort": self.redis_port,
            "accessPort": self.access_port,
            "prometheusPort": self.prometheus_port,
        }
        taken: dict[int, str] = {}
        for key, port in ports.items():
            if port != 0:
                _require_range(key, port, 1024, 65535, "or 0 to have a free one picked")
                if port in taken:
                    raise SettingError(
                        _full(key),
                        f"{port} is {_full(taken[port])} already",
                        "give each its own port",
                    )
                taken[port] = key

    def _validate_memory(self) -> None:
        _bytes("postgresMemory", self.postgres_memory, "256MB")
        _bytes("accessMemory", self.access_memory, "128MB")
        _bytes("prometheusMemory", self.prometheus_memory, "128MB")
        _bytes("prometheusDisk", self.prometheus_disk, "256MB")
        limit = _bytes("redisMemory", self.redis_memory, "64MB")
        maxmemory = _bytes("redisMaxmemory", self.redis_maxmemory, "1MB")
        most = int(limit * MAXMEMORY_SHARE)
        if maxmemory > most:
            raise SettingError(
                _full("redisMaxmemory"),
                f"{self.redis_maxmemory} is more than 75 % of redisMemory ({self.redis_memory})",
                f"set it to {format_mb(most)} at most, or raise {_full('redisMemory')}",
            )

    def _validate_monitoring(self) -> None:
        if not re.fullmatch(r"[1-9][0-9]{0,4}[hdwy]", self.prometheus_retention):
            raise SettingError(
                _full("prometheusRetention"),
                f"{self.prometheus_retention!r} is no length of time",
                "write hours, days, weeks or years, like 36h or 15d",
            )
        for job, targets in self.monitoring_targets.items():
            if job in JOBS or not re.fullmatch(r"[a-z][a-z0-9_-]{0,31}", job):
                raise SettingError(
                    _full("monitoringTargets"),
                    f"{job!r} is no free name of a job",
                    f"write a-z, 0-9, - and _, and none of {', '.join(JOBS)}",
                )
            if not re.fullmatch(rf"{_TARGET}(\s*,\s*{_TARGET})*", targets):
                raise SettingError(
                    _full("monitoringTargets"),
                    f"{targets!r} of job {job} is no list of host:port",
                    "write it like app-1:9000,app-2:9000",
                )

    def _validate_connections(self) -> None:
        _require_range("postgresMaxConnections", self.postgres_max_connections, 10, 10_000)
        _require_range("redisMaxclients", self.redis_maxclients, 10, 100_000)
        for role, limit in self.connection_limits.items():
            _require_range(f"{role}ConnectionLimit", limit, 1, 10_000)
        _require_range("accessPoolSize", self.access_pool_size, 1, 10_000)
        if self.access_pool_size > self.app_connection_limit:
            raise SettingError(
                _full("accessPoolSize"),
                f"a pool of {self.access_pool_size} is larger than the connection limit of role app"
                f" ({self.app_connection_limit})",
                f"lower it, or raise {_full('appConnectionLimit')}",
            )
        total = sum(self.connection_limits.values())
        available = self.postgres_max_connections - SUPERUSER_RESERVE
        if total > available:
            raise SettingError(
                _full("postgresMaxConnections"),
                f"the roles' connection limits add up to {total}, and only {available} of"
                f" {self.postgres_max_connections} connections are theirs ({SUPERUSER_RESERVE} are the"
                " superuser's)",
                f"raise it to {total + SUPERUSER_RESERVE}, or lower a limit",
            )

    def _validate_parameters(self) -> None:
        for name, value in self.postgres_parameters.items():
            if name in REFUSED_PARAMETERS:
                raise SettingError(
                    _full("postgresParameters"),
                    f"{name} is groundwork's to set (docs/security.md)",
                    "take it out"
                    + (f"; use {_full('postgresMaxConnections')}" if name == "max_connections" else ""),
                )
            if not re.fullmatch(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)?", name):
                raise SettingError(
                    _full("postgresParameters"),
                    f"{name!r} is no parameter's name",
                    "write names as in postgresql.conf",
                )
            if not value.isprintable():
                raise SettingError(
                    _full("postgresParameters"),
                    f"the value of {name} holds a line break or another control character",
                    "write it on one line",
                )


def _camel(name: str) -> str:
    head, *tail = name.split("_")
    return head + "".join(part.capitalize() for part in tail)


def _full(key: str) -> str:
    return f"{PROJECT}:{key}"


def _suggestion(key: str, known: Mapping[str, Setting]) -> str:
    import difflib

    close = difflib.get_close_matches(key, known, n=1)
    return f"did you mean {_full(close[0])}?" if close else "see the settings table in the README"


def _coerce(setting: Setting, value: Any) -> Any:
    """The value in the setting's type. Pulumi hands integers, booleans and objects over as JSON text."""
    if setting.type == "string":
        if isinstance(value, str):
            return value
        raise SettingError(_full(setting.key), f"{value!r} is no text", "put it in quotes")
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            pass
    kinds: dict[str, type[Any]] = {"integer": int, "boolean": bool, "object": dict}
    kind = kinds[setting.type]
    # bool is an int to Python, and never what was meant here.
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        article = {
            "integer": "a whole number",
            "boolean": "true or false",
            "object": "a mapping",
        }
        raise SettingError(
            _full(setting.key),
            f"{value!r} is not {article[setting.type]}",
            f"its default is {json.dumps(setting.default)}",
        )
    if setting.type == "object":
        return {str(k): v if isinstance(v, str) else json.dumps(v) for k, v in value.items()}
    return value


def _require_one_of(key: str, value: str, accepted: tuple[str, ...]) -> None:
    if value not in accepted:
        import difflib

        close = difflib.get_close_matches(value, accepted, n=1)
        hint = f"did you mean {close[0]}? " if close else ""
        raise SettingError(
            _full(key),
            f"{value!r} is not known",
            f"{hint}use one of {', '.join(accepted)}".strip(),
        )


def _require_range(key: str, value: int, least: int, most: int, more: str = "") -> None:
    if not least <= value <= most:
        fix = f"use {least} to {most}" + (f", {more}" if more else "")
        raise SettingError(_full(key), f"{value} is out of range", fix)


def _bytes(key: str, text: str, least: str) -> int:
    try:
        amount = parse_bytes(text)
    except ValueError as error:
        raise SettingError(_full(key), str(error), "write it like 128MB or 1GB") from error
    if amount < parse_bytes(least):
        raise SettingError(_full(key), f"{text} is too little", f"use {least} or more")
    return amount
