"""A Redis client whose calls take bounded time: no retries, short timeouts and a circuit breaker around redis-py."""

from __future__ import annotations

import logging
import secrets
from asyncio import sleep
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from time import perf_counter
from typing import Any, TypeVar

from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, OutOfMemoryError, RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.maint_notifications import MaintNotificationsConfig

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
    AsyncBackgroundTasks,
    AsyncRepeating,
    AsyncSemaphore,
    async_socket_seconds,
    async_time_limit,
)
from cache.timing import Budget
from cache.tls import AsyncPlainConnection, AsyncTlsConnection, connection_options
from cache.tracking import Tracking

_T = TypeVar("_T")
_logger = logging.getLogger("groundwork.cache")
_PROBE_SECONDS = 1.0


def packed(*parts: str) -> bytes:
    """Return an ASCII command in the RESP protocol. redis-py's encoder copies its buffer for every key."""
    body = "".join([f"${len(part)}\r\n{part}\r\n" for part in parts])
    # len() counts characters, RESP bytes: for ASCII these are the same.
    return f"*{len(parts)}\r\n{body}".encode("ascii")


class AsyncClient:
    """The Redis client of the cache. Its calls raise no other exception than CacheUnavailable.

    Creating it raises CacheSettingError for invalid settings. After a failure the breaker opens: calls fail at once,
    and a probe in the background checks once a second whether Redis has recovered.
    """

    def __init__(self, settings: CacheSettings) -> None:
        self._settings = settings
        self._timeout_seconds = settings.timeout_seconds
        self._nonce_key = epoch_nonce(settings.namespace)
        self.breaker = Breaker(self._nonce_key)
        self.background_tasks = AsyncBackgroundTasks()
        self.epoch = Epoch(self._invalidate_near)
        try:
            # Callers wait for a slot and not for this pool, which is never exhausted.
            pool = ConnectionPool(  # type: ignore[no-untyped-call,unused-ignore]
                **connection_options(settings.server_url(), AsyncTlsConnection, AsyncPlainConnection),
                credential_provider=UrlCredentials(settings),
                max_connections=settings.max_connections,
                socket_connect_timeout=settings.timeout_seconds,
                socket_timeout=async_socket_seconds(settings.timeout_seconds),
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
        self._semaphore = AsyncSemaphore(settings.max_connections)
        self._tracking: Tracking | None = None
        if settings.near_entries and settings.near_bytes:
            self.near = NearCache(settings.near_entries, settings.near_bytes, settings.near_ttl_seconds)
            self._tracking = Tracking(settings, self.near, self._nonce_key, self.epoch.doubt)
        self._probing = AsyncRepeating("cache-probe", _PROBE_SECONDS, self._probe)

    async def open(self) -> None:
        """Start connecting and probing in the background. Returns at once, even if the server is down."""
        self._settings.prefetch_token()
        CLIENTS.add(self)
        await self._probing.start()
        if self._tracking is not None:
            self._tracking.start()

    async def aclose(self) -> None:
        CLIENTS.remove(self)
        if self._tracking is not None:
            self._tracking.stop()
        await self.background_tasks.stop()
        await self._probing.stop()
        await self._redis.aclose()
        await self._pool.aclose()

    def state(self) -> ClientState:
        """Return what the metrics report of an open client."""
        entries, size = (0, 0) if self.near is None else self.near.size()
        return ClientState(self.breaker.is_open, entries, size)

    def budget(self, batches: int = 1) -> Budget:
        """Return the time budget of a read with this number of batches of keys, to be passed to each of its calls."""
        return Budget(self._timeout_seconds, batches)

    async def get(self, key: str) -> bytes | None:
        if self.epoch.is_overdue:
            await self._know_epoch()
        value: bytes | None = await self._call("get", partial(self._ask, "GET", key))
        return value

    async def get_many(self, keys: Sequence[str], budget: Budget | None = None) -> list[bytes | None]:
        """Return the values of keys in their order, with None for missing ones, in one round trip."""
        if self.epoch.is_overdue:
            await self._know_epoch(budget)
        values: list[bytes | None] = await self._call("mget", partial(self._ask, "MGET", *keys), budget)
        return values

    async def unlink(self, keys: Sequence[str]) -> None:
        """Delete keys, in one round trip."""
        await self._call("unlink", lambda: self._redis.unlink(*keys))

    async def run(
        self, script: LuaScript, keys: Sequence[str], arguments: Sequence[Any], budget: Budget | None = None
    ) -> Any:
        """Run a script and return its result. Loads the script if the server does not have it."""
        if self.epoch.is_overdue:
            await self._know_epoch(budget)

        async def attempt() -> Any:
            try:
                return await self._redis.evalsha(script.sha, len(keys), *keys, *arguments)
            except NoScriptError:
                await self._redis.script_load(script.source)
                return await self._redis.evalsha(script.sha, len(keys), *keys, *arguments)

        return await self._call(script.name, attempt, budget)

    async def run_many(
        self,
        script: LuaScript,
        calls: Sequence[tuple[Sequence[str], Sequence[Any]]],
        budget: Budget | None = None,
    ) -> list[Any]:
        """Run a script for many (keys, arguments) pairs in one round trip, and return the results."""
        if self.epoch.is_overdue:
            await self._know_epoch(budget)

        async def send() -> list[Any]:
            pipeline = self._redis.pipeline(transaction=False)
            for keys, arguments in calls:
                pipeline.evalsha(script.sha, len(keys), *keys, *arguments)
            answers: list[Any] = await pipeline.execute()
            return answers

        async def attempt() -> list[Any]:
            try:
                return await send()
            except NoScriptError:
                await self._redis.script_load(script.source)
                return await send()

        answers: list[Any] = await self._call(script.name, attempt, budget)
        return answers

    async def flush(self) -> None:
        """Flush a namespace of any size in one step, by starting a new epoch.

        This process uses the new epoch at once, other processes within RELIANCE_SECONDS.
        """
        nonce = secrets.token_hex(8)
        await self._call("flush", lambda: self._redis.set(self._nonce_key, nonce))
        self.epoch.doubt()
        await self._know_epoch()

    async def invalidate_entity(self, entity: str) -> None:
        """Flush all entries of one entity in one step. Returns after RELIANCE_SECONDS, when every process uses it."""
        arguments = (entity, secrets.token_hex(8), secrets.token_hex(8))
        try:
            await self.run(DRAW_ENTITY_NONCE, [self._nonce_key], arguments)
        except CacheUnavailable:
            # Deleting the nonce later flushes the whole namespace, because the next process creates a new one.
            self.breaker.owe(self._nonce_key, self._nonce_key)
            raise
        finally:
            self.epoch.doubt()
        await sleep(RELIANCE_SECONDS)

    async def _know_epoch(self, budget: Budget | None = None) -> None:
        await self._call("epoch", self._ask_epoch, budget)

    async def ping(self) -> None:
        """Send PING even if the breaker is open. Used by the readiness check and the probe."""
        await self._call("ping", lambda: self._redis.ping(), past_breaker=True)

    async def _call(
        self,
        operation: str,
        action: Callable[[], Awaitable[_T]],
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
        if not await self._semaphore.acquire(seconds):
            if budget is not None:
                budget.spend(queued)
            raise CacheUnavailable("every connection to Redis is busy")
        started = perf_counter()
        try:
            # Check again, because the breaker may have opened while this call waited for a slot.
            self._check_breaker(past_breaker)
            async with async_time_limit(seconds):
                return await action()
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

    async def _greet(self, connection: Any) -> None:
        """Log in on a new connection and read the epoch, before anything else is read from it."""
        try:
            await connection.on_connect()
            await self._learn_epoch(connection)
        except BaseException:
            # Pending answers must not be read as answers to later commands.
            await connection.disconnect()
            raise

    async def _ask(self, *command: str) -> Any:
        """Send one command and return the answer, without redis-py's client, which takes as long as Redis itself."""

        async def ask(connection: Any) -> Any:
            await connection.send_packed_command([packed(*command)], check_health=False)
            return await connection.read_response()

        return await self._with_connection(ask)

    async def _ask_epoch(self) -> None:
        """Read the epoch again, to notice a flush by another process or a change of the server's role."""
        await self._with_connection(self._learn_epoch)

    async def _with_connection(self, talk: Callable[[Any], Awaitable[_T]]) -> _T:
        connection = await self._pool.get_connection()
        try:
            return await talk(connection)
        except BaseException:
            # Pending answers must not be read as answers to later commands.
            await connection.disconnect()
            raise
        finally:
            await self._pool.release(connection)

    async def _learn_epoch(self, connection: Any) -> None:
        question = self.epoch.question()
        commands = [
            ("INFO", "server", "replication"),
            ("SET", self._nonce_key, secrets.token_hex(8), "NX"),
            ("GET", self._nonce_key),
        ]
        await connection.send_packed_command(connection.pack_commands(commands))
        information = await connection.read_response()
        try:
            await connection.read_response()
        except OutOfMemoryError:
            # An existing nonce is still valid.
            pass
        self.epoch.learn(question, information, await connection.read_response())

    def _invalidate_near(self) -> None:
        if self.near is not None:
            self.near.invalidate_all()

    async def _warm(self) -> None:
        """Open half of the connections one by one, because a burst of TLS handshakes would exceed the time limit."""
        connections = []
        acquired = 0
        try:
            for _ in range(self._warm_connections):
                if not await self._semaphore.acquire(self._timeout_seconds):
                    break
                acquired += 1
                async with async_time_limit(self._timeout_seconds):
                    connections.append(await self._pool.get_connection())
        except (RedisError, CacheSettingError, OSError, TimeoutError) as error:
            self._trip("connect", error)
        finally:
            for connection in connections:
                await self._pool.release(connection)
            for _ in range(acquired):
                self._semaphore.release()

    async def _probe(self) -> None:
        if not self.breaker.is_open:
            if not self._is_warm:
                self._is_warm = True
                await self._warm()
            with suppress(CacheUnavailable):
                await self._know_epoch()
            return
        owed = self.breaker.owed()
        try:
            await self.ping()
            for start in range(0, len(owed), 500):
                batch = [key for keys in owed[start : start + 500] for key in keys]
                await self._call("unlink", partial(self._redis.unlink, *batch), past_breaker=True)
        except CacheUnavailable:
            return
        if owed:
            # The nonce may be among the deleted keys.
            self.epoch.doubt()
        if self.breaker.settle(owed):
            _logger.info("Redis has recovered", extra={"invalidations_delivered": len(owed)})
