# Generated from db/_async/activity_feeds.py by scripts/generate_sync.py; edit that, not this.
"""The cached feeds that an activity is in, and how they are told of a write."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial

from cache._sync.client import Client
from cache._sync.feeds import FeedCache
from cache.codec import Packing
from cache.keys import FeedKeys
from cache.ttl import Tier
from db._sync.pool import Pool
from db.copy_text import Owners
from db.errors import OutcomeUnknown
from db.models import ACTIVITY_SCHEMA, Activity, Page


class ActivityFeeds:
    """Feeds of users and of repositories. They are forgotten once the write is committed."""

    def __init__(self, pool: Pool, client: Client, namespace: str, names: tuple[str, str]) -> None:
        """`names` are the users' and the repositories' in Redis and in the outbox."""
        self._pool = pool
        self.of_users, self.of_repositories = (
            FeedCache(client, FeedKeys(namespace, name, ACTIVITY_SCHEMA), Packing(Page[Activity]), Tier.SHORT)
            for name in names
        )

    def forget(self, user_ids: Iterable[int], repo_ids: Iterable[int | None]) -> None:
        """Have the feeds of these users and repositories forgotten."""
        users = [(user_id, None) for user_id in user_ids]
        repositories = [(repo_id, None) for repo_id in repo_ids if repo_id is not None]
        for feeds, owners in ((self.of_users, users), (self.of_repositories, repositories)):
            if owners:
                forget = partial(feeds.drop, owners)
                self._pool.after_commit(forget, forget)

    def forget_all_of(self, owners: Owners) -> None:
        """Have the feeds of these owners forgotten; where they are too many to be known, every feed there is."""
        if not owners.are_too_many:
            self.forget(owners.user_ids, owners.repo_ids)
            return
        for feeds in (self.of_users, self.of_repositories):
            self._pool.after_commit(feeds.drop_all, feeds.drop_all)

    @contextmanager
    def forgetting(self, user_ids: Iterable[int], repo_ids: Iterable[int | None]) -> Iterator[None]:
        """Have these feeds forgotten where nobody knows what came of the write inside: it will be looked for there."""
        try:
            yield
        except OutcomeUnknown:
            self.forget(user_ids, repo_ids)
            raise
