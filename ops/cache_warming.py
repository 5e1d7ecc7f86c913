"""Warms the cache of a stack, or of what the environment names, as role app."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from cache.errors import CacheUnavailable
from cache.url_source import UrlSource
from db import AsyncDataAccess
from db.errors import InvalidSetting, Unavailable
from db.settings import DatabaseSettings
from db.warming import Progress, Warming
from ops.cache_server import cache_settings, require_cache
from ops.database_url import require_database, resolve_database_url
from ops.errors import Exit, OpsError

_TIMEOUT_SECONDS = 2.0


def warm_from_here(stack: str, limit: int, rate: int, progress: Progress) -> dict[str, int]:
    """One run: how many of each kind are cached now. OpsError (6) where Postgres or Redis does not answer."""
    # A batch takes longer than a caller would wait, and nobody waits for this.
    cache = replace(cache_settings(stack, "app"), timeout_seconds=_TIMEOUT_SECONDS)
    url = resolve_database_url(None, role="app", stack=stack)
    try:
        require_database(url)
        require_cache(cache)
    except OpsError as error:
        # A flush that is done already may stand before it.
        raise OpsError(f"the cache is not warm: {error}", error.exit_code) from error
    database = UrlSource("DATABASE_URL", InvalidSetting, url)

    async def run() -> dict[str, int]:
        async with AsyncDataAccess(DatabaseSettings(database, pool_size=2), cache) as data:
            return await Warming(data, limit, rate, progress).run()

    try:
        return asyncio.run(run())
    except (CacheUnavailable, Unavailable) as error:
        raise OpsError(f"the cache is not warm: {error}; run it again", Exit.UNREACHABLE) from error
