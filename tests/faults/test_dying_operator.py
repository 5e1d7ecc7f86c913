"""A flush or a warming that is killed at any of its steps: readers go on, nothing is lost, and a second run ends it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
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
from tests.scale import IS_FULL

ROOT = Path(__file__).parents[2]
SCHEMAS = {"user": USER_SCHEMA, "repository": REPOSITORY_SCHEMA, "organization": ORGANIZATION_SCHEMA}
KILLED, ENDED = -9, 0
FLUSHES = {
    "all": ["--all", "--reclaim", "--warm", "10"],
    "entity": ["--entity", "user", "--warm", "10"],
    "pattern": ["--pattern", "*:user:{*}", "--warm", "10"],
}
# After how many commands to Redis it is killed; the last ones are those of the warming.
STEPS = range(1, 25) if IS_FULL else [1, 2, 4, 8]
# A warming of three kinds: of each a look whether Redis is well, and then what is missing.
WARMING_STEPS = [*range(1, 20), 40] if IS_FULL else [1, 4, 8, 12, 40]
Operate = Callable[..., int]


@pytest.fixture
def flavour() -> str:
    """The readers' is another test's affair."""
    return "sync"


@pytest.fixture
def operate(database: Database, redis_server: Server, namespace: str) -> Operate:
    """operate(3, "flush", ...): its exit code, killed after three commands."""

    def run(kill_after: int, *arguments: str, user: str = "ops") -> int:
        return subprocess.run(
            [
                sys.executable,
                "-m",
                "tests.faults.dying_operator",
                "redis",
                str(kill_after),
                "cache",
                *arguments,
            ],
            cwd=ROOT,
            env=os.environ
            | {
                "DATABASE_URL": database.url("app_b"),
                "REDIS_URL": redis_server.redis_url(user),
                "GROUNDWORK_CACHE_NAMESPACE": namespace,
            },
            check=False,
            capture_output=True,
            timeout=180,
        ).returncode

    return run


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("flush", FLUSHES)
def test_a_flush_killed_at_any_step_harms_nobody_and_ends_when_it_is_run_again(
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
    # Half a flush is none, or a whole one, for each of them; and a write is read at once, as ever.
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
    """The ids by kind of three users, two repositories and an organization, none of them cached."""
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


@pytest.mark.parametrize("step", WARMING_STEPS)
def test_a_warming_killed_at_any_step_harms_nobody_and_ends_when_it_is_run_again(
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
        # The control: it was not over, or the second run would have nothing to end.
        assert cached < len(keys)
    else:
        assert (code, cached) == (ENDED, len(keys))
        assert step > 5
    # Whoever reads or writes what was just being cached is not kept waiting, and not told old things.
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


def test_the_steps_that_are_tried_lie_in_a_warming_and_the_last_ones_behind_it(
    operate: Operate, busy: dict[str, list[int]]
) -> None:
    """Where this fails WARMING_STEPS want to be other ones."""
    assert operate(WARMING_STEPS[0], "warm", "--limit", "10", user="app") == KILLED
    assert operate(WARMING_STEPS[-1], "warm", "--limit", "10", user="app") == ENDED
