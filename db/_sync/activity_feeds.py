# Generated from db/_async/activity_feeds.py by scripts/generate_sync.py; edit that, not this.
"""The cached feeds that contain activities, and their invalidation after writes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial

from cache._sync.client import Client
from cache._sync.feeds import FeedCache
from cache.codec import Packing
from cache.keys import FeedKeys
from cache.timing import Tier
from db._sync.pool import Pool
from db.copy_binary import Owners
from db.errors import DbError, OutcomeUnknown
from db.models import ACTIVITY_SCHEMA, Activity, Page

# The entries of these feeds in Redis. db.cached_kinds reads them too.
SCHEMA = ACTIVITY_SCHEMA
PAGE = Page[Activity]


class ActivityFeeds:
    """The feeds of users and of repositories. A write invalidates the feeds it affects after COMMIT."""

    def __init__(self, pool: Pool, client: Client, namespace: str, names: tuple[str, str]) -> None:
        """`names` are the names of the user feed and of the repository feed, in Redis keys and in the outbox."""
        self._pool = pool
        self.of_users, self.of_repositories = (
            FeedCache(
                client,
                FeedKeys(namespace, name, SCHEMA),
                Packing(PAGE),
                Tier.SHORT,
                DbError,
            )
            for name in names
        )

    def invalidate(self, user_ids: Iterable[int], repo_ids: Iterable[int | None]) -> None:
        """Invalidate the feeds of these users and repositories, after COMMIT in a transaction."""
        users = [(user_id, None) for user_id in user_ids]
        repositories = [(repo_id, None) for repo_id in repo_ids if repo_id is not None]
        for feeds, owners in ((self.of_users, users), (self.of_repositories, repositories)):
            if owners:
                invalidate = partial(feeds.drop, owners)
                self._pool.after_commit(invalidate, invalidate)

    def invalidate_all_of(self, owners: Owners) -> None:
        """Invalidate the feeds of these owners, or all feeds if the owners are too many to keep track of."""
        if not owners.are_too_many:
            self.invalidate(owners.user_ids, owners.repo_ids)
            return
        for feeds in (self.of_users, self.of_repositories):
            self._pool.after_commit(feeds.drop_all, feeds.drop_all)

    @contextmanager
    def invalidate_if_unknown(
        self, user_ids: Iterable[int], repo_ids: Iterable[int | None]
    ) -> Iterator[None]:
        """Invalidate these feeds if the write inside has an unknown outcome, so that the next read shows it."""
        try:
            yield
        except OutcomeUnknown:
            self.invalidate(user_ids, repo_ids)
            raise
