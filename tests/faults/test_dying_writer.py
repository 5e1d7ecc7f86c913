"""Writes that do not update the cache: while the outbox is drained, reads are correct within 2 s."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from db.models import NewUser
from tests.conftest import Database
from tests.containers import Server, wait_until
from tests.integration.serve.service import running_service
from tests.promises import promise
from tests.scale import IS_FULL, limit

ROOT = Path(__file__).parents[2]
BOUND_SECONDS = limit(2.0)
# Long enough for a drainer, if there were one.
STALE_SECONDS = 2.5
# The tests of the access service cover an update by psql.
WRITES = ["update", "upsert", "delete", "psql delete"]

Write = Callable[[str, int], None]


@pytest.fixture
def write(flavour: str, database: Database, redis_server: Server, namespace: str) -> Write:
    """Changes or deletes a user without updating the cache."""

    def do(verb: str, user_id: int) -> None:
        if verb == "psql update":
            database.psql(f"UPDATE groundwork.users SET username = 'after' WHERE id = {user_id}")
        elif verb == "psql delete":
            database.psql(f"DELETE FROM groundwork.users WHERE id = {user_id}")
        else:
            died = subprocess.run(
                [sys.executable, "-m", "tests.faults.dying_writer", flavour, verb, str(user_id), namespace],
                cwd=ROOT,
                env=os.environ
                | {"DATABASE_URL": database.url("app_b"), "REDIS_URL": redis_server.redis_url("app")},
                check=False,
                timeout=60,
            )
            assert died.returncode == -9

    return do


@contextmanager
def drained(database: Database, redis_server: Server, namespace: str) -> Iterator[None]:
    with running_service(
        DATABASE_URL=database.url("app"),
        REDIS_URL=redis_server.redis_url("app"),
        GROUNDWORK_CACHE_NAMESPACE=namespace,
    ) as service:
        wait_until(service.is_ready, 20)
        yield


def username(user: Any) -> str | None:
    return None if user is None else str(user.username)


@promise("a writer that dies before it reaches Redis leaves stale reads for 2 s at most")
@pytest.mark.parametrize("verb", WRITES)
def test_readers_are_right_within_two_seconds(
    data: Any, write: Write, database: Database, redis_server: Server, namespace: str, verb: str
) -> None:
    user = data.users.get(data.users.add(NewUser(github_id=7, username="before")).id)
    expected = None if "delete" in verb else "after"
    with drained(database, redis_server, namespace):
        write(verb, user.id)
        wait_until(lambda: username(data.users.find(user.id)) == expected, BOUND_SECONDS)


@promise("a writer that dies before it reaches Redis leaves stale reads for 2 s at most", control=True)
@pytest.mark.parametrize("verb", ["update", "delete", "psql update"] if IS_FULL else ["update", "delete"])
def test_without_a_drainer_readers_stay_stale(data: Any, write: Write, database: Database, verb: str) -> None:
    """The negative control. It also shows that the writer was killed at the intended point."""
    user = data.users.get(data.users.add(NewUser(github_id=7, username="before")).id)
    write(verb, user.id)
    # The add before the write leaves an outbox entry too.
    entries = "SELECT count(*) FROM groundwork.cache_outbox WHERE entity = 'user'"
    assert int(database.psql(entries)) >= 1
    give_up_at = time.monotonic() + STALE_SECONDS
    while time.monotonic() < give_up_at:
        assert data.users.find(user.id) == user
        time.sleep(0.1)
    data.outbox.drain()
    assert username(data.users.find(user.id)) == (None if "delete" in verb else "after")
