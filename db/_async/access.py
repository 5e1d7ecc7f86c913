"""The one way in: a pool of Postgres connections, the cache before it, and the repositories on both."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Self

from cache._async.client import AsyncClient
from cache.settings import CacheSettings
from db._async.activities import AsyncActivityRepository
from db._async.organizations import AsyncOrganizationRepository
from db._async.outbox import AsyncDroppable, AsyncOutbox
from db._async.pool import AsyncPool
from db._async.repositories import AsyncRepositoryRepository
from db._async.users import AsyncUserRepository
from db.settings import DatabaseSettings
from db.token_keys import TokenKeys


class AsyncDataAccess:
    """Repositories over Postgres and Redis.

    Opening it connects in the background: a server that is away is an error of the call that needs it,
    and no error at all where that server is Redis.
    """

    def __init__(
        self, database: DatabaseSettings, cache: CacheSettings, token_keys: TokenKeys | None = None
    ) -> None:
        keys = token_keys or TokenKeys(None)
        self.pool = AsyncPool(database)
        self.cache = AsyncClient(cache)
        self.users = AsyncUserRepository(self.pool, self.cache, cache.namespace, keys)
        self.organizations = AsyncOrganizationRepository(self.pool, self.cache, cache.namespace)
        self.repositories = AsyncRepositoryRepository(self.pool, self.cache, cache.namespace)
        self.activities = AsyncActivityRepository(self.pool, self.cache, cache.namespace)
        caches: dict[str, AsyncDroppable] = {
            self.users.ENTITY: self.users.cached,
            self.organizations.ENTITY: self.organizations.cached,
            self.repositories.ENTITY: self.repositories.cached,
            self.activities.USER_FEED: self.activities.user_feeds,
            self.activities.REPOSITORY_FEED: self.activities.repository_feeds,
        }
        self.outbox = AsyncOutbox(self.pool, caches)

    @classmethod
    def open(cls) -> Self:
        """What DATABASE_URL, REDIS_URL and GROUNDWORK_TOKEN_KEYS (or their _FILE forms) describe; enter it to use it.

        Without keys everything but tokens works.
        """
        return cls(
            DatabaseSettings.from_environment(),
            CacheSettings.from_environment(),
            TokenKeys.from_environment(),
        )

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        """Everything that this task asks of the repositories inside is one transaction.

        Committed at the end of the block, rolled back by an error that leaves it; one inside another is a
        savepoint. Reads see its own writes, and go past the cache, which is told of the writes after COMMIT.
        """
        async with self.pool.transaction():
            yield

    async def __aenter__(self) -> Self:
        await self.pool.open()
        await self.cache.open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Give every connection back; calls under way fail with Unavailable."""
        try:
            await self.cache.aclose()
        finally:
            await self.pool.close()
