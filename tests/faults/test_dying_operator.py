"""A flush that is killed at any of its steps: readers go on, nothing is lost, and a second run ends it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis

from cache.keys import EntityKeys
from db.models import USER_SCHEMA, NewUser
from tests.conftest import Connect, Database
from tests.containers import Server
from tests.scale import IS_FULL

ROOT = Path(__file__).parents[2]
KILLED, ENDED = -9, 0
FLUSHES = {
    "all": ["--all", "--reclaim", "--warm", "10"],
    "entity": ["--entity", "user", "--warm", "10"],
    "pattern": ["--pattern", "*:user:{*}", "--warm", "10"],
}
# After how many commands to Redis it is killed; the last ones are those of the warming.
STEPS = range(1, 25) if IS_FULL else [1, 2, 4, 8]
Operate = Callable[..., int]


@pytest.fixture
def flavour() -> str:
    """The readers' is another test's affair."""
    return "sync"


@pytest.fixture
def operate(database: Database, redis_server: Server, namespace: str) -> Operate:
    """operate(3, "flush", ...): its exit code, killed after three commands."""

    def run(kill_after: int, *arguments: str) -> int:
        return subprocess.run(
            [sys.executable, "-m", "tests.faults.dying_operator", str(kill_after), "cache", *arguments],
            cwd=ROOT,
            env=os.environ
            | {
                "DATABASE_URL": database.url("app_b"),
                "REDIS_URL": redis_server.redis_url("ops"),
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
