"""Schemes to read and write users: the data access, and two naive ones that are expected to fail."""

from __future__ import annotations

import threading
from typing import Any

import psycopg
import redis
from redis.backoff import ConstantBackoff
from redis.retry import Retry

from db import AsyncDataAccess, DataAccess
from db.errors import VersionConflict
from db.models import NewUser

_TOUCH = "UPDATE users SET username = username WHERE id = %s RETURNING row_version"


class Ours:
    """The data access, for threads. Reads and writes return row versions; None means that another writer was first."""

    def __init__(self, data: DataAccess, database_url: str) -> None:
        self._data = data
        self._elsewhere = _Connections(database_url)

    def read(self, user_id: int) -> int:
        return self._data.users.get(user_id).row_version

    def update(self, user_id: int) -> int | None:
        # Bypass the cache, because an update needs the current row version.
        user = self._data.users.get_by_github_id(user_id)
        try:
            return self._data.users.update(user).row_version
        except VersionConflict:
            return None

    def upsert(self, user_id: int) -> int:
        return self._data.users.upsert(NewUser(github_id=user_id, username="x")).row_version

    def invalidate(self, user_id: int) -> int:
        """Write without the data access, and then invalidate."""
        version = self._elsewhere.fetch(_TOUCH, user_id)
        self._data.users.cached.drop([(user_id, None)])
        return version

    def owes(self) -> bool:
        """Return whether invalidations are pending until Redis recovers."""
        return self._data.cache.breaker.is_open


class AsyncOurs:
    """The data access, for tasks."""

    def __init__(self, data: AsyncDataAccess, database_url: str) -> None:
        self._data = data
        self._database_url = database_url
        self._connection: psycopg.AsyncConnection[Any] | None = None

    async def read(self, user_id: int) -> int:
        return (await self._data.users.get(user_id)).row_version

    async def update(self, user_id: int) -> int | None:
        user = await self._data.users.get_by_github_id(user_id)
        try:
            return (await self._data.users.update(user)).row_version
        except VersionConflict:
            return None

    async def upsert(self, user_id: int) -> int:
        return (await self._data.users.upsert(NewUser(github_id=user_id, username="x"))).row_version

    async def invalidate(self, user_id: int) -> int:
        if self._connection is None:
            self._connection = await psycopg.AsyncConnection.connect(self._database_url, autocommit=True)
        cursor = await self._connection.execute(_TOUCH, [user_id])
        (version,) = await cursor.fetchone() or (0,)
        await self._data.users.cached.drop([(user_id, None)])
        return int(version)

    def owes(self) -> bool:
        return self._data.cache.breaker.is_open


class Naive:
    """The common part of the naive schemes: a client, connections, and writes followed by an invalidation."""

    def __init__(self, redis_url: str, database_url: str, namespace: str) -> None:
        # Retry while the server restarts, so that stale reads do not come from failed invalidations.
        retry = Retry(ConstantBackoff(0.1), 100)
        self._redis: Any = redis.Redis.from_url(redis_url, driver_info=None, retry=retry)
        self._database = _Connections(database_url)
        self._namespace = namespace

    def update(self, user_id: int) -> int | None:
        return self.invalidate(user_id)

    def upsert(self, user_id: int) -> int:
        return self.invalidate(user_id)

    def invalidate(self, user_id: int) -> int:
        version = self._database.fetch(_TOUCH, user_id)
        self._redis.delete(*self._keys(user_id))
        return version

    def owes(self) -> bool:
        return False

    def _keys(self, user_id: int) -> tuple[str, str]:
        return f"gw:{self._namespace}:naive:{{{user_id}}}", f"gwl:{self._namespace}:naive:{{{user_id}}}"

    def _load(self, user_id: int) -> int:
        return self._database.fetch("SELECT row_version FROM users WHERE id = %s", user_id)


class GetMissSet(Naive):
    """GET; after a miss read the database and SET. Write and DEL."""

    def read(self, user_id: int) -> int:
        value, _ = self._keys(user_id)
        if (cached := self._redis.get(value)) is not None:
            return int(cached)
        version = self._load(user_id)
        self._redis.set(value, version, ex=60)
        return version


_FILL_AT_COUNT = """
if redis.call('GET', KEYS[2]) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'PX', 60000)
return 1
"""


class CountedLease(Naive):
    """A lease that is a counter. An invalidation deletes it together with the value, so its numbers repeat."""

    def __init__(self, redis_url: str, database_url: str, namespace: str) -> None:
        super().__init__(redis_url, database_url, namespace)
        self._fill = self._redis.register_script(_FILL_AT_COUNT)

    def read(self, user_id: int) -> int:
        value, lease = self._keys(user_id)
        if (cached := self._redis.get(value)) is not None:
            return int(cached)
        token = self._redis.execute_command("INCR", lease)
        version = self._load(user_id)
        self._fill(keys=[value, lease], args=[token, version])
        return version


class _Connections:
    """A connection for each thread."""

    def __init__(self, database_url: str) -> None:
        self._database_url = database_url
        self._local = threading.local()

    def fetch(self, sql: str, user_id: int) -> int:
        """Return the number that a query about a user returns."""
        if not hasattr(self._local, "connection"):
            self._local.connection = psycopg.connect(self._database_url, autocommit=True)
        (number,) = self._local.connection.execute(sql, [user_id]).fetchone()
        return int(number)
