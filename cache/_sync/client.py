# Generated from cache/_async/client.py by scripts/generate_sync.py; edit that, not this.
"""redis-py, held so that it answers in bounded time or not at all: no retries, short timeouts, a breaker."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from time import perf_counter
from typing import Any, TypeVar

from redis import BlockingConnectionPool, Redis
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, OutOfMemoryError, RedisError
from redis.maint_notifications import MaintNotificationsConfig
from redis.retry import Retry

from cache.breaker import Breaker
from cache.credentials import UrlCredentials
from cache.errors import CacheError, CacheSettingError, CacheUnavailable
from cache.metrics import CALL_SECONDS, ERRORS
from cache.repeating import Repeating
from cache.scripts import Script
from cache.settings import CacheSettings
from cache.time_limit import time_limit

_T = TypeVar("_T")
_logger = logging.getLogger("groundwork.cache")
_PROBE_SECONDS = 1.0


class Client:
    """The few things the cache asks of Redis. Every method raises CacheUnavailable and nothing else."""

    def __init__(self, settings: CacheSettings) -> None:
        self._timeout_seconds = settings.timeout_seconds
        self.breaker = Breaker()
        try:
            pool = BlockingConnectionPool.from_url(
                settings.server_url(),
                credential_provider=UrlCredentials(settings),
                max_connections=settings.max_connections,
                timeout=settings.timeout_seconds / 2,
                socket_connect_timeout=settings.timeout_seconds,
                socket_timeout=settings.timeout_seconds,
                socket_keepalive=True,
                # The default retries three times, with backoff, and would send an INCR twice.
                retry=Retry(NoBackoff(), 0),
                health_check_interval=0,
                # CLIENT SETINFO and CLIENT MAINT_NOTIFICATIONS are not in Redis 7.0, nor in the ACL.
                driver_info=None,
                maint_notifications_config=MaintNotificationsConfig(enabled=False),
            )
        except (TypeError, ValueError) as error:
            raise CacheSettingError(f"REDIS_URL: {error}") from error
        self._redis: Any = Redis(connection_pool=pool)
        self._pool = pool
        self._probing = Repeating("cache-probe", _PROBE_SECONDS, self._probe)

    def open(self) -> None:
        """Start probing; connections are made when they are needed."""
        self._probing.start()

    def close(self) -> None:
        self._probing.stop()
        self._redis.close()
        self._pool.close()

    def get(self, key: str) -> bytes | None:
        value: bytes | None = self._call("get", lambda: self._redis.get(key))
        return value

    def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        """The values of keys, in their order, in one round trip."""
        values: list[bytes | None] = self._call("mget", lambda: self._redis.mget(keys))
        return values

    def run(self, script: Script, keys: Sequence[str], arguments: Sequence[Any]) -> Any:
        """What a script returns; it is loaded where the server does not know it."""

        def attempt() -> Any:
            try:
                return self._redis.evalsha(script.sha, len(keys), *keys, *arguments)
            except NoScriptError:
                self._redis.script_load(script.source)
                return self._redis.evalsha(script.sha, len(keys), *keys, *arguments)

        return self._call(script.name, attempt)

    def run_many(self, script: Script, calls: Sequence[tuple[Sequence[str], Sequence[Any]]]) -> list[Any]:
        """A script's answers for many keys and arguments, in one round trip."""

        def send() -> list[Any]:
            pipeline = self._redis.pipeline(transaction=False)
            for keys, arguments in calls:
                pipeline.evalsha(script.sha, len(keys), *keys, *arguments)
            answers: list[Any] = pipeline.execute()
            return answers

        def attempt() -> list[Any]:
            try:
                return send()
            except NoScriptError:
                self._redis.script_load(script.source)
                return send()

        answers: list[Any] = self._call(script.name, attempt)
        return answers

    def delete(self, keys: Sequence[str]) -> None:
        self._call("unlink", lambda: self._redis.unlink(*keys))

    def ping(self) -> None:
        """Ask Redis for a sign of life, past the breaker: what readiness and the probe look at."""
        self._guarded("ping", lambda: self._redis.ping())

    def _call(self, operation: str, action: Callable[[], _T]) -> _T:
        if self.breaker.is_open:
            raise CacheUnavailable("Redis failed less than a second ago, or has not recovered since")
        return self._guarded(operation, action)

    def _guarded(self, operation: str, action: Callable[[], _T]) -> _T:
        started = perf_counter()
        try:
            with time_limit(self._timeout_seconds):
                return action()
        except OutOfMemoryError as error:
            # Full, but well: it still reads and deletes.
            ERRORS.labels(operation).inc()
            raise CacheUnavailable("Redis has no memory left to store this") from error
        except (RedisError, CacheError, OSError, TimeoutError) as error:
            ERRORS.labels(operation).inc()
            if self.breaker.trip():
                reason = str(error) or type(error).__name__
                _logger.warning("Redis is left alone: %s", reason, extra={"operation": operation})
            raise CacheUnavailable(f"Redis: {type(error).__name__}") from error
        finally:
            CALL_SECONDS.labels(operation).observe(perf_counter() - started)

    def _probe(self) -> None:
        if not self.breaker.is_open:
            return
        owed = self.breaker.owed()
        try:
            self.ping()
            for start in range(0, len(owed), 500):
                batch = [key for keys in owed[start : start + 500] for key in keys]
                self._guarded("unlink", partial(self._redis.unlink, *batch))
        except CacheUnavailable:
            return
        if self.breaker.settle(owed):
            _logger.info("Redis is well again", extra={"invalidations_delivered": len(owed)})
