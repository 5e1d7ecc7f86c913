"""The data access with one sync interface for its sync and its async form, so that one suite tests both."""

from __future__ import annotations

import asyncio
import inspect
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from prometheus_client import REGISTRY

from cache.errors import CacheSettingError
from cache.near import FRESH_SECONDS, MISS
from cache.settings import CacheSettings
from cache.url_source import UrlSource
from db import AsyncDataAccess, DataAccess
from db.errors import DbError, InvalidSetting
from db.settings import DatabaseSettings
from tests.containers import wait_until

FLAVOURS = ("sync", "async")
# The default time limit of a call to Redis, in seconds.
SHIPPED_TIMEOUT = CacheSettings.timeout_seconds


class Blocking:
    """Calls an async object on an event loop in another thread, and waits for the results."""

    def __init__(self, target: Any, loop: asyncio.AbstractEventLoop) -> None:
        self._target = target
        self._loop = loop

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._target, name)
        if inspect.iscoroutinefunction(value):
            return lambda *args, **kwargs: self._wait(value(*args, **kwargs))
        if type(value).__module__.startswith(("db.", "cache.")) and not callable(value):
            return Blocking(value, self._loop)
        return value

    def _wait(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()


def database_settings(url: str, **changes: Any) -> DatabaseSettings:
    return replace(DatabaseSettings(UrlSource("DATABASE_URL", InvalidSetting, url)), **changes)


def cache_settings(url: str, namespace: str, **changes: Any) -> CacheSettings:
    """Return settings with a long time limit, for busy machines. Tests of Redis faults pass `SHIPPED_TIMEOUT`."""
    changes = {"timeout_seconds": 2.0} | changes
    return replace(CacheSettings(UrlSource("REDIS_URL", CacheSettingError, url), namespace), **changes)


@contextmanager
def data_access(flavour: str, database: DatabaseSettings, cache: CacheSettings) -> Iterator[Any]:
    """Open a data access of this flavour, and yield it with sync methods."""
    if flavour == "sync":
        with DataAccess(database, cache) as data:
            yield data
        return
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    target = AsyncDataAccess(database, cache)
    try:
        asyncio.run_coroutine_threadsafe(target.__aenter__(), loop).result()
        try:
            yield Blocking(target, loop)
        finally:
            asyncio.run_coroutine_threadsafe(target.aclose(), loop).result()
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(timeout=5)
        loop.close()


def answers(data: Any) -> bool:
    """Return whether a read succeeds. On a busy machine the first connections can take longer than a short deadline."""
    try:
        data.users.find(1)
    except DbError:
        return False
    return True


def heard_until(data: Any) -> float:
    """Return the time (monotonic) up to which the near cache has received all invalidations."""
    return float(data.cache.near.fresh_until - FRESH_SECONDS)


def wait_until_near(data: Any, user_id: int) -> None:
    """Read a user until it is in the near cache, after the invalidation by its own fill has arrived."""

    def is_held() -> bool:
        data.users.get(user_id)
        return data.users.cached.peek(user_id) is not MISS

    wait_until(is_held, 60)
    filled_at = time.monotonic()
    wait_until(lambda: heard_until(data) > filled_at, 60)
    wait_until(is_held, 60)


def replica_reads(outcome: str) -> float:
    """Return how many reads in `reading()` have had this outcome in this process."""
    return REGISTRY.get_sample_value("groundwork_db_replica_reads_total", {"outcome": outcome}) or 0.0
