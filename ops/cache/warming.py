"""Warm the cache of a stack, or of the servers that the environment names, with role app."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from cache.errors import CacheUnavailable
from cache.settings import CacheSettings
from cache.url_source import UrlSource
from db import AsyncDataAccess
from db.errors import InvalidSetting, Unavailable
from db.settings import DatabaseSettings
from db.warming import Progress, Warming
from infra.spec.checkout import is_checkout
from infra.spec.variables import source_variable
from ops.cache.server import cache_settings, describe, require_cache
from ops.errors import Exit, OpsError
from ops.output import print_line
from ops.stack.database_url import TOKEN_POOL_SECONDS, require_database, select_database

_TIMEOUT_SECONDS = 10.0


def choose_servers(stack: str, *, is_stack_given: bool) -> tuple[CacheSettings, str]:
    """Return the settings of the cache to warm and the URL of its database, and print which servers these are.

    Raise OpsError (2) unless the environment selects both, or the stack both: rows of another database would be served
    as the cache's own until they expire. `is_stack_given`: the user has chosen the stack.
    """
    redis, database = source_variable("REDIS_URL"), source_variable("DATABASE_URL")
    given = [name for name in (redis, database) if name is not None]
    if given and is_stack_given:
        names = " and ".join(given)
        raise OpsError(
            f"{names} and --stack may select different servers; unset {names} or omit --stack", Exit.USAGE
        )
    # Without a checkout there are no stacks, and the missing variable is reported below.
    if len(given) == 1 and is_checkout():
        missing = "DATABASE_URL" if database is None else "REDIS_URL"
        raise OpsError(
            f"{given[0]} is set and {missing} is not, so the cache might get rows of another database;"
            f" set {missing} too, or unset {given[0]} to use stack {stack!r}",
            Exit.USAGE,
        )
    # A batch takes longer than a request may, and no request waits for it. A busy machine takes seconds.
    cache = replace(cache_settings(stack, "app"), timeout_seconds=_TIMEOUT_SECONDS)
    print_line(f"Redis: {describe(cache, stack)}", err=True)
    selected = select_database(None, role="app", stack=stack, has_option=False)
    print_line(f"database: {selected}", err=True)
    return cache, selected.url


def warm_from_here(
    cache: CacheSettings, url: str, limit: int, rate: int, progress: Progress
) -> dict[str, int]:
    """Warm the cache once, and return how many records of each kind are cached. Raise OpsError (6) if Postgres or
    Redis does not answer.
    """
    try:
        require_database(url, only_reads=True)
        require_cache(cache)
    except OpsError as error:
        # The prefix separates this from a flush that has succeeded before.
        raise OpsError(f"the cache was not warmed: {error}", error.exit_code) from error
    database = UrlSource("DATABASE_URL", InvalidSetting, url)

    async def run() -> dict[str, int]:
        settings = DatabaseSettings(
            database, pool_size=2, pool_min_size=2, max_lifetime_seconds=TOKEN_POOL_SECONDS
        )
        async with AsyncDataAccess(settings, cache) as data:
            return await Warming(data, limit, rate, progress).run()

    try:
        return asyncio.run(run())
    except (CacheUnavailable, Unavailable) as error:
        raise OpsError(
            f"the cache was not warmed: {error}; run the command again", Exit.UNREACHABLE
        ) from error
