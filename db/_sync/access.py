# Generated from db/_async/access.py by scripts/generate_sync.py; edit that, not this.
"""The one way in: a pool of Postgres connections, the cache before it, and the repositories on both."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from cache._sync.client import Client
from cache.settings import CacheSettings
from db._sync.activities import ActivityRepository
from db._sync.organizations import OrganizationRepository
from db._sync.outbox import Droppable, Outbox
from db._sync.pool import Pool
from db._sync.repositories import RepositoryRepository
from db._sync.users import UserRepository
from db.settings import DatabaseSettings
from db.token_keys import TokenKeys


class DataAccess:
    """Repositories over Postgres and Redis.

    Opening it connects in the background: a server that is away is an error of the call that needs it,
    and no error at all where that server is Redis.
    """

    def __init__(
        self, database: DatabaseSettings, cache: CacheSettings, token_keys: TokenKeys | None = None
    ) -> None:
        keys = token_keys or TokenKeys(None)
        self.pool = Pool(database)
        self.cache = Client(cache)
        self.users = UserRepository(self.pool, self.cache, cache.namespace, keys)
        self.organizations = OrganizationRepository(self.pool, self.cache, cache.namespace)
        self.repositories = RepositoryRepository(self.pool, self.cache, cache.namespace)
        self.activities = ActivityRepository(self.pool, self.cache, cache.namespace)
        caches: dict[str, Droppable] = {
            self.users.ENTITY: self.users.cached,
            self.organizations.ENTITY: self.organizations.cached,
            self.repositories.ENTITY: self.repositories.cached,
            self.activities.USER_FEED: self.activities.user_feeds,
            self.activities.REPOSITORY_FEED: self.activities.repository_feeds,
        }
        self.outbox = Outbox(self.pool, caches)

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

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Everything that this task asks of the repositories inside is one transaction.

        Committed at the end of the block, rolled back by an error that leaves it; one inside another is a
        savepoint. Reads see its own writes, and go past the cache, which is told of the writes after COMMIT.
        """
        with self.pool.transaction():
            yield

    def __enter__(self) -> Self:
        self.pool.open()
        self.cache.open()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give every connection back; calls under way fail with Unavailable."""
        try:
            self.cache.close()
        finally:
            self.pool.close()
