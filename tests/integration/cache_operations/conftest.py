"""Fixtures to run `groundwork cache ...` as user ops, and to change rows without updating the cache."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest
from click.testing import CliRunner

from db.models import NewUser
from ops.commands.cache import cache
from ops.errors import OpsError
from tests import containers
from tests.conftest import Connect, Database
from tests.containers import Server, wait_until
from tests.integration.data_access import cache_settings, data_access, database_settings

Operate = Callable[..., "Outcome"]
OpenReader = Callable[..., Any]
Overtake = Callable[[], None]


@dataclass(frozen=True)
class Outcome:
    """Exit code and output of a command. `error` is the line that ops.cli would print."""

    code: int
    out: str
    error: str = ""


@pytest.fixture
def operate(
    database: Database, redis_server: Server, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> Operate:
    """operate("flush", "--all", "--yes") runs the command in the test's namespace."""
    monkeypatch.setenv("REDIS_URL", redis_server.redis_url("ops"))
    monkeypatch.setenv("DATABASE_URL", database.url("app"))
    monkeypatch.setenv("GROUNDWORK_CACHE_NAMESPACE", namespace)

    def invoke(*arguments: str, **options: Any) -> Outcome:
        result = CliRunner().invoke(cache, arguments, **options)
        if isinstance(result.exception, OpsError):
            assert "\n" not in str(result.exception)
            return Outcome(result.exception.exit_code, result.stdout, str(result.exception))
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Outcome(result.exit_code, result.stdout, result.stderr)

    return invoke


@pytest.fixture
def reader(flavour: str, database: Database, redis_server: Server, namespace: str) -> Iterator[OpenReader]:
    """reader(near_entries) opens another data access, as another process would."""
    with ExitStack() as stack:

        def open_one(near_entries: int) -> Any:
            cache = cache_settings(redis_server.redis_url("app"), namespace, near_entries=near_entries)
            return stack.enter_context(
                data_access(flavour, database_settings(database.url("app"), pool_size=2), cache)
            )

        yield open_one


@pytest.fixture
def overtake(connect: Connect) -> Overtake:
    """Changes every user, organization and activity in Postgres only. No access service runs here."""
    app = connect("app")

    def change() -> None:
        app.execute("UPDATE users SET username = 'after'")
        app.execute("UPDATE organizations SET name = 'after'")
        app.execute("UPDATE activities SET type = 'after'")

    return change


@pytest.fixture(scope="package")
def full_redis(docker_engine: None) -> Iterator[Server]:
    """A Redis without eviction, whose administrator can make it run out of memory."""
    with containers.redis_server(eviction_policy="noeviction", administrator=True) as server:
        yield server


def cached_user(data: Any) -> Any:
    """Return a user that `data` has cached, also in its near cache if it has one."""
    user = data.users.add(NewUser(github_id=7, username="before"))
    wait_until(lambda: data.users.get(user.id) and (not data.cache.near or _is_near(data, user.id)))
    return user


def _is_near(data: Any, user_id: int) -> bool:
    return getattr(data.users.cached.peek(user_id), "id", None) == user_id
