"""Warm the cache of a stack, or of the servers that the environment names, with role app."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from cache.errors import CacheUnavailable
from cache.url_source import UrlSource
from db import AsyncDataAccess
from db.errors import InvalidSetting, Unavailable
from db.settings import DatabaseSettings
from db.warming import Progress, Warming
from ops.cache.server import cache_settings, describe, require_cache
from ops.errors import Exit, OpsError
from ops.output import print_line
from ops.stack.database_url import require_database, resolve_database_url

_TIMEOUT_SECONDS = 10.0


def warm_from_here(stack: str, limit: int, rate: int, progress: Progress) -> dict[str, int]:
    """Warm the cache once, and return how many records of each kind are cached. Raise OpsError (6) if Postgres or
    Redis does not answer.
    """
    # A batch takes longer than a request may, and no request waits for it. A busy machine takes seconds.
    cache = replace(cache_settings(stack, "app"), timeout_seconds=_TIMEOUT_SECONDS)
    print_line(f"Redis: {describe(cache, stack)}", err=True)
    url = resolve_database_url(role="app", stack=stack)
    try:
        require_database(url, only_reads=True)
        require_cache(cache)
    except OpsError as error:
        # The prefix separates this from a flush that has succeeded before.
        raise OpsError(f"the cache was not warmed: {error}", error.exit_code) from error
    database = UrlSource("DATABASE_URL", InvalidSetting, url)

    async def run() -> dict[str, int]:
        async with AsyncDataAccess(DatabaseSettings(database, pool_size=2), cache) as data:
            return await Warming(data, limit, rate, progress).run()

    try:
        return asyncio.run(run())
    except (CacheUnavailable, Unavailable) as error:
        raise OpsError(
            f"the cache was not warmed: {error}; run the command again", Exit.UNREACHABLE
        ) from error
