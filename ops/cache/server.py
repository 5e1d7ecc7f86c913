"""The Redis server of an operator's command: REDIS_URL's, or the stack's with user ops. Errors become one line."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit

from redis import ConnectionPool, Redis
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    ConnectionError,
    NoPermissionError,
    RedisError,
    TimeoutError,
)
from redis.retry import Retry

from cache.aws_login import PASSWORD
from cache.credentials import UrlCredentials
from cache.errors import CacheSettingError
from cache.keys import write_fence
from cache.settings import CacheSettings
from cache.tls import PlainConnection, TlsConnection, connection_options
from infra.spec import redis_acl
from infra.spec.checkout import is_checkout
from infra.spec.variables import source_variable
from ops.errors import Exit, OpsError
from ops.output import FULL_DISK, NO_READER

# Longer than the timeouts of the data access, because an operator can wait.
_TIMEOUT_SECONDS = 5.0
# Of what the command writes to. redis-py wraps what the operating system reports of Redis.
_OF_OUTPUT = FULL_DISK | NO_READER
_USERS = [user.name for user in redis_acl.LOCAL_USERS]


@dataclass(frozen=True)
class CacheServer:
    """A lazy connection to Redis, and the cache's name.

    `address` is that of the primary. `has_replicas` is True if the URL lists several servers. `stack` is None if
    no stack of this checkout has this Redis. `description` says which Redis this is, the user, and where the URL
    comes from.
    """

    redis: Any
    namespace: str
    address: str
    has_replicas: bool
    stack: str | None
    description: str

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
    return source_variable("REDIS_URL") is not None


def cache_settings(stack: str, role: str) -> CacheSettings:
    """Return the environment's settings, or those of a stack's role. Raise OpsError (2) if they are invalid."""
    environment = dict(os.environ)
    if not names_its_redis():
        if not is_checkout():
            raise OpsError("no Redis is given; set REDIS_URL in the environment", Exit.USAGE)
        environment |= _environment_of(role, stack)
    return _settings(environment)


def settings_of_stack(stack: str, role: str) -> CacheSettings:
    """Return the settings of a stack's role, whatever the environment says. Raise OpsError if the stack is not up."""
    return _settings(_environment_of(role, stack))


def _environment_of(role: str, stack: str) -> dict[str, str]:
    """Return REDIS_URL of a stack's role, and how the role logs in. Raise OpsError if the stack is not up."""
    # Imported late, because it loads the stack's tools.
    from ops.stack.connections import environment_of

    # A stack in Docker has passwords, whatever the shell says.
    return {"GROUNDWORK_CACHE_LOGIN": PASSWORD, **environment_of(role, stack)}


def _settings(environment: Mapping[str, str]) -> CacheSettings:
    # Without a near cache, because this process caches nothing for itself.
    environment = {**environment, "GROUNDWORK_NEAR_CACHE_ENTRIES": "0"}
    try:
        settings = CacheSettings.from_environment(environment)
        settings.server_urls()
    except CacheSettingError as error:
        raise OpsError(str(error), Exit.USAGE) from error
    return settings


def describe(settings: CacheSettings, stack: str) -> str:
    """Describe the Redis of `cache_settings`: address, user, namespace, and where the URL comes from."""
    return _description(settings, source_variable("REDIS_URL") or f"stack {stack!r}")


@contextmanager
def open_cache_server(stack: str) -> Iterator[CacheServer]:
    """Connect to REDIS_URL's Redis, or to the stack's, as user ops. Raises the errors of `connected`.

    If REDIS_URL is the URL of another user of a stack's Redis, the stack's own URL for ops is used: an application's
    variables may be set in the shell.
    """
    settings = cache_settings(stack, "ops")
    description = describe(settings, stack)
    owner = _stack_of(settings) if names_its_redis() else stack
    if owner and names_its_redis() and (own := _as_ops(settings, owner)):
        origin = f"stack {owner!r}, because user {_user(settings)!r} of REDIS_URL may not do this"
        settings, description = own, _description(own, origin)
    with connected(settings, owner, description) as server:
        yield server


def _stack_of(settings: CacheSettings) -> str | None:
    """Return the stack of this checkout that has this Redis, or None."""
    if not is_checkout():
        return None
    # Imported late, because it loads the stack's tools.
    from ops.stack.connections import stack_of_redis

    return stack_of_redis(frozenset(_address_of(url) for url in settings.server_urls()))


def _as_ops(settings: CacheSettings, stack: str) -> CacheSettings | None:
    """Return the stack's settings for user ops if `settings` are another user's of the same Redis, or None."""
    if _user(settings) == "ops":
        return None
    try:
        environment = {**os.environ, **_environment_of("ops", stack)}
    except OpsError:
        # There is no such stack, or it is not up.
        return None
    own = _settings({name: value for name, value in environment.items() if name != "REDIS_URL_FILE"})
    # On AWS the user of role ops has another name.
    is_another = _user(own) != _user(settings)
    return own if is_another and _address(own) == _address(settings) else None


def _description(settings: CacheSettings, origin: str) -> str:
    return f"{_address(settings)} as {_user(settings)}, namespace {settings.namespace!r}, from {origin}"


def _address(settings: CacheSettings) -> str:
    return ", ".join(_address_of(url) for url in settings.server_urls())


def _address_of(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.hostname}:{parts.port or 6379}"


def _user(settings: CacheSettings) -> str:
    return unquote(urlsplit(settings.url.read()).username or "default")


@contextmanager
def connected(settings: CacheSettings, stack: str | None, description: str = "") -> Iterator[CacheServer]:
    """Connect to the primary, and raise every Redis error as OpsError.

    The exit code is 6 if Redis is unreachable, untrusted, or rejects the login.
    """
    address = _address(settings)
    try:
        urls = settings.server_urls()
        url = urls[0] if len(urls) == 1 else _primary_of(urls, settings)
        address = _address_of(url)
        with _client(url, settings) as client:
            yield CacheServer(client, settings.namespace, address, len(urls) > 1, stack, description)
    except CacheSettingError as error:
        raise OpsError(str(error), Exit.USAGE) from error
    except AuthenticationError as error:
        user = _user(settings)
        role = user if user in _USERS else "ops"
        raise OpsError(
            f"Redis at {address} rejects the login of user {user!r}; get the stack's current connection string with"
            f" `groundwork env --role {role}{f' --stack {stack}' if stack else ''}`",
            Exit.UNREACHABLE,
        ) from error
    except (ConnectionError, TimeoutError, OSError) as error:
        if getattr(error, "errno", None) in _OF_OUTPUT:
            raise
        raise OpsError(f"cannot reach Redis at {address}: {_reason(error)}", Exit.UNREACHABLE) from error
    except NoPermissionError as error:
        raise OpsError(f"Redis at {address}: {error}; use user ops") from error
    except RedisError as error:
        raise OpsError(f"Redis at {address}: {' '.join(str(error).split())}") from error


@contextmanager
def _client(url: str, settings: CacheSettings) -> Iterator[Any]:
    pool = ConnectionPool(  # type: ignore[no-untyped-call,unused-ignore]
        **connection_options(url, TlsConnection, PlainConnection),
        credential_provider=UrlCredentials(settings),
        socket_connect_timeout=_TIMEOUT_SECONDS,
        socket_timeout=_TIMEOUT_SECONDS,
        retry=Retry(NoBackoff(), 0),
    )
    client: Any = Redis(connection_pool=pool)
    try:
        yield client
    finally:
        client.close()
        pool.disconnect()


def _primary_of(urls: Sequence[str], settings: CacheSettings) -> str:
    """Return the URL of the server that accepts writes. Raise OpsError (6) if there is none."""
    reasons = []
    for url in urls:
        try:
            with _client(url, settings) as client:
                client.unlink(write_fence(settings.namespace))
            return url
        except (AuthenticationError, NoPermissionError):
            # The others have the same users.
            raise
        except (RedisError, OSError) as error:
            reasons.append(f"{_address_of(url)}: {_reason(error)}")
    raise OpsError(
        f"no Redis server is a primary that accepts writes ({'; '.join(reasons)}); run the command again when the"
        " failover is over",
        Exit.UNREACHABLE,
    )


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
