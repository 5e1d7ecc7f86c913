"""Read and write activities: by key, in feeds and in bulk.

The table is partitioned by month, so the key of an activity includes its timestamp.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from operator import attrgetter

from psycopg.rows import args_row, scalar_row

from cache._async.client import AsyncClient
from cache._async.feeds import AsyncFeedCache
from db._async.activity_feeds import AsyncActivityFeeds
from db._async.idempotency import write_once
from db._async.pages import items
from db._async.partitions import AsyncPartitions
from db._async.pool import AsyncPool
from db.activity_parameters import (
    EPOCH,
    MICROSECONDS,
    Parameters,
    key_of,
    microseconds,
    named,
    new_values,
    values,
)
from db.copy_binary import Owners, Reject, blocks
from db.deadline import Deadline, end_of_block
from db.entities import FEEDS
from db.errors import InvalidInput, NotFound, VersionConflict
from db.models import Activity, NewActivity, Page
from db.named_query import queries
from db.paging import Listing
from db.record_kind import distinct
from db.validation import INT64_MAX, bigint, text, timestamp

_QUERIES = queries("activities")
_ROW = args_row(Activity)
# The start of a feed, which lists the newest first: later than any activity. Microseconds since 1970, and an id.
_TOP = (int(datetime(9999, 12, 31, tzinfo=UTC).timestamp()) * 1_000_000, INT64_MAX)
# Reads a page: a method of the pool.
Fetch = Callable[..., Awaitable[list[Activity]]]


class AsyncActivityRepository:
    """Activities. The key of an activity is (id, timestamp), because the table is partitioned by timestamp.

    Feeds are cached in Redis; all other reads go to Postgres. Every timestamp must have a time zone.
    """

    ENTITY = "activity"

    USER_FEED, REPOSITORY_FEED = FEEDS

    def __init__(self, pool: AsyncPool, client: AsyncClient, namespace: str) -> None:
        self._pool = pool
        self._feeds = AsyncActivityFeeds(pool, client, namespace, (self.USER_FEED, self.REPOSITORY_FEED))
        self.user_feeds, self.repository_feeds = self._feeds.of_users, self._feeds.of_repositories

    async def get(self, activity_id: int, at: datetime) -> Activity:
        """Return the activity with this id and timestamp. Raises NotFound."""
        activity = await self.find(activity_id, at)
        if activity is None:
            raise self._not_found(activity_id, at)
        return activity

    async def find(self, activity_id: int, at: datetime) -> Activity | None:
        """Return the activity with this id and timestamp, or None."""
        return await self._pool.read_one(_QUERIES["find_activity"], key_of(activity_id, at), _ROW)

    async def get_many(self, keys: Iterable[tuple[int, datetime]]) -> list[Activity | None]:
        """Return the activities with these (id, timestamp) keys in the given order, with None for each missing one.

        Takes one round trip.
        """
        wanted = [(bigint("keys", activity_id), timestamp("keys", at)) for activity_id, at in keys]
        if not wanted:
            return []
        times = [at for _, at in wanted]
        parameters = {
            "ids": [activity_id for activity_id, _ in wanted],
            "timestamps": times,
            "first": min(times),
            "last": max(times),
        }
        found = await self._pool.read_all(_QUERIES["find_activities"], parameters, _ROW)
        by_key = {(activity.id, activity.timestamp): activity for activity in found}
        activities = [by_key.get(key) for key in wanted]
        return activities if len(set(wanted)) == len(wanted) else distinct(activities)

    async def list(self, *, limit: int = 50, after: str | None = None) -> Page[Activity]:
        """Return a page of all activities, the last stored first. `after` is the previous page's `next`."""
        listing = Listing("activities", length=1)
        (before_id,) = listing.start(after, (INT64_MAX,))
        parameters = {"before_id": before_id, "limit": listing.checked_limit(limit) + 1}
        found = await self._pool.read_all(_QUERIES["list_activities"], parameters, _ROW)
        return listing.page(found, limit, attrgetter("id"))

    def iterate(self, *, page_size: int = 500) -> AsyncIterator[Activity]:
        """Yield all activities, the last stored first, from Postgres. Keeps one page in memory.

        Each page is a query of its own, so activities that are stored meanwhile are not among them.
        """
        return items(self.list, page_size)

    async def feed(self, user_id: int, *, limit: int = 50, after: str | None = None) -> Page[Activity]:
        """Return a page of a user's activities, newest first. `after` is the previous page's `next`.

        Pages are cached for about 5 minutes and invalidated by every write to the user's activities.
        """
        user_id = bigint("user_id", user_id)
        listing = Listing(f"feed of user {user_id}", length=2, first=MICROSECONDS)
        return await self._cached(
            self.user_feeds, listing, "list_user_feed", {"user_id": user_id}, limit, after
        )

    async def repository_feed(
        self, repo_id: int, *, limit: int = 50, after: str | None = None
    ) -> Page[Activity]:
        """Return a page of a repository's activities, newest first. `after` is the previous page's `next`.

        Pages are cached for about 5 minutes and invalidated by every write to the repository's activities.
        """
        repo_id = bigint("repo_id", repo_id)
        listing = Listing(f"feed of repository {repo_id}", length=2, first=MICROSECONDS)
        return await self._cached(
            self.repository_feeds, listing, "list_repository_feed", {"repo_id": repo_id}, limit, after
        )

    async def list_by_type(
        self,
        kind: str,
        *,
        since: datetime = EPOCH,
        until: datetime | None = None,
        limit: int = 50,
        after: str | None = None,
    ) -> Page[Activity]:
        """Return a page of the activities of type `kind` from `since` to `until`, both inclusive, newest first.

        `after` is the previous page's `next`; a cursor is valid only with the same `kind`, `since` and `until`.
        """
        start, end = timestamp("since", since), None if until is None else timestamp("until", until)
        parameters = {"type": text("kind", kind), "since": start}
        name = f"activities of type {kind} from {start.isoformat()} to {end and end.isoformat()}"
        listing = Listing(name, length=2, first=MICROSECONDS)
        top = _TOP if end is None else (microseconds(end), INT64_MAX)
        position = listing.start(after, top)
        return await self._page(
            listing, "list_activities_by_type", parameters, limit, position, self._pool.read_all
        )

    async def add(self, activity: NewActivity, *, idempotency_key: str | None = None) -> Activity:
        """Insert an activity and return it.

        Raises ConstraintViolated if the user or the repository does not exist, or if the GitHub event is stored
        already with this timestamp.

        The partition of the activity's month must exist. The access service creates partitions up to three months
        ahead; `make_partitions` creates others. Raises InvalidInput for a month before 1970 or more than nine years
        ahead.

        With `idempotency_key` (1 to 200 characters, the same for every attempt), a write whose answer was lost is
        sent once more, and a write that is already done is not repeated: its current record is returned. Raises
        IdempotencyKeyReused if the key was used for a different write. Keys are kept for a day.
        """
        parameters = new_values(activity)
        write = partial(self._add, parameters)
        return await self._once("add", named(parameters), parameters["timestamp"], idempotency_key, write)

    async def upsert(self, activity: NewActivity, *, idempotency_key: str | None = None) -> Activity:
        """Insert the activity, or update the one with its github_event_id and timestamp, and return it.

        `idempotency_key` works as in `add`. Raises InvalidInput if the activity has no github_event_id.
        """
        if activity.github_event_id is None:
            raise InvalidInput("github_event_id", "is required for an upsert; use add for other activities")
        parameters = new_values(activity)
        write = partial(self._upsert, parameters)
        return await self._once("upsert", named(parameters), parameters["timestamp"], idempotency_key, write)

    async def update(self, activity: Activity, *, idempotency_key: str | None = None) -> Activity:
        """Write a changed activity and return it with its new row_version.

        `timestamp` is part of the key and cannot be changed. `idempotency_key` works as in `add`.

        Raises VersionConflict if the activity was changed since it was read, and NotFound if no activity has this id
        and timestamp.
        """
        version = bigint("row_version", activity.row_version)
        parameters = values(activity) | key_of(activity.id, activity.timestamp) | {"row_version": version}
        write = partial(self._update, activity, parameters)
        return await self._once(
            "update", f"id {parameters['id']}", parameters["timestamp"], idempotency_key, write
        )

    async def delete(self, activity_id: int, at: datetime) -> None:
        """Delete the activity with this id and timestamp. Raises NotFound."""
        key, deadline = key_of(activity_id, at), self._pool.deadline()
        # Read the owners of its feeds first: if the delete's outcome is unknown, the row may be gone.
        before = await self._fetch("find_activity", key, deadline)
        if before is None:
            raise self._not_found(activity_id, at)
        async with self._feeds.invalidate_if_unknown({before.user_id}, {before.repo_id}):
            deleted = await self._fetch("delete_activity", key, deadline)
        if deleted is None:
            raise self._not_found(activity_id, at)
        await self._feeds.invalidate({deleted.user_id}, {deleted.repo_id})

    async def copy_in(self, activities: Iterable[NewActivity], *, on_reject: Reject | None = None) -> int:
        """Insert many activities by COPY in one transaction, and return their number.

        Missing monthly partitions are created. Memory use does not depend on the number of activities.

        An invalid activity is skipped and passed to `on_reject` with its InvalidInput error. Without `on_reject`, the
        error is raised and nothing is stored.

        Creating a partition blocks writers of users and repositories until it is committed. So a partition found
        missing after the load has started is created on a second connection. Raises Unavailable if the pool has only
        one connection. Inside a caller's transaction, partitions are created in that transaction.
        """
        stored = 0
        owners = Owners()
        partitions = AsyncPartitions(self._pool)
        source = blocks(activities, on_reject)
        block = next(source, None)
        if block is None:
            return 0
        # Before the transaction, which would need a second connection for it.
        await partitions.make_missing(block.months)
        async with self._pool.transaction():
            while block is not None:
                owners.add(block)
                stored += block.rows
                async with self._pool.copying(_QUERIES["copy_activities"], block.data):
                    block = next(source, None)
                if block is not None:
                    await partitions.make_missing(block.months)
            await self._feeds.invalidate_all_of(owners)
        return stored

    async def make_partitions(self, since: datetime, until: datetime) -> Sequence[str]:
        """Create the missing monthly partitions (months in UTC) from `since` to `until`, and return their names."""
        parameters = {"since": timestamp("since", since), "until": timestamp("until", until)}
        made: Sequence[str] = await self._pool.fetch_all(_QUERIES["make_partitions"], parameters, scalar_row)
        return made

    async def _page(
        self,
        listing: Listing,
        query: str,
        parameters: Parameters,
        limit: int,
        position: tuple[int, ...],
        fetch: Fetch,
    ) -> Page[Activity]:
        before, before_id = position
        place = {
            "before": EPOCH + timedelta(microseconds=before),
            "before_id": before_id,
            "limit": listing.checked_limit(limit) + 1,
        }
        found = await fetch(_QUERIES[query], parameters | place, _ROW)
        return listing.page(found, limit, lambda each: (microseconds(each.timestamp), each.id))

    async def _fetch(
        self, query: str, parameters: Parameters, deadline: Deadline | None = None
    ) -> Activity | None:
        return await self._pool.fetch_one(_QUERIES[query], parameters, _ROW, deadline)

    async def _once(
        self,
        verb: str,
        which: str,
        at: datetime,
        idempotency_key: str | None,
        write: Callable[[], Awaitable[Activity]],
    ) -> Activity:
        purpose = f"{verb} {self.ENTITY} with {which} at {at.isoformat()}"
        return await write_once(self._pool, idempotency_key, purpose, write, partial(self.get, at=at))

    async def _update(self, activity: Activity, parameters: Parameters) -> Activity:
        # Read the owners of its feeds first: `activity` may name a new user or repository.
        deadline = self._pool.deadline()
        before = await self._fetch("find_activity", key_of(activity.id, activity.timestamp), deadline)
        if before is None:
            raise self._not_found(activity.id, activity.timestamp)
        owners = {before.user_id, parameters["user_id"]}, {before.repo_id, parameters["repo_id"]}
        updated = None
        if before.row_version == parameters["row_version"]:
            async with self._feeds.invalidate_if_unknown(*owners):
                updated = await self._fetch("update_activity", parameters, deadline)
        if updated is None:
            raise VersionConflict(self.ENTITY, activity.id, parameters["row_version"])
        await self._feeds.invalidate(*owners)
        return updated

    async def _add(self, parameters: Parameters) -> Activity:
        async with self._feeds.invalidate_if_unknown({parameters["user_id"]}, {parameters["repo_id"]}):
            activity = await self._fetch("add_activity", parameters)
        assert activity is not None, "the query returns the row it wrote"
        await self._feeds.invalidate({activity.user_id}, {activity.repo_id})
        return activity

    async def _upsert(self, parameters: Parameters) -> Activity:
        deadline = self._pool.deadline()
        user_id, repo_id = parameters["user_id"], parameters["repo_id"]
        # The statement changes only an activity of these owners, so that their feeds can be invalidated even if its
        # outcome is unknown. A stored activity rarely has other owners than the new one.
        old_user_id, old_repo_id = user_id, repo_id
        while True:
            owners = {old_user_id, user_id}, {old_repo_id, repo_id}
            old = {"old_user_id": old_user_id, "old_repo_id": old_repo_id}
            async with self._feeds.invalidate_if_unknown(*owners):
                activity = await self._fetch("upsert_activity", parameters | old, deadline)
            if activity is not None:
                await self._feeds.invalidate(*owners)
                return activity
            key = {name: parameters[name] for name in ("github_event_id", "timestamp")}
            before = await self._fetch("find_activity_by_event", key, deadline)
            # Another caller may have deleted it.
            if before is not None:
                old_user_id, old_repo_id = before.user_id, before.repo_id

    async def _cached(
        self,
        feeds: AsyncFeedCache[Page[Activity]],
        listing: Listing,
        query: str,
        owner: dict[str, int],
        limit: int,
        after: str | None,
    ) -> Page[Activity]:
        """Return a page of the feed of `owner`, the parameter of `query` that selects it."""
        # Before the cache is used: callers with different arguments must not share a page, nor an error.
        limit = listing.checked_limit(limit)
        position = listing.start(after, _TOP)
        # From the primary, with a deadline that starts now.
        fetch = partial(self._pool.fetch_all, deadline=self._pool.deadline())
        load = partial(self._page, listing, query, owner, limit, position, fetch)
        if self._pool.in_transaction():
            return await load()
        (owner_id,) = owner.values()
        name = f"{limit} after {'the top' if after is None else position}"
        return await feeds.find(owner_id, name, load, end_of_block())

    def _not_found(self, activity_id: int, at: datetime) -> NotFound:
        return NotFound(self.ENTITY, f"id {activity_id} at {at.isoformat()}")
