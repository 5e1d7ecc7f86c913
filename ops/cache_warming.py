"""Warms the cache of a stack, or of what the environment names, as role app."""

from __future__ import annotations

import asyncio
import os

from cache.settings import CacheSettings
from cache.url_source import UrlSource
from db import AsyncDataAccess
from db.errors import InvalidSetting
from db.settings import DatabaseSettings
from db.warming import Progress, Warming
from ops.database_url import resolve_database_url


def warm_from_here(stack: str, limit: int, rate: int, progress: Progress) -> dict[str, int]:
    """One run."""
    database = UrlSource("DATABASE_URL", InvalidSetting, resolve_database_url(None, role="app", stack=stack))
    cache = _cache_settings(stack)

    async def run() -> dict[str, int]:
        async with AsyncDataAccess(DatabaseSettings(database, pool_size=2), cache) as data:
            return await Warming(data, limit, rate, progress).run()

    return asyncio.run(run())


def _cache_settings(stack: str) -> CacheSettings:
    # What is read here is for others: nothing is kept in this process.
    environment = dict(os.environ) | {"GROUNDWORK_NEAR_CACHE_ENTRIES": "0"}
    if not (environment.get("REDIS_URL") or environment.get("REDIS_URL_FILE")):
        from ops.connections import environment_of

        environment["REDIS_URL"] = environment_of("app", stack)["REDIS_URL"]
    return CacheSettings.from_environment(environment)
