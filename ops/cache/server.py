"""The Redis server of an operator's command: REDIS_URL's, or the stack's with user ops. Errors become one line."""

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

# Longer than the timeouts of the data access, because an operator can wait.
_TIMEOUT_SECONDS = 5.0
_USERS = [user.name for user in redis_acl.LOCAL_USERS]


@dataclass(frozen=True)
class CacheServer:
    """A lazy connection to Redis, and the cache's name. `stack` is None if REDIS_URL is set."""

    redis: Any
    namespace: str
    address: str
    stack: str | None

    @property
    def names(self) -> list[str]:
        """The names by which an operator recognizes this cache."""
        host = self.address.rpartition(":")[0]
        return [name for name in (self.stack, self.namespace, host) if name]

    def __str__(self) -> str:
        where = f"stack {self.stack!r}" if self.stack else f"Redis at {self.address}"
        return f"{where}, namespace {self.namespace!r}"


def names_its_redis() -> bool:
    """Return whether the environment selects a Redis server."""
    return bool(os.environ.get("REDIS_URL") or os.environ.get("REDIS_URL_FILE"))


def cache_settings(stack: str, role: str) -> CacheSettings:
    """Return the environment's settings, or those of a stack's role. Raise OpsError (2) if they are invalid."""
    # Without a near cache, because this process caches nothing for itself.
    environment = dict(os.environ) | {"GROUNDWORK_NEAR_CACHE_ENTRIES": "0"}
    if not names_its_redis():
        # Imported late, because it loads the stack's tools.
        from ops.stack.connections import environment_of

        environment["REDIS_URL"] = environment_of(role, stack)["REDIS_URL"]
    try:
        settings = CacheSettings.from_environment(environment)
        settings.server_url()
    except CacheSettingError as error:
        raise OpsError(str(error), Exit.USAGE) from error
    return settings


@contextmanager
def open_cache_server(stack: str) -> Iterator[CacheServer]:
    """Connect to REDIS_URL's Redis, or to the stack's with user ops. Raises the errors of `connected`."""
    with connected(cache_settings(stack, "ops"), None if names_its_redis() else stack) as server:
        yield server


@contextmanager
def connected(settings: CacheSettings, stack: str | None) -> Iterator[CacheServer]:
    """Connect, and raise every Redis error as OpsError: 6 if Redis is unreachable, untrusted, or rejects the login."""
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
            f"Redis at {address} rejects the login of user {user!r}; get the stack's current connection string with"
            f" `groundwork env --role {role}`",
            Exit.UNREACHABLE,
        ) from error
    except (ConnectionError, TimeoutError, OSError) as error:
        raise OpsError(f"cannot reach Redis at {address}: {_reason(error)}", Exit.UNREACHABLE) from error
    except NoPermissionError as error:
        raise OpsError(f"Redis at {address}: {error}; use user ops") from error
    except RedisError as error:
        raise OpsError(f"Redis at {address}: {' '.join(str(error).split())}") from error


def require_cache(settings: CacheSettings) -> None:
    """Log in once before the data access does, whose breaker hides the reason. Raises the errors of `connected`."""
    with connected(settings, None) as server:
        server.redis.ping()


def _reason(error: BaseException) -> str:
    """Return the innermost error's message: redis-py wraps a certificate error in its own."""
    import ssl

    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"its certificate is not trusted: {cause.verify_message}"
        cause = cause.__cause__ or cause.__context__
    return " ".join(str(error).split()).rstrip(".")
