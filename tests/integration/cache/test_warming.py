"""Warming: it caches the hottest records at a limited rate, and a second run reads nothing from Postgres."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from typing import Any

import pytest
import redis
from click.testing import CliRunner

from cache.errors import CacheUnavailable
from cache.keys import EntityKeys
from db import AsyncDataAccess
from db.models import REPOSITORY_SCHEMA, USER_SCHEMA, NewActivity, NewOrganization, NewRepository, NewUser
from db.warming import Warming
from ops.commands.cache import cache
from tests.conftest import Database
from tests.containers import Server
from tests.integration.data_access import cache_settings, database_settings
from tests.promises import promise


@pytest.fixture
def flavour() -> str:
    """One flavour, because what is tested has only one."""
    return "sync"


@pytest.fixture
def made(data: Any) -> dict[str, list[int]]:
    """Ten users, of which the first three are active, and four repositories: the last is busy, the first has stars."""
    users = [data.users.add(NewUser(github_id=n, username=f"user{n}")).id for n in range(1, 11)]
    org = data.organizations.add(NewOrganization(github_id=1, name="org")).id
    repositories = [
        data.repositories.add(NewRepository(github_id=n, name=f"o/{n}", stars=100 - n, org_id=org)).id
        for n in range(1, 5)
    ]
    now = datetime.now(UTC)
    data.activities.copy_in(
        NewActivity(user_id=users[n % 3], repo_id=repositories[-1], type="PushEvent", timestamp=now)
        for n in range(30)
    )
    return {"users": users, "repositories": repositories}


def _warm(
    database: Database, server: Server, namespace: str, limit: int, rate: float = 10_000
) -> tuple[dict[str, int], list[tuple[str, int, int]]]:
    told: list[tuple[str, int, int]] = []

    async def run() -> dict[str, int]:
        access = AsyncDataAccess(
            database_settings(database.url("app")),
            cache_settings(server.redis_url("app"), namespace, near_entries=0),
        )
        async with access as data:
            return await Warming(data, limit, rate, lambda *line: told.append(line)).run()

    return asyncio.run(run()), told


def _cached(redis_as_ops: redis.Redis, keys: EntityKeys, ids: list[int]) -> list[int]:
    return [each for each in ids if redis_as_ops.exists(keys.value(each))]


@promise("warming caches the hottest records and does not change cached ones")
def test_the_busiest_and_those_with_most_stars_are_cached_and_no_others(
    made: dict[str, list[int]],
    database: Database,
    redis_server: Server,
    namespace: str,
    redis_as_ops: redis.Redis,
) -> None:
    warmed, told = _warm(database, redis_server, namespace, limit=2)
    assert warmed == {"users": 2, "repositories": 2, "organizations": 1}
    assert told == [("users", 2, 2), ("repositories", 2, 2), ("organizations", 1, 1)]
    users, repositories = made["users"], made["repositories"]
    user_keys = EntityKeys(namespace, "user", USER_SCHEMA)
    repository_keys = EntityKeys(namespace, "repository", REPOSITORY_SCHEMA)
    assert _cached(redis_as_ops, user_keys, users) == users[:2]
    assert _cached(redis_as_ops, repository_keys, repositories) == [repositories[0], repositories[-1]]


@promise("warming caches the hottest records and does not change cached ones")
def test_a_second_run_does_not_change_cached_entries(
    made: dict[str, list[int]],
    database: Database,
    redis_server: Server,
    namespace: str,
    redis_as_ops: redis.Redis,
) -> None:
    first, _ = _warm(database, redis_server, namespace, limit=3)
    key = EntityKeys(namespace, "user", USER_SCHEMA).value(made["users"][0])
    before = redis_as_ops.get(key)
    second, _ = _warm(database, redis_server, namespace, limit=3)
    assert second == first
    assert redis_as_ops.get(key) == before


def test_the_rate_is_kept(
    made: dict[str, list[int]], database: Database, redis_server: Server, namespace: str
) -> None:
    started = time.monotonic()
    warmed, told = _warm(database, redis_server, namespace, limit=3, rate=5)
    assert time.monotonic() - started >= sum(warmed.values()) / 5
    assert ("users", 3, 3) in told


def test_a_failing_redis_stops_the_warming(made: dict[str, list[int]], database: Database) -> None:
    async def run() -> None:
        nowhere = cache_settings("redis://127.0.0.1:9/0", "nowhere", near_entries=0)
        async with AsyncDataAccess(database_settings(database.url("app")), nowhere) as data:
            await Warming(data, 3, 1000, lambda *_: None).run()

    with pytest.raises(CacheUnavailable):
        asyncio.run(run())


def test_the_command_reports_what_it_did(
    made: dict[str, list[int]],
    database: Database,
    redis_server: Server,
    namespace: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DATABASE_URL", database.url("app"))
    monkeypatch.setenv("REDIS_URL", redis_server.redis_url("app"))
    monkeypatch.setenv("GROUNDWORK_CACHE_NAMESPACE", namespace)
    result = CliRunner().invoke(cache, ["warm", "--limit", "3"])
    assert result.exit_code == 0, result.output
    assert "users: 3 of 3" in result.output
    assert "cached: 3 users, 3 repositories, 1 organizations" in result.output
