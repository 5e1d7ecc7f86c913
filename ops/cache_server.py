"""The Redis that an operator's command means: REDIS_URL's, or the stack's as user ops; and its errors in one line."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from redis import ConnectionPool, Redis
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    ConnectionError,
    NoPermissionError,
    RedisError,
    TimeoutError,
)
from redis.maint_notifications import MaintNotificationsConfig
from redis.retry import Retry

from cache.credentials import UrlCredentials
from cache.errors import CacheSettingError
from cache.settings import CacheSettings
from cache.tls import PlainConnection, TlsConnection, connection_options
from infra.spec import redis_acl
from ops.errors import Exit, OpsError

# An operator waits longer than a caller of the data access.
_TIMEOUT_SECONDS = 5.0
_USERS = [user.name for user in redis_acl.LOCAL_USERS]


@dataclass(frozen=True)
class CacheServer:
    """A connection, made on first use, and which cache lies behind it. `stack` is None where REDIS_URL is set."""

    redis: Any
    namespace: str
    address: str
    stack: str | None

    @property
    def names(self) -> list[str]:
        """By what a human would know which one this is."""
        host = self.address.rpartition(":")[0]
        return [name for name in (self.stack, self.namespace, host) if name]

    def __str__(self) -> str:
        where = f"stack {self.stack!r}" if self.stack else f"Redis at {self.address}"
        return f"{where}, namespace {self.namespace!r}"


def names_its_redis() -> bool:
    """Whether the environment says which Redis is meant."""
    return bool(os.environ.get("REDIS_URL") or os.environ.get("REDIS_URL_FILE"))


def cache_settings(stack: str, role: str) -> CacheSettings:
    """Settings from the environment, or of a role of the stack. OpsError (2) for unusable ones, and as the stack's."""
    # What is read here is for others: nothing is kept in this process.
    environment = dict(os.environ) | {"GROUNDWORK_NEAR_CACHE_ENTRIES": "0"}
    if not names_its_redis():
        # Late, for it drives the stack's tools.
        from ops.connections import environment_of

        environment["REDIS_URL"] = environment_of(role, stack)["REDIS_URL"]
    try:
        settings = CacheSettings.from_environment(environment)
        settings.server_url()
    except CacheSettingError as error:
        raise OpsError(str(error), Exit.USAGE) from error
    return settings


@contextmanager
def open_cache_server(stack: str) -> Iterator[CacheServer]:
    """What REDIS_URL names, or the stack's as user ops; errors as those of `connected`."""
    with connected(cache_settings(stack, "ops"), None if names_its_redis() else stack) as server:
        yield server


@contextmanager
def connected(settings: CacheSettings, stack: str | None) -> Iterator[CacheServer]:
    """Within it every error of Redis is an OpsError: 6 where it is not reached or trusted, or refuses the login."""
    parts = urlsplit(settings.server_url())
    address = f"{parts.hostname}:{parts.port or 6379}"
    try:
        pool = ConnectionPool(  # type: ignore[no-untyped-call,unused-ignore]
            **connection_options(settings.server_url(), TlsConnection, PlainConnection),
            credential_provider=UrlCredentials(settings),
            socket_connect_timeout=_TIMEOUT_SECONDS,
            socket_timeout=_TIMEOUT_SECONDS,
            retry=Retry(NoBackoff(), 0),
            # CLIENT SETINFO and CLIENT MAINT_NOTIFICATIONS are not in Redis 7.0, nor in the ACL.
            driver_info=None,
            maint_notifications_config=MaintNotificationsConfig(enabled=False),
        )
        server: Any = Redis(connection_pool=pool)
        try:
            yield CacheServer(server, settings.namespace, address, stack)
        finally:
            server.close()
            pool.disconnect()
    except CacheSettingError as error:
        raise OpsError(str(error), Exit.USAGE) from error
    except AuthenticationError as error:
        user = (settings.credentials() or ("",))[0] if len(settings.credentials()) == 2 else "default"
        role = user if user in _USERS else "ops"
        raise OpsError(
            f"Redis at {address} refuses the login of user {user!r}; `groundwork env --role {role}` prints the"
            " stack's connection string as it is now",
            Exit.UNREACHABLE,
        ) from error
    except (ConnectionError, TimeoutError, OSError) as error:
        raise OpsError(f"Redis at {address} is not reached: {_reason(error)}", Exit.UNREACHABLE) from error
    except NoPermissionError as error:
        raise OpsError(f"Redis at {address}: {error}; this is for user ops") from error
    except RedisError as error:
        raise OpsError(f"Redis at {address}: {' '.join(str(error).split())}") from error


def require_cache(settings: CacheSettings) -> None:
    """Log in once, before the data access does, whose breaker says less. Errors as those of `connected`."""
    with connected(settings, None) as server:
        server.redis.ping()


def _reason(error: BaseException) -> str:
    """What the innermost of the errors says: redis-py wraps a certificate's in its own."""
    import ssl

    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"its certificate is not trusted: {cause.verify_message}"
        cause = cause.__cause__ or cause.__context__
    return " ".join(str(error).split()).rstrip(".")
