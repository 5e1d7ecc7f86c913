# Generated from cache/_async/client.py by scripts/generate_sync.py; edit that, not this.
"""redis-py, held so that it answers in bounded time or not at all: no retries, short timeouts, a breaker."""

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
from cache.budget import Budget
from cache.command import packed
from cache.credentials import UrlCredentials
from cache.epoch import RELIANCE_SECONDS, Epoch
from cache.errands import Errands
from cache.errors import CacheSettingError, CacheUnavailable
from cache.keys import epoch_nonce
from cache.metrics import CLIENTS, ERRORS, call_seconds
from cache.near import NearCache
from cache.repeating import Repeating
from cache.scripts import DRAW_ENTITY_NONCE, Script
from cache.settings import CacheSettings
from cache.slots import Slots
from cache.time_limit import socket_seconds, time_limit
from cache.tls import PlainConnection, TlsConnection, connection_options
from cache.tracking import Tracking

_T = TypeVar("_T")
_logger = logging.getLogger("groundwork.cache")
_PROBE_SECONDS = 1.0


class Client:
    """The few things the cache asks of Redis. Every method raises CacheUnavailable and nothing else."""

    def __init__(self, settings: CacheSettings) -> None:
        self._settings = settings
        self._timeout_seconds = settings.timeout_seconds
        self._nonce_key = epoch_nonce(settings.namespace)
        self.breaker = Breaker(self._nonce_key)
        self.errands = Errands()
        self.epoch = Epoch(self._forget_near)
        try:
            # Callers wait for a place among the slots, not here: it never has to say that it is exhausted.
            pool = ConnectionPool(  # type: ignore[no-untyped-call,unused-ignore]
                **connection_options(settings.server_url(), TlsConnection, PlainConnection),
                credential_provider=UrlCredentials(settings),
                max_connections=settings.max_connections,
                socket_connect_timeout=settings.timeout_seconds,
                socket_timeout=socket_seconds(settings.timeout_seconds),
                socket_keepalive=True,
                # The default retries three times, with backoff, and would send an INCR twice.
                retry=Retry(NoBackoff(), 0),
                health_check_interval=0,
                # CLIENT SETINFO and CLIENT MAINT_NOTIFICATIONS are not in Redis 7.0, nor in the ACL.
                driver_info=None,
                maint_notifications_config=MaintNotificationsConfig(enabled=False),
                redis_connect_func=self._greet,
            )
            # A connection takes its options when it is made; made once here, a wrong one is told at once.
            pool.connection_class(**pool.connection_kwargs)
        except (TypeError, ValueError) as error:
            raise CacheSettingError(f"REDIS_URL: {error}") from error
        self.near: NearCache | None = None
        self._redis: Any = Redis(connection_pool=pool)
        self._pool: Any = pool
        self._warm_connections = max(1, settings.max_connections // 2)
        self._is_warm = False
        self._slots = Slots(settings.max_connections)
        self._tracking: Tracking | None = None
        if settings.near_entries and settings.near_bytes:
            self.near = NearCache(settings.near_entries, settings.near_bytes, settings.near_ttl_seconds)
            self._tracking = Tracking(settings, self.near, self._nonce_key, self.epoch.doubt)
        self._probing = Repeating("cache-probe", _PROBE_SECONDS, self._probe)

    def open(self) -> None:
        """Start connecting and probing; returns at once, whether or not the server is there."""
        self._settings.prefetch_token()
        CLIENTS.add(self)
        self._probing.start()
        if self._tracking is not None:
            self._tracking.start()

    def close(self) -> None:
        CLIENTS.remove(self)
        if self._tracking is not None:
            self._tracking.stop()
        self.errands.stop()
        self._probing.stop()
        self._redis.close()
        self._pool.close()

    def budget(self, batches: int = 1) -> Budget:
        """What a read of so many batches of keys may spend here: each of its calls is given it."""
        return Budget(self._timeout_seconds, batches)

    def get(self, key: str) -> bytes | None:
        if self.epoch.is_overdue:
            self._know_epoch()
        value: bytes | None = self._call("get", partial(self._ask, "GET", key))
        return value

    def get_many(self, keys: Sequence[str], budget: Budget | None = None) -> list[bytes | None]:
        """The values of keys, in their order, in one round trip."""
        if self.epoch.is_overdue:
            self._know_epoch(budget)
        values: list[bytes | None] = self._call("mget", partial(self._ask, "MGET", *keys), budget)
        return values

    def unlink(self, keys: Sequence[str]) -> None:
        """Delete keys, in one round trip."""
        self._call("unlink", lambda: self._redis.unlink(*keys))

    def run(
        self, script: Script, keys: Sequence[str], arguments: Sequence[Any], budget: Budget | None = None
    ) -> Any:
        """What a script returns; it is loaded where the server does not know it."""
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
        script: Script,
        calls: Sequence[tuple[Sequence[str], Sequence[Any]]],
        budget: Budget | None = None,
    ) -> list[Any]:
        """A script's answers for many keys and arguments, in one round trip."""
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
        """Have everything in the namespace forgotten, whatever its size: its entries are of a past epoch then.

        By this process at once, by others within RELIANCE_SECONDS: those with a near cache are told, the rest ask.
        """
        nonce = secrets.token_hex(8)
        self._call("flush", lambda: self._redis.set(self._nonce_key, nonce))
        self.epoch.doubt()
        self._know_epoch()

    def forget_entity(self, entity: str) -> None:
        """Have everything of one entity forgotten, whatever its size. Returns when every process has noticed."""
        arguments = (entity, secrets.token_hex(8), secrets.token_hex(8))
        try:
            self.run(DRAW_ENTITY_NONCE, [self._nonce_key], arguments)
        except CacheUnavailable:
            # Without a nonce the next one to ask draws it anew, and all the entities' with it.
            self.breaker.owe(self._nonce_key, self._nonce_key)
            raise
        finally:
            self.epoch.doubt()
        sleep(RELIANCE_SECONDS)

    def _know_epoch(self, budget: Budget | None = None) -> None:
        self._call("epoch", self._ask_epoch, budget)

    def ping(self) -> None:
        """Ask Redis for a sign of life, past the breaker: what readiness and the probe look at."""
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
                raise CacheUnavailable("this read has waited for Redis as long as it may")
            seconds = min(seconds, budget.left)
        queued = perf_counter()
        # Queueing is this process's own affair: it is bounded, and says nothing of Redis.
        if not self._slots.take(seconds):
            if budget is not None:
                budget.spend(queued)
            raise CacheUnavailable("every connection to Redis is busy")
        started = perf_counter()
        try:
            # Again, for whoever queued behind the call that found Redis ill.
            self._check_breaker(past_breaker)
            with time_limit(seconds):
                return action()
        except OutOfMemoryError as error:
            # Full, but well: it still reads and deletes.
            ERRORS.labels(operation).inc()
            raise CacheUnavailable("Redis has no memory left to store this") from error
        except (RedisError, CacheSettingError, OSError, TimeoutError) as error:
            if seconds < self._timeout_seconds and isinstance(error, (TimeoutError, RedisTimeoutError)):
                # It was given less than what makes Redis an ill one.
                ERRORS.labels(operation).inc()
            else:
                self._trip(operation, error)
            raise CacheUnavailable(f"Redis: {type(error).__name__}") from error
        finally:
            self._slots.give()
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
            _logger.warning("Redis is left alone: %s", reason, extra={"operation": operation})

    def _greet(self, connection: Any) -> None:
        """Log in on a new connection, and learn the epoch before anything is read from it."""
        try:
            connection.on_connect()
            self._learn_epoch(connection)
        except BaseException:
            # Half a greeting: the answers still under way are nobody's.
            connection.disconnect()
            raise

    def _ask(self, *command: str) -> Any:
        """The answer to one command: what redis-py's own client does beside that takes as long as Redis does."""

        def ask(connection: Any) -> Any:
            connection.send_packed_command([packed(*command)], check_health=False)
            return connection.read_response()

        return self._with_connection(ask)

    def _ask_epoch(self) -> None:
        """What a connection that lasts would miss: a flush by another, a server that changed its role."""
        self._with_connection(self._learn_epoch)

    def _with_connection(self, talk: Callable[[Any], _T]) -> _T:
        connection = self._pool.get_connection()
        try:
            return talk(connection)
        except BaseException:
            # Answers still under way are nobody's.
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
            # The nonce that is there, if one is, counts all the same.
            pass
        self.epoch.learn(question, information, connection.read_response())

    def _forget_near(self) -> None:
        if self.near is not None:
            self.near.invalidate_all()

    def _warm(self) -> None:
        """Make half of the connections one by one: a burst of TLS handshakes would exceed the time limit."""
        connections = []
        slots = 0
        try:
            for _ in range(self._warm_connections):
                if not self._slots.take(self._timeout_seconds):
                    break
                slots += 1
                with time_limit(self._timeout_seconds):
                    connections.append(self._pool.get_connection())
        except (RedisError, CacheSettingError, OSError, TimeoutError) as error:
            self._trip("connect", error)
        finally:
            for connection in connections:
                self._pool.release(connection)
            for _ in range(slots):
                self._slots.give()

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
            # The nonce may have been among them.
            self.epoch.doubt()
        if self.breaker.settle(owed):
            _logger.info("Redis is well again", extra={"invalidations_delivered": len(owed)})
