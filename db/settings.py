"""Settings of the Postgres connection pool, checked before anything connects."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from cache.aws_login import is_iam, postgres_tokens
from cache.login_token import LoginTokens
from cache.url_source import UrlSource
from db.errors import InvalidSetting
from infra.spec.roles import SCHEMA

_READ_URL = "DATABASE_READ_URL"
# Defaults for every connection; the connection string overrides them. With the deadline they bound the time that a
# dead peer can take: TCP notices it within 2 s while sending and within 9 s while idle.
_CONNECTION_DEFAULTS = {
    "application_name": "groundwork",
    "connect_timeout": "2",
    "tcp_user_timeout": "2000",
    "keepalives": "1",
    "keepalives_idle": "5",
    "keepalives_interval": "2",
    "keepalives_count": "2",
}


@dataclass(frozen=True)
class DatabaseSettings:
    """The connection string, the pool's size and the time limits.

    `pool_size`, `pool_min_size`: the maximum and the minimum number of connections.
    `instances`: the number of processes with a pool of this size that share the role's CONNECTION LIMIT, each with
    `beside_pool` more connections. If together they need more than the limit, every call raises InvalidSetting.
    `max_waiting`: how many callers may wait for a connection; 0 means no limit.
    `deadline_seconds`: the limit of a whole call: waiting for a connection, checking it, the statement, and the retry
    of a read.
    `max_lifetime_seconds`, `max_idle_seconds`: after which age, or time unused, a connection is closed.
    `slow_query_seconds`: slower queries are logged as INFO.
    `tokens`: the source of login tokens, used as passwords. The connection string must then have no password.
    `read_url`: the connection string of the replicas, for `reading()`. Without it, the primary answers all reads.
    `read_pool_size`: the maximum number of connections to replicas.

    Raises InvalidSetting for a value out of range.
    """

    url: UrlSource
    pool_size: int = 8
    pool_min_size: int = 1
    instances: int = 1
    beside_pool: int = 0
    max_waiting: int = 0
    deadline_seconds: float = 8.0
    max_lifetime_seconds: float = 3600.0
    max_idle_seconds: float = 600.0
    slow_query_seconds: float = 0.5
    tokens: LoginTokens | None = None
    read_url: UrlSource | None = None
    read_pool_size: int = 8

    def __post_init__(self) -> None:
        if self.pool_size < 1:
            raise InvalidSetting(f"pool_size is {self.pool_size}; use 1 or more")
        if self.read_pool_size < 1:
            raise InvalidSetting(f"read_pool_size is {self.read_pool_size}; use 1 or more")
        if not 0 <= self.pool_min_size <= self.pool_size:
            raise InvalidSetting(
                f"pool_min_size is {self.pool_min_size}; use 0 to {self.pool_size} (the pool's size)"
            )
        if self.instances < 1:
            raise InvalidSetting(f"instances is {self.instances}; use 1 or more")
        if self.deadline_seconds <= 0:
            raise InvalidSetting(f"deadline_seconds is {self.deadline_seconds}; use more than 0")

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> DatabaseSettings:
        """Return the settings in the environment.

        Reads DATABASE_URL or DATABASE_URL_FILE, and optionally DATABASE_READ_URL or DATABASE_READ_URL_FILE,
        GROUNDWORK_POOL_SIZE, GROUNDWORK_READ_POOL_SIZE, GROUNDWORK_INSTANCES and GROUNDWORK_DATABASE_LOGIN (`password`
        or `iam`). Raises InvalidSetting.
        """
        environment = os.environ if environment is None else environment
        url = UrlSource.from_environment("DATABASE_URL", InvalidSetting, environment)
        has_replicas = any(name in environment for name in (_READ_URL, f"{_READ_URL}_FILE"))
        read_url = (
            UrlSource.from_environment(_READ_URL, InvalidSetting, environment) if has_replicas else None
        )
        by_token = is_iam("GROUNDWORK_DATABASE_LOGIN", InvalidSetting, environment)
        tokens = postgres_tokens(InvalidSetting, environment.get("AWS_REGION")) if by_token else None
        return cls(
            url=url,
            pool_size=_number(environment, "GROUNDWORK_POOL_SIZE", cls.pool_size),
            instances=_number(environment, "GROUNDWORK_INSTANCES", cls.instances),
            tokens=tokens,
            read_url=read_url,
            read_pool_size=_number(environment, "GROUNDWORK_READ_POOL_SIZE", cls.read_pool_size),
        )

    def of_replicas(self) -> ReplicaSettings | None:
        """Return the settings of the pool of connections to replicas, or None if there are no replicas."""
        if self.read_url is None:
            return None
        own = {field.name: getattr(self, field.name) for field in fields(self)}
        changed = {"url": self.read_url, "read_url": None, "pool_size": self.read_pool_size, "beside_pool": 0}
        least = min(self.pool_min_size, self.read_pool_size)
        return ReplicaSettings(**own | changed | {"pool_min_size": least})

    @property
    def connections(self) -> int:
        """The number of connections that all instances may open together."""
        return self.instances * (self.pool_size + self.beside_pool)

    def conninfo(self) -> str:
        """Return the current connection string with defaults, timeouts and the session's settings, as key-value pairs.

        The settings have priority over the connection string and the environment (db.session). Reads the file again if
        there is one. Raises InvalidSetting.
        """
        options = f"-c statement_timeout={max(1, int(self.deadline_seconds * 1000))}"
        return self._conninfo(_CONNECTION_DEFAULTS, search_path=SCHEMA, options=options)

    def unbounded_conninfo(self) -> str:
        """Return the current connection string without defaults and timeouts, for work that may take long.

        With `tokens` it contains a token as the password. Raises InvalidSetting.
        """
        return self._conninfo({})

    def _conninfo(
        self, defaults: Mapping[str, str], *, search_path: str | None = None, options: str = ""
    ) -> str:
        import psycopg
        from psycopg.conninfo import conninfo_to_dict

        from db.session import is_mangled, pinned_conninfo

        try:
            given: dict[str, Any] = conninfo_to_dict(self.url.read())
            if is_mangled(given):
                raise InvalidSetting(
                    f"{self.url.variable} is read wrongly, because its user or password contains a special character;"
                    " percent-encode it (@ is %40, / is %2F, : is %3A)"
                )
            complete = {**defaults, **given, **self._token(given)}
            return pinned_conninfo(complete, search_path=search_path, options=options)
        except psycopg.ProgrammingError:
            # Not chained: the driver quotes the string, which contains the password.
            raise InvalidSetting(
                f"{self.url.variable} is not a connection string; write it as"
                " postgresql://user:password@host:port/database?sslmode=verify-full&sslrootcert=..."
            ) from None

    def _token(self, given: Mapping[str, Any]) -> dict[str, str]:
        """Return a token as the password, or nothing if the connection string has the password."""
        if self.tokens is None:
            return {}
        missing = [name for name in ("host", "port", "user") if not given.get(name)]
        if missing or given.get("password"):
            what = f"has no {' and no '.join(missing)}" if missing else "contains a password"
            raise InvalidSetting(
                f"{self.url.variable} {what}; for a login by IAM, write it as"
                " postgresql://user@host:port/database?sslmode=verify-full&sslrootcert=..."
            )
        host, port, user = (str(given[name]) for name in ("host", "port", "user"))
        # A token is valid for one server: db.hosts adds it for each.
        return {} if "," in host else {"password": self.tokens.current(host, port, user)}


class ReplicaSettings(DatabaseSettings):
    """The settings of connections to replicas. `url` may also list the primary, which is not connected to."""

    def conninfo(self) -> str:
        """Return the current connection string for a session on any replica. Raises InvalidSetting."""
        from psycopg.conninfo import make_conninfo

        return make_conninfo(super().conninfo(), target_session_attrs="standby")


def _number(environment: Mapping[str, str], variable: str, default: int) -> int:
    text = environment.get(variable, str(default))
    if not text.isdecimal():
        raise InvalidSetting(f"{variable} is {text!r}; write a whole number")
    return int(text)
