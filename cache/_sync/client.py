# Generated from cache/_async/client.py by scripts/generate_sync.py; edit that, not this.
"""A Redis client whose calls take bounded time: no retries, short timeouts and a circuit breaker around redis-py."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from time import perf_counter, sleep
from typing import Any, TypeVar

from redis import ConnectionPool, Redis
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, OutOfMemoryError, RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.maint_notifications import MaintNotificationsConfig
from redis.retry import Retry

from cache.breaker import Breaker
from cache.credentials import UrlCredentials
from cache.epoch import RELIANCE_SECONDS, Epoch
from cache.errors import CacheSettingError, CacheUnavailable
from cache.keys import epoch_nonce
from cache.metrics import CLIENTS, ERRORS, ClientState, call_seconds
from cache.near import NearCache
from cache.scripts import DRAW_ENTITY_NONCE, LuaScript
from cache.settings import CacheSettings
from cache.synchronization import (
    BackgroundTasks,
    Repeating,
    Semaphore,
    socket_seconds,
    time_limit,
)
from cache.timing import Budget
from cache.tls import PlainConnection, TlsConnection, connection_options
from cache.tracking import Tracking

_T = TypeVar("_T")
_logger = logging.getLogger("groundwork.cache")
_PROBE_SECONDS = 1.0


def packed(*parts: str) -> bytes:
    """Return an ASCII command in the RESP protocol. redis-py's encoder copies its buffer for every key."""
    body = "".join([f"${len(part)}\r\n{part}\r\n" for part in parts])
    # len() counts characters, RESP bytes: for ASCII these are the same.
    return f"*{len(parts)}\r\n{body}".encode("ascii")


class Client:
    """The Redis client of the cache. Its calls raise no other exception than CacheUnavailable.

    Creating it raises CacheSettingError for invalid settings. After a failure the breaker opens: calls fail at once,
    and a probe in the background checks once a second whether Redis has recovered.
    """

    def __init__(self, settings: CacheSettings) -> None:
        self._settings = settings
        self._timeout_seconds = settings.timeout_seconds
        self._nonce_key = epoch_nonce(settings.namespace)
        self.breaker = Breaker(self._nonce_key)
        self.background_tasks = BackgroundTasks()
        self.epoch = Epoch(self._invalidate_near)
        try:
            # Callers wait for a slot and not for this pool, which is never exhausted.
            pool = ConnectionPool(  # type: ignore[no-untyped-call,unused-ignore]
                **connection_options(settings.server_url(), TlsConnection, PlainConnection),
                credential_provider=UrlCredentials(settings),
                max_connections=settings.max_connections,
                socket_connect_timeout=settings.timeout_seconds,
                socket_timeout=socket_seconds(settings.timeout_seconds),
                socket_keepalive=True,
                # The default retries three times with backoff, and would repeat commands that are not idempotent.
                retry=Retry(NoBackoff(), 0),
                health_check_interval=0,
                # Redis 7.0 has no CLIENT SETINFO and CLIENT MAINT_NOTIFICATIONS, and the ACL does not allow them.
                driver_info=None,
                maint_notifications_config=MaintNotificationsConfig(enabled=False),
                redis_connect_func=self._greet,
            )
            # A connection checks its options when it is created. Create one here to report a wrong option now.
            pool.connection_class(**pool.connection_kwargs)
        except (TypeError, ValueError) as error:
            raise CacheSettingError(f"REDIS_URL: {error}") from error
        self.near: NearCache | None = None
        self._redis: Any = Redis(connection_pool=pool)
        self._pool: Any = pool
        self._warm_connections = max(1, settings.max_connections // 2)
        self._is_warm = False
        self._semaphore = Semaphore(settings.max_connections)
        self._tracking: Tracking | None = None
        if settings.near_entries and settings.near_bytes:
            self.near = NearCache(settings.near_entries, settings.near_bytes, settings.near_ttl_seconds)
            self._tracking = Tracking(settings, self.near, self._nonce_key, self.epoch.doubt)
        self._probing = Repeating("cache-probe", _PROBE_SECONDS, self._probe)

    def open(self) -> None:
        """Start connecting and probing in the background. Returns at once, even if the server is down."""
        self._settings.prefetch_token()
        CLIENTS.add(self)
        self._probing.start()
        if self._tracking is not None:
            self._tracking.start()

    def close(self) -> None:
        CLIENTS.remove(self)
        if self._tracking is not None:
            self._tracking.stop()
        self.background_tasks.stop()
        self._probing.stop()
        self._redis.close()
        self._pool.close()

    def state(self) -> ClientState:
        """Return what the metrics report of an open client."""
        entries, size = (0, 0) if self.near is None else self.near.size()
        return ClientState(self.breaker.is_open, entries, size)

    def budget(self, batches: int = 1) -> Budget:
        """Return the time budget of a read with this number of batches of keys, to be passed to each of its calls."""
        return Budget(self._timeout_seconds, batches)

    def get(self, key: str) -> bytes | None:
        if self.epoch.is_overdue:
            self._know_epoch()
        value: bytes | None = self._call("get", partial(self._ask, "GET", key))
        return value

    def get_many(self, keys: Sequence[str], budget: Budget | None = None) -> list[bytes | None]:
        """Return the values of keys in their order, with None for missing ones, in one round trip."""
        if self.epoch.is_overdue:
            self._know_epoch(budget)
        values: list[bytes | None] = self._call("mget", partial(self._ask, "MGET", *keys), budget)
        return values

    def unlink(self, keys: Sequence[str]) -> None:
        """Delete keys, in one round trip."""
        self._call("unlink", lambda: self._redis.unlink(*keys))

    def run(
        self, script: LuaScript, keys: Sequence[str], arguments: Sequence[Any], budget: Budget | None = None
    ) -> Any:
        """Run a script and return its result. Loads the script if the server does not have it."""
        if self.epoch.is_overdue:
            self._know_epoch(budget)

        def attempt() -> Any:
            try:
                return self._redis.evalsha(script.sha, len(keys), *keys, *arguments)
            except NoScriptError:
                self._redis.script_load(script.source)
                return self._redis.evalsha(script.sha, len(keys), *keys, *arguments)

        return self._call(script.name, attempt, budget)

    def run_many(
        self,
        script: LuaScript,
        calls: Sequence[tuple[Sequence[str], Sequence[Any]]],
        budget: Budget | None = None,
    ) -> list[Any]:
        """Run a script for many (keys, arguments) pairs in one round trip, and return the results."""
        if self.epoch.is_overdue:
            self._know_epoch(budget)

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

        answers: list[Any] = self._call(script.name, attempt, budget)
        return answers

    def flush(self) -> None:
        """Flush a namespace of any size in one step, by starting a new epoch.

        This process uses the new epoch at once, other processes within RELIANCE_SECONDS.
        """
        nonce = secrets.token_hex(8)
        self._call("flush", lambda: self._redis.set(self._nonce_key, nonce))
        self.epoch.doubt()
        self._know_epoch()

    def invalidate_entity(self, entity: str) -> None:
        """Flush all entries of one entity in one step. Returns after RELIANCE_SECONDS, when every process uses it."""
        arguments = (entity, secrets.token_hex(8), secrets.token_hex(8))
        try:
            self.run(DRAW_ENTITY_NONCE, [self._nonce_key], arguments)
        except CacheUnavailable:
            # Deleting the nonce later flushes the whole namespace, because the next process creates a new one.
            self.breaker.owe(self._nonce_key, self._nonce_key)
            raise
        finally:
            self.epoch.doubt()
        sleep(RELIANCE_SECONDS)

    def _know_epoch(self, budget: Budget | None = None) -> None:
        self._call("epoch", self._ask_epoch, budget)

    def ping(self) -> None:
        """Send PING even if the breaker is open. Used by the readiness check and the probe."""
        self._call("ping", lambda: self._redis.ping(), past_breaker=True)

    def _call(
        self,
        operation: str,
        action: Callable[[], _T],
        budget: Budget | None = None,
        *,
        past_breaker: bool = False,
    ) -> _T:
        self._check_breaker(past_breaker)
        seconds = self._timeout_seconds
        if budget is not None:
            if budget.left <= 0:
                raise CacheUnavailable("this read has used up its time for Redis")
            seconds = min(seconds, budget.left)
        queued = perf_counter()
        # Waiting for a slot does not mean that Redis is slow, so it does not open the breaker.
        if not self._semaphore.acquire(seconds):
            if budget is not None:
                budget.spend(queued)
            raise CacheUnavailable("every connection to Redis is busy")
        started = perf_counter()
        try:
            # Check again, because the breaker may have opened while this call waited for a slot.
            self._check_breaker(past_breaker)
            with time_limit(seconds):
                return action()
        except OutOfMemoryError as error:
            # Redis is full but works: reads and deletes succeed, so the breaker stays closed.
            ERRORS.labels(operation).inc()
            raise CacheUnavailable("Redis has no memory left to store this") from error
        except (RedisError, CacheSettingError, OSError, TimeoutError) as error:
            if seconds < self._timeout_seconds and isinstance(error, (TimeoutError, RedisTimeoutError)):
                # The call had less than the full time limit, so the timeout does not open the breaker.
                ERRORS.labels(operation).inc()
            else:
                self._trip(operation, error)
            raise CacheUnavailable(f"Redis: {type(error).__name__}") from error
        finally:
            self._semaphore.release()
            call_seconds(operation).observe(perf_counter() - started)
            if budget is not None:
                budget.spend(queued)

    def _check_breaker(self, past_breaker: bool) -> None:
        if self.breaker.is_open and not past_breaker:
            raise CacheUnavailable("Redis failed less than a second ago, or has not recovered since")

    def _trip(self, operation: str, error: Exception) -> None:
        ERRORS.labels(operation).inc()
        if self.breaker.trip():
            reason = str(error) or type(error).__name__
            _logger.warning(
                "Redis failed, so the breaker is open: %s", reason, extra={"operation": operation}
            )

    def _greet(self, connection: Any) -> None:
        """Log in on a new connection and read the epoch, before anything else is read from it."""
        try:
            connection.on_connect()
            self._learn_epoch(connection)
        except BaseException:
            # Pending answers must not be read as answers to later commands.
            connection.disconnect()
            raise

    def _ask(self, *command: str) -> Any:
        """Send one command and return the answer, without redis-py's client, which takes as long as Redis itself."""

        def ask(connection: Any) -> Any:
            connection.send_packed_command([packed(*command)], check_health=False)
            return connection.read_response()

        return self._with_connection(ask)

    def _ask_epoch(self) -> None:
        """Read the epoch again, to notice a flush by another process or a change of the server's role."""
        self._with_connection(self._learn_epoch)

    def _with_connection(self, talk: Callable[[Any], _T]) -> _T:
        connection = self._pool.get_connection()
        try:
            return talk(connection)
        except BaseException:
            # Pending answers must not be read as answers to later commands.
            connection.disconnect()
            raise
        finally:
            self._pool.release(connection)

    def _learn_epoch(self, connection: Any) -> None:
        question = self.epoch.question()
        commands = [
            ("INFO", "server", "replication"),
            ("SET", self._nonce_key, secrets.token_hex(8), "NX"),
            ("GET", self._nonce_key),
        ]
        connection.send_packed_command(connection.pack_commands(commands))
        information = connection.read_response()
        try:
            connection.read_response()
        except OutOfMemoryError:
            # An existing nonce is still valid.
            pass
        self.epoch.learn(question, information, connection.read_response())

    def _invalidate_near(self) -> None:
        if self.near is not None:
            self.near.invalidate_all()

    def _warm(self) -> None:
        """Open half of the connections one by one, because a burst of TLS handshakes would exceed the time limit."""
        connections = []
        acquired = 0
        try:
            for _ in range(self._warm_connections):
                if not self._semaphore.acquire(self._timeout_seconds):
                    break
                acquired += 1
                with time_limit(self._timeout_seconds):
                    connections.append(self._pool.get_connection())
        except (RedisError, CacheSettingError, OSError, TimeoutError) as error:
            self._trip("connect", error)
        finally:
            for connection in connections:
                self._pool.release(connection)
            for _ in range(acquired):
                self._semaphore.release()

    def _probe(self) -> None:
        if not self.breaker.is_open:
            if not self._is_warm:
                self._is_warm = True
                self._warm()
            with suppress(CacheUnavailable):
                self._know_epoch()
            return
        owed = self.breaker.owed()
        try:
            self.ping()
            for start in range(0, len(owed), 500):
                batch = [key for keys in owed[start : start + 500] for key in keys]
                self._call("unlink", partial(self._redis.unlink, *batch), past_breaker=True)
        except CacheUnavailable:
            return
        if owed:
            # The nonce may be among the deleted keys.
            self.epoch.doubt()
        if self.breaker.settle(owed):
            _logger.info("Redis has recovered", extra={"invalidations_delivered": len(owed)})
