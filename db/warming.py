"""Load the hottest users, repositories and their organizations into Redis before callers miss them.

db/queries/warming.sql selects the hottest records. Records that are cached already are only read, so that repeated and
concurrent runs are cheap.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Protocol

from psycopg.rows import scalar_row

from cache.errors import CacheUnavailable
from db._async.access import AsyncDataAccess
from db.models import Repository
from db.named_query import queries

_QUERIES = queries("warming")
# How many of the latest activities are counted for each record to warm.
_SAMPLE_FACTOR = 20
_BATCH = 100
# If REDIS_URL lists several servers, the primary is found in the background and used after 2 s.
_FOUND_SECONDS = 10.0
_POLL_SECONDS = 0.1
Progress = Callable[[str, int, int], None]


class _Readable(Protocol):
    async def get_many(self, record_ids: Sequence[int]) -> Sequence[object | None]: ...


class Warming:
    """One run: at most `limit` records of each kind, at most `rate` records per second."""

    def __init__(self, data: AsyncDataAccess, limit: int, rate: float, progress: Progress) -> None:
        """`progress` is called after each batch with the kind, the number of records done, and their total."""
        self._data = data
        self._limit = limit
        self._rate = rate
        self._progress = progress
        self._started = 0.0
        self._done = 0

    async def run(self) -> dict[str, int]:
        """Warm the cache and return the number of records of each kind that are cached now.

        Raises CacheUnavailable if Redis fails; start again after it has recovered.
        """
        await self._wait_for_redis()
        self._started = monotonic()
        users = await self._ids("list_hot_users")
        repositories = await self._ids("list_hot_repositories")
        warmed = {"users": len(await self._read("users", self._data.users, users))}
        found = await self._read("repositories", self._data.repositories, repositories)
        warmed["repositories"] = len(found)
        owners = {
            each.org_id: None for each in found if isinstance(each, Repository) and each.org_id is not None
        }
        organizations = [org_id for org_id in owners if org_id is not None]
        warmed["organizations"] = len(
            await self._read("organizations", self._data.organizations, organizations)
        )
        return warmed

    async def _wait_for_redis(self) -> None:
        ends_at = monotonic() + _FOUND_SECONDS
        while self._data.cache.breaker.is_open and monotonic() < ends_at:
            await asyncio.sleep(_POLL_SECONDS)

    async def _ids(self, query: str) -> list[int]:
        parameters = {"sample": self._limit * _SAMPLE_FACTOR, "limit": self._limit}
        ids: list[int] = await self._data.pool.fetch_all(_QUERIES[query], parameters, scalar_row)
        return ids

    async def _read(self, kind: str, repository: _Readable, ids: list[int]) -> list[object]:
        found: list[object] = []
        size = max(1, min(_BATCH, int(self._rate)))
        for start in range(0, len(ids), size):
            # Without Redis, reading the batch from Postgres would be useless.
            await self._data.cache.ping()
            batch = ids[start : start + size]
            found += [each for each in await repository.get_many(batch) if each is not None]
            if self._data.cache.breaker.is_open:
                # get_many() answers without Redis too, so its result does not show that Redis failed.
                raise CacheUnavailable(f"Redis failed after {start} of {len(ids)} {kind}")
            self._done += len(batch)
            self._progress(kind, start + len(batch), len(ids))
            await asyncio.sleep(max(0.0, self._started + self._done / self._rate - monotonic()))
        return found
