"""Brings the hottest records into Redis before anybody misses them: users, repositories, and their organizations.

What is hot the database tells (db/queries/warming.sql). What is cached already is left alone, so that a second
run, or one beside another, costs a look.
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
# So many of the activities stored last say who is busy, for each record that is wanted.
_SAMPLE_FACTOR = 20
_BATCH = 100
Progress = Callable[[str, int, int], None]


class _Readable(Protocol):
    async def get_many(self, record_ids: Sequence[int]) -> Sequence[object | None]: ...


class Warming:
    """One run: at most `limit` records of each kind, at most `rate` records a second."""

    def __init__(self, data: AsyncDataAccess, limit: int, rate: float, progress: Progress) -> None:
        """`progress` is told the kind, how many are done, and of how many, after each batch."""
        self._data = data
        self._limit = limit
        self._rate = rate
        self._progress = progress
        self._started = 0.0
        self._done = 0

    async def run(self) -> dict[str, int]:
        """How many records of each kind are cached now. CacheUnavailable where Redis is ill; begin again then."""
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

    async def _ids(self, query: str) -> list[int]:
        parameters = {"sample": self._limit * _SAMPLE_FACTOR, "limit": self._limit}
        ids: list[int] = await self._data.pool.fetch_all(_QUERIES[query], parameters, scalar_row)
        return ids

    async def _read(self, kind: str, repository: _Readable, ids: list[int]) -> list[object]:
        found: list[object] = []
        size = max(1, min(_BATCH, int(self._rate)))
        for start in range(0, len(ids), size):
            # Without Redis every batch would be read for nothing.
            await self._data.cache.ping()
            batch = ids[start : start + size]
            found += [each for each in await repository.get_many(batch) if each is not None]
            if self._data.cache.breaker.is_open:
                # What was read has an answer without Redis, and so says nothing of it.
                raise CacheUnavailable(f"Redis failed after {start} of {len(ids)} {kind}")
            self._done += len(batch)
            self._progress(kind, start + len(batch), len(ids))
            await asyncio.sleep(max(0.0, self._started + self._done / self._rate - monotonic()))
        return found
