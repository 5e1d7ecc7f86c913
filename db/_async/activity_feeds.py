"""The cached feeds that an activity is in, and how they are told of a write."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from functools import partial

from cache._async.client import AsyncClient
from cache._async.feeds import AsyncFeedCache
from cache.codec import Packing
from cache.keys import FeedKeys
from cache.ttl import Tier
from db._async.pool import AsyncPool
from db.copy_text import Owners
from db.errors import OutcomeUnknown
from db.models import ACTIVITY_SCHEMA, Activity, Page


class AsyncActivityFeeds:
    """Feeds of users and of repositories. They are forgotten once the write is committed."""

    def __init__(self, pool: AsyncPool, client: AsyncClient, namespace: str, names: tuple[str, str]) -> None:
        """`names` are the users' and the repositories' in Redis and in the outbox."""
        self._pool = pool
        self.of_users, self.of_repositories = (
            AsyncFeedCache(
                client, FeedKeys(namespace, name, ACTIVITY_SCHEMA), Packing(Page[Activity]), Tier.SHORT
            )
            for name in names
        )

    async def forget(self, user_ids: Iterable[int], repo_ids: Iterable[int | None]) -> None:
        """Have the feeds of these users and repositories forgotten."""
        users = [(user_id, None) for user_id in user_ids]
        repositories = [(repo_id, None) for repo_id in repo_ids if repo_id is not None]
        for feeds, owners in ((self.of_users, users), (self.of_repositories, repositories)):
            if owners:
                forget = partial(feeds.drop, owners)
                await self._pool.after_commit(forget, forget)

    async def forget_all_of(self, owners: Owners) -> None:
        """Have the feeds of these owners forgotten; where they are too many to be known, every feed there is."""
        if not owners.are_too_many:
            await self.forget(owners.user_ids, owners.repo_ids)
            return
        for feeds in (self.of_users, self.of_repositories):
            await self._pool.after_commit(feeds.drop_all, feeds.drop_all)

    @asynccontextmanager
    async def forgetting(
        self, user_ids: Iterable[int], repo_ids: Iterable[int | None]
    ) -> AsyncIterator[None]:
        """Have these feeds forgotten where nobody knows what came of the write inside: it will be looked for there."""
        try:
            yield
        except OutcomeUnknown:
            await self.forget(user_ids, repo_ids)
            raise
