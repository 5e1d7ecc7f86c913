"""A flush or a warming is killed at each of its steps: reads stay correct, and a second run completes it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
import redis
from msgspec.structs import replace

from cache.keys import EntityKeys
from db.models import (
    ORGANIZATION_SCHEMA,
    REPOSITORY_SCHEMA,
    USER_SCHEMA,
    NewActivity,
    NewOrganization,
    NewRepository,
    NewUser,
)
from tests.conftest import Connect, Database
from tests.containers import Server
from tests.faults.dying_operator import run_until
from tests.promises import promise
from tests.scale import IS_FULL

SCHEMAS = {"user": USER_SCHEMA, "repository": REPOSITORY_SCHEMA, "organization": ORGANIZATION_SCHEMA}
KILLED, ENDED = -9, 0
FLUSHES = {
    "all": ["--all", "--reclaim", "--warm", "10"],
    "entity": ["--entity", "user", "--warm", "10"],
    "pattern": ["--pattern", "*:user:{*}", "--warm", "10"],
}
# The number of Redis commands after which the command is killed. The last ones belong to a warming.
STEPS = range(1, 25) if IS_FULL else [1, 4, 8]
# A warming of three kinds of records: for each a check of Redis, and then the missing records.
WARMING_STEPS = [*range(1, 20), 40] if IS_FULL else [1, 8, 40]
Operate = Callable[..., int]


@pytest.fixture
def flavour() -> str:
    """One flavour is enough here; other tests cover the async one."""
    return "sync"


@pytest.fixture
def operate(database: Database, redis_server: Server, namespace: str) -> Operate:
    """operate(3, "flush", ...) runs a command, kills it after three Redis commands, and returns the exit code."""

    def run(kill_after: int, *arguments: str, user: str = "ops") -> int:
        return run_until(
            "redis",
            kill_after,
            "cache",
            *arguments,
            DATABASE_URL=database.url("app_b"),
            REDIS_URL=redis_server.redis_url(user),
            GROUNDWORK_CACHE_NAMESPACE=namespace,
        ).returncode

    return run


@promise("a flush or warming killed at any step does no harm, and the next one completes it")
@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("flush", FLUSHES)
def test_a_flush_killed_at_any_step_does_no_harm_and_the_next_run_completes_it(
    data: Any,
    operate: Operate,
    connect: Connect,
    redis_as_ops: redis.Redis,
    namespace: str,
    flush: str,
    step: int,
) -> None:
    users = [data.users.add(NewUser(github_id=number, username="before")).id for number in range(1, 4)]
    data.users.get_many(users)
    connect("app").execute("UPDATE users SET username = 'after'")
    code = operate(step, "flush", "--yes", *FLUSHES[flush])
    assert code in (KILLED, ENDED)
    assert code == KILLED or step > 5
    # For each user the flush has happened or not, and a write is visible at once as always.
    assert {user.username for user in data.users.get_many(users)} <= {"before", "after"}
    written = data.users.add(NewUser(github_id=step + 1000, username="written"))
    assert data.users.get(written.id).username == "written"

    assert operate(10_000, "flush", "--yes", *FLUSHES[flush]) == ENDED
    assert [user.username for user in data.users.get_many(users)] == ["after"] * 3
    assert [data.users.get(user_id).username for user_id in users] == ["after"] * 3
    left = redis_as_ops.get(EntityKeys(namespace, "user", USER_SCHEMA).value(users[0]))
    assert left is None or b"before" not in left


@pytest.fixture
def busy(data: Any) -> dict[str, list[int]]:
    """Return the ids by kind of three users, two repositories and an organization, none of them cached."""
    users = [data.users.add(NewUser(github_id=number, username="before")).id for number in range(1, 4)]
    organization = data.organizations.add(NewOrganization(github_id=1, name="org")).id
    repositories = [
        data.repositories.add(NewRepository(github_id=number, name=f"o/{number}", org_id=organization)).id
        for number in range(1, 3)
    ]
    now = datetime.now(UTC)
    data.activities.copy_in(
        NewActivity(user_id=user, repo_id=repositories[0], type="PushEvent", timestamp=now) for user in users
    )
    return {"user": users, "repository": repositories, "organization": [organization]}


@promise("a flush or warming killed at any step does no harm, and the next one completes it")
@pytest.mark.parametrize("step", WARMING_STEPS)
def test_a_warming_killed_at_any_step_does_no_harm_and_the_next_run_completes_it(
    data: Any,
    operate: Operate,
    redis_as_ops: redis.Redis,
    namespace: str,
    busy: dict[str, list[int]],
    step: int,
) -> None:
    keys = {
        EntityKeys(namespace, kind, SCHEMAS[kind]).value(record_id): kind
        for kind, ids in busy.items()
        for record_id in ids
    }
    code = operate(step, "warm", "--limit", "10", user="app")
    cached = redis_as_ops.exists(*keys)
    if code == KILLED:
        # The control: the warming was incomplete, so that the second run has something to do.
        assert cached < len(keys)
    else:
        assert (code, cached) == (ENDED, len(keys))
        assert step > 5
    # Reads and writes of records that were just being cached do not wait, and return current data.
    first, second, third = busy["user"]
    assert data.users.get(first).username == "before"
    data.users.update(replace(data.users.get(second), username="after"))
    assert data.users.get(second).username == "after"

    assert operate(10_000, "warm", "--limit", "10", user="app") == ENDED
    assert redis_as_ops.exists(*keys) == len(keys)
    assert [user.username for user in data.users.get_many([first, second, third])] == [
        "before",
        "after",
        "before",
    ]
    stored = {
        name: redis_as_ops.get(EntityKeys(namespace, "user", USER_SCHEMA).value(name))
        for name in busy["user"]
    }
    assert [b"after" in (value or b"") for value in stored.values()] == [False, True, False]


def test_the_first_steps_are_within_a_warming_and_the_last_is_after_it(
    operate: Operate, busy: dict[str, list[int]]
) -> None:
    """If this fails, adapt WARMING_STEPS."""
    assert operate(WARMING_STEPS[0], "warm", "--limit", "10", user="app") == KILLED
    assert operate(WARMING_STEPS[-1], "warm", "--limit", "10", user="app") == ENDED
