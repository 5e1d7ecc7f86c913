"""A Redis client whose calls take bounded time: no retries, short timeouts and a circuit breaker around redis-py."""

from __future__ import annotations

import logging
import re
import secrets
from asyncio import sleep
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from time import perf_counter
from typing import Any, TypeVar
from urllib.parse import urlsplit
from warnings import warn

from redis.exceptions import NoScriptError, OutOfMemoryError, RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from cache._async.connections import SEARCH_SECONDS, AsyncConnections, is_wrong_type
from cache.breaker import Breaker
from cache.epoch import RELIANCE_SECONDS, Epoch
from cache.errors import CacheSettingError, CacheUnavailable
from cache.forking import register
from cache.keys import epoch_nonce
from cache.metrics import CLIENTS, ERRORS, ClientState, call_seconds
from cache.near import NearCache
from cache.primary import Primary
from cache.scripts import DRAW_ENTITY_NONCE, LuaScript
from cache.semaphores import AsyncSemaphore
from cache.settings import CacheSettings
from cache.synchronization import (
    AsyncBackgroundTasks,
    AsyncRepeating,
    async_time_limit,
    async_uninterrupted,
)
from cache.timing import Budget, budget_of_updates
from cache.tracking import Tracking

_T = TypeVar("_T")
_logger = logging.getLogger("groundwork.cache")
_PROBE_SECONDS = 1.0
_DELIVERIES = 20


def _nothing() -> None:
    return


class AsyncClient:
    """The Redis client of the cache. Its calls raise no other exception than CacheUnavailable.

    Creating it raises CacheSettingError for invalid settings. After a failure the breaker opens: calls fail at once,
    and a probe in the background checks once a second whether Redis has recovered. If REDIS_URL lists several servers,
    the breaker is open until the probe has found the primary.
    """

    def __init__(self, settings: CacheSettings) -> None:
        self._settings = settings
        self._timeout_seconds = settings.timeout_seconds
        self._nonce_key = epoch_nonce(settings.namespace)
        self.breaker = Breaker(self._nonce_key)
        self.background_tasks = AsyncBackgroundTasks()
        self.near: NearCache | None = None
        if settings.near_entries and settings.near_bytes:
            self.near = NearCache(settings.near_entries, settings.near_bytes, settings.near_ttl_seconds)
        # Nothing that outlives this client refers to it, so that one that is dropped is deleted at once.
        self.epoch = Epoch(_nothing if self.near is None else self.near.invalidate_all)
        self._primary = Primary([urlsplit(url).netloc for url in settings.server_urls()])
        if self._primary.is_searched:
            self.breaker.trip()
        self._connections = AsyncConnections(settings, self.epoch, self._primary)
        self._warm_connections = max(1, settings.max_connections // 2)
        self._is_warm = False
        self._semaphore = AsyncSemaphore(settings.max_connections)
        self._tracking = (
            None if self.near is None else Tracking(settings, self.near, self._primary, self.epoch.doubt)
        )
        self._probing = AsyncRepeating("cache-probe", _PROBE_SECONDS, self._probe)
        self._is_open = False
        # True in a forked child until its first call.
        self._is_forked = False
        register(self)

    async def open(self) -> None:
        """Start connecting and probing in the background. Returns at once, even if the server is down."""
        self._is_open = True
        self._settings.prefetch_token()
        CLIENTS.add(self)
        await self._start()

    async def _start(self) -> None:
        await self._probing.start()
        if self._tracking is not None:
            self._tracking.start()
        # Last, because a signal handler may raise above. Starting twice is harmless.
        self._is_forked = False

    async def aclose(self) -> None:
        """Close all connections and stop the background tasks, even if the task is cancelled."""
        self._is_forked = False
        CLIENTS.remove(self)
        if self._tracking is not None:
            self._tracking.stop()
        await async_uninterrupted(self._close)

    async def _close(self) -> None:
        try:
            await self.background_tasks.stop()
            await self._probing.stop()
        finally:
            # Nothing closes it again. Otherwise a late call would open a connection that nobody closes.
            self.breaker.trip()
            await self._connections.aclose()
            self._is_open = False

    def after_fork(self) -> None:
        """Start again at the child's first call."""
        self._is_warm = False
        self._is_forked = self._is_open

    def __del__(self) -> None:
        # The attribute does not exist if the constructor failed.
        if getattr(self, "_is_open", False) and not self._is_forked:
            self._probing.abandon()
            if self._tracking is not None:
                self._tracking.abandon()
            self._connections.abandon()
            # Last, because it raises if warnings are errors.
            message = "a cache client was not closed; use the data access as a context manager"
            warn(message, ResourceWarning, stacklevel=2)

    def state(self) -> ClientState:
        """Return what the metrics report of an open client."""
        entries, size = (0, 0) if self.near is None else self.near.size()
        return ClientState(self.breaker.is_open, entries, size)

    def budget(self, batches: int = 1, ends_at: float | None = None) -> Budget:
        """Return the time budget of a read with this number of batches of keys, to be passed to each of its calls.

        `ends_at` is the caller's own deadline (a monotonic value), if it has one.
        """
        return Budget(self._timeout_seconds, batches, ends_at)

    async def get(self, key: str, budget: Budget | None = None) -> bytes | None:
        if self.epoch.is_overdue:
            await self._know_epoch(budget)
        ask = partial(self._connections.ask, "GET", key)
        value: bytes | None = await self._call("get", partial(self._ask_for_strings, [key], ask), budget)
        return value

    async def get_many(self, keys: Sequence[str], budget: Budget | None = None) -> list[bytes | None]:
        """Return the values of keys in their order, with None for missing ones, in one round trip."""
        if self.epoch.is_overdue:
            await self._know_epoch(budget)
        values: list[bytes | None] = await self._call(
            "mget", partial(self._connections.ask, "MGET", *keys), budget
        )
        return values

    async def unlink(self, keys: Sequence[str], *, past_breaker: bool = False) -> None:
        """Delete keys, in one round trip."""
        await self._call("unlink", partial(self._connections.ask, "UNLINK", *keys), past_breaker=past_breaker)

    async def run(
        self, script: LuaScript, keys: Sequence[str], arguments: Sequence[Any], budget: Budget | None = None
    ) -> Any:
        """Run a script and return its result. Loads the script if the server does not have it."""
        answers = await self.run_many(script, [(keys, arguments)], budget)
        return answers[0]

    async def run_many(
        self,
        script: LuaScript,
        calls: Sequence[tuple[Sequence[str], Sequence[Any]]],
        budget: Budget | None = None,
    ) -> list[Any]:
        """Run a script for many (keys, arguments) pairs in one round trip, and return the results."""
        if self.epoch.is_overdue:
            await self._know_epoch(budget)
        commands = [("EVALSHA", script.sha, len(keys), *keys, *arguments) for keys, arguments in calls]

        async def attempt() -> list[Any]:
            try:
                return await self._connections.ask_many(commands)
            except NoScriptError:
                return (await self._connections.ask_many([("SCRIPT", "LOAD", script.source), *commands]))[1:]

        every_key = [key for keys, _ in calls for key in keys]
        return await self._call(script.name, partial(self._ask_for_strings, every_key, attempt), budget)

    async def _ask_for_strings(self, keys: Sequence[str], ask: Callable[[], Awaitable[_T]]) -> _T:
        """Ask Redis. If one of the keys contains another type than a string, delete all of them and ask again.

        Only another program can have written it. Deleting keys of the cache is an invalidation, which is always safe.
        """
        try:
            return await ask()
        except ResponseError as error:
            if not is_wrong_type(error):
                raise
        await self._connections.ask("UNLINK", *keys)
        return await ask()

    async def flush(self) -> None:
        """Flush a namespace of any size in one step, by starting a new epoch.

        This process uses the new epoch at once, other processes within RELIANCE_SECONDS.
        """
        nonce = secrets.token_hex(8)
        await self._call("flush", partial(self._connections.ask, "SET", self._nonce_key, nonce))
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
        await self._call("epoch", self._connections.ask_epoch, budget)

    async def ping(self) -> None:
        """Send PING even if the breaker is open. Used by the readiness check and the probe."""
        await self._call("ping", partial(self._connections.ask, "PING"), past_breaker=True)

    async def replicas(self) -> tuple[int, int]:
        """Return how many replicas follow the primary, and how many should, even if the breaker is open.

        Used by the readiness check. With a single server in REDIS_URL both are 0.
        """
        expected = len(self._settings.server_urls()) - 1
        if not expected:
            return 0, 0
        ask = partial(self._connections.ask, "INFO", "replication")
        found = re.search(rb"connected_slaves:(\d+)", await self._call("info", ask, past_breaker=True))
        return int(found[1]) if found else 0, expected

    async def _call(
        self,
        operation: str,
        action: Callable[[], Awaitable[_T]],
        budget: Budget | None = None,
        *,
        past_breaker: bool = False,
    ) -> _T:
        if self._is_forked:
            await self._start()
        self._check_breaker(past_breaker)
        seconds = self._timeout_seconds
        if budget is None:
            budget = budget_of_updates()
        if budget is not None:
            if budget.left <= 0:
                raise CacheUnavailable("this call has used up its time for Redis")
            seconds = min(seconds, budget.left)
        started = queued = perf_counter()
        held: list[object] = []
        # Released twice, because a signal handler may raise inside the first `finally`.
        try:
            try:
                # Waiting for a slot does not mean that Redis is slow, so it does not open the breaker.
                if not await self._semaphore.acquire(seconds, held):
                    raise CacheUnavailable("every connection to Redis is busy")
                started = perf_counter()
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
                if held:
                    call_seconds(operation).observe(perf_counter() - started)
                self._semaphore.release(held)
                if budget is not None:
                    budget.spend(queued)
        finally:
            self._semaphore.release(held)

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

    async def _warm(self, seconds: float) -> None:
        """Open half of the connections one by one, because a burst of TLS handshakes would exceed the time limit.

        `seconds` is the limit of each one.
        """
        held: list[object] = []
        connections = []
        try:
            for _ in range(self._warm_connections):
                if not await self._semaphore.acquire(self._timeout_seconds, held):
                    break
                async with async_time_limit(seconds):
                    connections.append(await self._connections.take(seconds))
        except (RedisError, CacheSettingError, OSError, TimeoutError) as error:
            self._trip("connect", error)
        finally:
            self._connections.put_back(connections)
            self._semaphore.release(held)

    async def _probe(self) -> float | None:
        """Check Redis. Return the seconds until the next check, or None for the usual interval."""
        if not self.breaker.is_open:
            if not self._is_warm:
                self._is_warm = True
                await self._warm(self._timeout_seconds)
            with suppress(CacheUnavailable):
                await self._know_epoch()
            return None
        try:
            if self._primary.is_searched:
                seconds = await self._connections.find_primary()
                if seconds:
                    return seconds
                # The epoch is that of the former primary, and no connection to the new primary is open.
                self.epoch.doubt()
                # No caller waits for these, because the breaker is open.
                await self._warm(SEARCH_SECONDS)
            await self.ping()
            await self._settle()
        except (CacheUnavailable, RedisError):
            pass
        return None

    async def _settle(self) -> None:
        """Deliver the pending invalidations, and close the breaker.

        Busy writers add more of them in the meantime, so there are several rounds.
        """
        delivered = 0
        for _ in range(_DELIVERIES):
            owed = self.breaker.owed()
            for start in range(0, len(owed), 500):
                batch = [key for keys in owed[start : start + 500] for key in keys]
                await self.unlink(batch, past_breaker=True)
            if owed:
                # The nonce may be among the deleted keys.
                self.epoch.doubt()
            delivered += len(owed)
            if self.breaker.settle(owed):
                _logger.info("Redis has recovered", extra={"invalidations_delivered": delivered})
                return
