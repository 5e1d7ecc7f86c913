"""Settings of the cache, checked before anything connects."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit, urlunsplit

from cache.aws_login import is_iam, redis_tokens
from cache.errors import CacheSettingError
from cache.login_token import LoginTokens
from cache.url_source import UrlSource
from infra.spec.variables import variable

# All other options of redis-py would be overridden by the cache's own connection settings, or break them.
URL_OPTIONS = ("ssl_ca_certs", "ssl_check_hostname", "ssl_cert_reqs", "db")
_DEFAULT_PORT = 6379


@dataclass(frozen=True)
class CacheSettings:
    """The connection string, the connections, the time limit of a call and the near cache.

    `namespace`: a part of every key. Stacks that share a Redis need different ones. All processes of a stack,
    including the access service, must use the same.
    `max_connections`: the maximum number of connections of a process.
    `timeout_seconds`: the limit of one call to Redis.
    `near_entries`, `near_bytes`: the limits of the near cache. With 0 there is no near cache.
    `near_ttl_seconds`: the longest time that an entry stays in the near cache.
    `tokens`, `replication_group`: for a login by IAM, the source of login tokens and the ElastiCache replication group
    that they are for.

    Raises CacheSettingError for a value out of range.
    """

    url: UrlSource
    namespace: str = "main"
    max_connections: int = 8
    timeout_seconds: float = 0.1
    near_entries: int = 10_000
    near_bytes: int = 32 * 1024 * 1024
    near_ttl_seconds: float = 60.0
    tokens: LoginTokens | None = None
    replication_group: str = ""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,31}", self.namespace):
            raise CacheSettingError(
                f"the cache's namespace {self.namespace!r} is invalid; use up to 32 of a-z, 0-9, - and _"
            )
        if self.max_connections < 1 or self.timeout_seconds <= 0:
            raise CacheSettingError("max_connections and timeout_seconds must be more than 0")
        if self.near_entries < 0 or self.near_bytes < 0 or self.near_ttl_seconds <= 0:
            raise CacheSettingError(
                "near_entries and near_bytes must be 0 or more, near_ttl_seconds more than 0"
            )

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> CacheSettings:
        """Return the settings in the environment.

        Reads REDIS_URL or REDIS_URL_FILE, and optionally GROUNDWORK_CACHE_NAMESPACE, GROUNDWORK_NEAR_CACHE_ENTRIES,
        GROUNDWORK_CACHE_LOGIN (`password` or `iam`) and GROUNDWORK_REPLICATION_GROUP. Raises CacheSettingError.
        """
        environment = os.environ if environment is None else environment
        url = UrlSource.from_environment("REDIS_URL", CacheSettingError, environment)
        namespace = variable("GROUNDWORK_CACHE_NAMESPACE", environment, CacheSettingError) or "main"
        entries = environment.get("GROUNDWORK_NEAR_CACHE_ENTRIES", "10000")
        if not entries.isdecimal():
            raise CacheSettingError(f"GROUNDWORK_NEAR_CACHE_ENTRIES is {entries!r}; write a whole number")
        group = variable("GROUNDWORK_REPLICATION_GROUP", environment, CacheSettingError) or ""
        tokens = None
        if is_iam("GROUNDWORK_CACHE_LOGIN", CacheSettingError, environment):
            tokens = redis_tokens(CacheSettingError, environment.get("AWS_REGION"))
            if not group:
                raise CacheSettingError(
                    "GROUNDWORK_CACHE_LOGIN is iam, which needs GROUNDWORK_REPLICATION_GROUP; set it"
                )
        return cls(
            url=url,
            namespace=namespace,
            near_entries=int(entries),
            tokens=tokens,
            replication_group=group,
        )

    def server_urls(self) -> tuple[str, ...]:
        """Return the URL of each server, without user and password.

        There is more than one if the connection string lists a primary and its replicas.
        """
        parts = self._split()
        return tuple(urlunsplit(parts._replace(netloc=server)) for server in _servers(parts))

    def credentials(self) -> tuple[str, str] | tuple[str] | tuple[()]:
        """Return the current (user, password), (password,) or (). A login token counts as a password."""
        parts = self._split()
        if self.tokens is not None:
            if not parts.username or parts.password:
                what = "contains a password" if parts.password else "names no user"
                raise CacheSettingError(
                    f"{self.url.variable} {what}; for a login by IAM, write it as"
                    " rediss://user@host:port/0?ssl_ca_certs=..."
                )
            user = unquote(parts.username)
            return user, self.tokens.current(self.replication_group, user)
        if parts.password is None:
            return ()
        password = unquote(parts.password)
        return (unquote(parts.username), password) if parts.username else (password,)

    def prefetch_token(self) -> None:
        """Start making the first token, because the first connection has only `timeout_seconds`."""
        user = unquote(self._split().username or "")
        if self.tokens is not None and user:
            self.tokens.prefetch(self.replication_group, user)

    def _split(self) -> SplitResult:
        variable = self.url.variable if self.url.file is None else f"{self.url.variable}_FILE"
        try:
            parts = urlsplit(self.url.read())
            options = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
            usable = (
                parts.scheme in ("redis", "rediss")
                and all(host and port for host, port in map(address_of, _servers(parts)))
                # Anything else is probably the rest of a password that is not percent-encoded.
                and not parts.fragment
                and re.fullmatch("/?|/[0-9]+", parts.path)
                and all(re.fullmatch("[A-Za-z_][A-Za-z0-9_]*", name) for name, _ in options)
            )
        except ValueError:
            usable = None
        if not usable:
            # The string itself is not shown, because it contains the password.
            raise CacheSettingError(
                f"{variable} is not a connection string; write it as"
                " rediss://user:password@host:port/0?ssl_ca_certs=...&ssl_check_hostname=true"
            )
        names = [name for name, _ in options]
        if unknown := sorted({*names} - {*URL_OPTIONS}):
            raise CacheSettingError(
                f"{variable}: {', '.join(unknown)} cannot be set in the URL; remove it ({', '.join(URL_OPTIONS)} can)"
            )
        if wrong := sorted(name for name, value in options if not value or names.count(name) > 1):
            raise CacheSettingError(f"{variable}: {wrong[0]} is empty or given twice; give it one value")
        if len({*map(address_of, _servers(parts))}) < len(_servers(parts)):
            raise CacheSettingError(f"{variable} lists a server twice; list each server once")
        return parts


def address_of(server: str) -> tuple[str, int]:
    """Return the host, or "", and the port of host:port. Raises ValueError for an invalid port."""
    parts = urlsplit(f"//{server}")
    return parts.hostname or "", _DEFAULT_PORT if parts.port is None else parts.port


def _servers(parts: SplitResult) -> list[str]:
    """Return the servers of a URL as host:port. `SplitResult` supports only URLs with one server."""
    return parts.netloc.rpartition("@")[2].split(",")
