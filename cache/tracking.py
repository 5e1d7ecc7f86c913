"""Receive invalidations from Redis, in a thread with a connection that has CLIENT TRACKING in broadcast mode.

Async clients use a thread too, because a busy event loop must not delay invalidations. The push handler is set on
redis-py's parser, a private API that tests/unit/cache/test_driver_contracts.py checks.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from time import monotonic
from typing import Any

from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from cache.credentials import UrlCredentials
from cache.errors import CacheSettingError
from cache.forking import abandon, connecting, register
from cache.keys import VALUE_PREFIX, epoch_nonce, write_fence
from cache.near import NearCache
from cache.primary import Primary
from cache.settings import CacheSettings
from cache.synchronization import Completion
from cache.tls import PlainConnection, TlsConnection, connection_options, redis_descriptor

_logger = logging.getLogger("groundwork.cache.near")
# Invalidations are processed when a reply is read. With each reply come all that preceded it.
_ASK_SECONDS = 0.1
# After this time without a reply, the connection is closed and the near cache cleared.
_LATE_SECONDS = 0.5
_RETRY_SECONDS = 1.0


class Tracking:
    """Keeps a near cache current. Without a connection the near cache is disabled and empty."""

    def __init__(
        self, settings: CacheSettings, near: NearCache, primary: Primary, on_flush: Callable[[], None]
    ) -> None:
        """`on_flush` is called when the nonce of the epoch may have been replaced."""
        self._settings = settings
        self._near = near
        self._primary = primary
        self._nonce_key = epoch_nonce(settings.namespace)
        self._fence_key = write_fence(settings.namespace)
        self._on_flush = on_flush
        self._stopped = Completion()
        self._thread: threading.Thread | None = None
        self._has_failed = False
        # For a forked child, which must give up its socket.
        self._connection: Any = None
        register(self)

    def start(self) -> None:
        """Start, unless it has started."""
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(
                target=self._run, args=(self._stopped,), name="cache-tracking", daemon=True
            )
            self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        if self._thread is not None:
            self._thread.join(timeout=2 * _LATE_SECONDS)

    def abandon(self) -> None:
        """Stop without waiting."""
        self._stopped.set()

    def after_fork(self) -> None:
        if self._connection is not None:
            abandon(self._connection, redis_descriptor(self._connection))
        self._connection = self._thread = None
        self._has_failed = False
        # The parent may be stopping.
        self._stopped = Completion()

    def _run(self, stopped: Completion) -> None:
        while not stopped.is_set():
            server = self._primary.index
            if server is None:
                stopped.wait(_RETRY_SECONDS)
                continue
            try:
                self._connection = self._connect(server)
                self._follow(self._connection, stopped)
            except (RedisError, CacheSettingError, OSError) as error:
                if not self._has_failed:
                    _logger.warning("the near cache is off: %s", type(error).__name__)
                self._has_failed = True
            except Exception:
                _logger.exception("the near cache is off")
            finally:
                self._near.disable()
                self._near.report()
                connection, self._connection = self._connection, None
                if connection is not None:
                    connection.disconnect()
            stopped.wait(_RETRY_SECONDS)

    def _connect(self, server: int) -> Any:
        options = connection_options(self._settings.server_urls()[server], TlsConnection, PlainConnection)
        make = options.pop("connection_class")
        connection = make(
            **options,
            credential_provider=UrlCredentials(self._settings),
            protocol=3,
            socket_connect_timeout=_LATE_SECONDS,
            socket_timeout=_LATE_SECONDS,
            socket_keepalive=True,
            retry=Retry(NoBackoff(), 0),
            health_check_interval=0,
        )
        with connecting():
            connection.connect()
        connection._parser.set_invalidation_push_handler(self._hear)
        return connection

    def _follow(self, connection: Any, stopped: Completion) -> None:
        prefix = f"{VALUE_PREFIX}:{self._settings.namespace}:"
        followed = ("PREFIX", prefix, "PREFIX", self._nonce_key)
        _ask(connection, "CLIENT", "TRACKING", "ON", "BCAST", *followed, "NOLOOP")
        # The nonce may have been replaced while this was not connected.
        self._on_flush()
        self._near.enable()
        if self._has_failed:
            _logger.info("the near cache is on again")
        self._has_failed = False
        while not stopped.is_set():
            asked_at = monotonic()
            # Not PING, because a server that accepts no writes no longer gets the invalidations either.
            _ask(connection, "UNLINK", self._fence_key)
            self._near.confirm(asked_at)
            self._near.report()
            stopped.wait(_ASK_SECONDS)

    def _hear(self, push: list[Any]) -> None:
        """Process a push: ["invalidate", keys]. None for the keys means that all were deleted."""
        try:
            if push[1] is None or self._nonce_key.encode() in push[1]:
                # In this order, so that a read in between has an outdated epoch and is not stored.
                self._on_flush()
                self._near.invalidate_all()
            else:
                self._near.invalidate_keys(push[1])
        except Exception:
            # redis-py would only log the error, and a stale entry would stay.
            self._near.invalidate_all()
            raise


def _ask(connection: Any, *command: str) -> None:
    connection.send_command(*command)
    answer = connection.read_response()
    if isinstance(answer, Exception):
        raise answer
