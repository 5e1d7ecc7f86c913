"""No other caller sees what a caller changes in its records and pages, and the change is not cached."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from msgspec.structs import replace

from cache.codec import Shared
from db import AsyncDataAccess
from db.models import Activity, NewActivity, NewUser, Page, User
from tests.containers import Server
from tests.integration.data_access import cache_settings, database_settings
from tests.promises import promise

NOW = datetime(2026, 1, 1, tzinfo=UTC)
CALLERS = 6
# The first caller leads the first read, the second one a read that all others join.
JOINED = CALLERS - 2
Load = Callable[..., Awaitable[Any]]


def changeable() -> dict[str, Any]:
    return {"theme": "dark", "n": [1, {"deep": [2]}]}


def change(held: dict[str, Any]) -> None:
    assert held == changeable()
    held["theme"] = "changed"
    held["n"][1]["deep"].append("changed")


def of_a_user(data: AsyncDataAccess) -> tuple[Any, Callable[[Load], Awaitable[Any]], Any]:
    user = User(7, 7, "ada", None, changeable(), NOW, NOW, 1)
    return data.users.cached, lambda load: data.users.cached.find(7, load), user


def of_a_feed(data: AsyncDataAccess) -> tuple[Any, Callable[[Load], Awaitable[Any]], Any]:
    page = Page([Activity(1, None, 7, None, "x", NOW, changeable(), NOW, NOW, 1)], None)
    feeds = data.activities.user_feeds
    return feeds, lambda load: feeds.find(7, "top", load), page


def of_an_unencodable_user(data: AsyncDataAccess) -> tuple[Any, Callable[[Load], Awaitable[Any]], Any]:
    cached, find, user = of_a_user(data)
    return cached, find, replace(user, id=2**70)


def held_by(found: Any) -> dict[str, Any]:
    held: dict[str, Any] = found.items[0].data if isinstance(found, Page) else found.preferences
    return held


def shared_miss(redis_url: str, namespace: str, case: Any) -> list[dict[str, Any]]:
    """Run callers that miss together. Each one checks the dictionary that it got, and changes it."""

    async def run() -> list[dict[str, Any]]:
        # The load is the test's own, so that no Postgres is needed.
        data = AsyncDataAccess(
            database_settings("postgresql://x@localhost:1/x"),
            cache_settings(redis_url, namespace, near_entries=0, timeout_seconds=30.0),
        )
        await data.cache.open()
        try:
            cached, find, _ = case(data)
            flights = cached._single_flight
            flights.PATIENCE_SECONDS = 60.0
            joined = asyncio.Semaphore(0)
            flights._on_join = joined.release

            async def load(*_: object) -> Any:
                if not loads:
                    loads.append(None)
                    for _ in range(JOINED):
                        await joined.acquire()
                # As from the database: each read has objects of its own.
                return case(data)[2]

            loads: list[None] = []
            seen = []

            async def call() -> None:
                held = held_by(await find(load))
                change(held)
                seen.append(held)

            async with asyncio.timeout(120):
                await asyncio.gather(*(call() for _ in range(CALLERS)))
            return seen
        finally:
            await data.cache.aclose()

    return asyncio.run(run())


@promise("what a caller changes in a record or a page is visible to no other caller")
@pytest.mark.parametrize("case", [of_a_user, of_a_feed, of_an_unencodable_user])
@pytest.mark.parametrize("is_up", [True, False])
def test_callers_that_share_a_miss_get_objects_of_their_own(
    redis_server: Server, namespace: str, case: Any, is_up: bool
) -> None:
    url = redis_server.redis_url("app") if is_up else "redis://app:x@localhost:1/0"
    assert len(shared_miss(url, namespace, case)) == CALLERS


@promise("what a caller changes in a record or a page is visible to no other caller", control=True)
@pytest.mark.parametrize("case", [of_a_user, of_a_feed])
def test_without_copies_a_caller_sees_the_change_of_another(
    namespace: str, case: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Shared, "take", lambda shared: shared._first[0])
    with pytest.raises(AssertionError, match="changed"):
        shared_miss("redis://app:x@localhost:1/0", namespace, case)


@promise("what a caller changes in a record or a page is visible to no other caller")
def test_a_record_asked_for_twice_is_two_objects(data: Any) -> None:
    user = data.users.add(NewUser(github_id=7, username="ada", preferences=changeable()))
    for _ in ("a miss", "a hit"):
        one, absent, other = data.users.get_many([user.id, user.id + 1, user.id])
        assert one == other == user
        assert absent is None
        change(one.preferences)
        assert other == user


@promise("what a caller changes in a record or a page is visible to no other caller")
def test_an_activity_asked_for_twice_is_two_objects(data: Any) -> None:
    user = data.users.add(NewUser(github_id=7, username="ada"))
    at = datetime.now(UTC)
    made = data.activities.add(NewActivity(user_id=user.id, type="x", timestamp=at, data=changeable()))
    one, other = data.activities.get_many([(made.id, made.timestamp)] * 2)
    change(one.data)
    change(other.data)


@promise("what a caller changes in a record or a page is visible to no other caller")
@pytest.mark.parametrize("verb", ["update", "upsert"])
def test_a_record_changed_before_commit_is_cached_as_written(
    database: Any, redis_server: Server, namespace: str, verb: str
) -> None:
    async def run() -> None:
        cache = cache_settings(redis_server.redis_url("app"), namespace, near_entries=0)
        async with AsyncDataAccess(database_settings(database.url("app")), cache) as data:
            new = NewUser(github_id=7, username="ada", preferences=changeable())
            user = await data.users.get((await data.users.add(new)).id)
            async with data.transaction():
                written = (
                    await data.users.update(replace(user, email="a@example.org"))
                    if verb == "update"
                    else await data.users.upsert(new)
                )
                change(written.preferences)
            assert (await data.users.get(user.id)).preferences == changeable()

    asyncio.run(run())
