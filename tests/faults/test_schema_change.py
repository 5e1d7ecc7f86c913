"""ALTER TABLE while eight callers read and write: no call fails."""

from __future__ import annotations

import asyncio
import secrets
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle, islice
from typing import Any

import psycopg
import pytest
from psycopg.rows import class_row

from db import AsyncDataAccess, DataAccess
from db.models import NewUser, User
from tests.conftest import Database
from tests.containers import wait_until
from tests.integration.data_access import cache_settings, database_settings
from tests.promises import promise
from tests.scale import scaled

CALLERS = 8
CHANGES = scaled(9, 60)
# A changed column type changes the result of every prepared statement on users; an added column does not.
STATEMENTS = (
    "ALTER TABLE groundwork.users ALTER COLUMN username TYPE varchar(200)",
    "ALTER TABLE groundwork.users ADD COLUMN extra_{n} text",
    "ALTER TABLE groundwork.users ALTER COLUMN username TYPE text",
)
# Without a cache, every read goes to Postgres.
NO_CACHE = cache_settings("redis://app:x@localhost:1/0", "none")


class Changing:
    """Changes the schema while callers run, and counts the results of their calls: `ok` or the error's name."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.is_over = threading.Event()
        self.outcomes: list[Counter[str]] = [Counter() for _ in range(CALLERS)]

    def run(self) -> None:
        try:
            for n, statement in enumerate(islice(cycle(STATEMENTS), CHANGES)):
                self._wait_for_each_caller()
                self._database.psql(statement.format(n=n))
            self._wait_for_each_caller()
        finally:
            self.is_over.set()

    def _wait_for_each_caller(self) -> None:
        """Wait until every caller has made more calls than there are kinds of calls."""
        before = [each.total() for each in self.outcomes]
        wait_until(
            lambda: all(now.total() > old + 6 for now, old in zip(self.outcomes, before, strict=True)), 60
        )


def call_until_over(changing: Changing, caller: int, call: Callable[[], object]) -> None:
    while not changing.is_over.is_set():
        try:
            call()
            changing.outcomes[caller]["ok"] += 1
        except Exception as error:
            changing.outcomes[caller][repr(error)] += 1


async def await_until_over(changing: Changing, caller: int, call: Callable[[], Awaitable[object]]) -> None:
    while not changing.is_over.is_set():
        try:
            await call()
            changing.outcomes[caller]["ok"] += 1
        except Exception as error:
            changing.outcomes[caller][repr(error)] += 1


@pytest.fixture
def changing(database: Database) -> Iterator[Changing]:
    changing = Changing(database)
    changer = threading.Thread(target=changing.run)
    changer.start()
    yield changing
    changer.join()


def reads_and_writes(data: Any, caller: int) -> list[Callable[[], Any]]:
    """Return the calls that a caller makes in turn. Every fourth caller writes."""
    user_id = caller + 1
    reads = [
        lambda: data.users.get(user_id),
        lambda: data.users.get_many([1, 2, 3]),
        lambda: data.users.list(limit=5),
        lambda: data.users.find_by_github_id(user_id),
    ]
    new = NewUser(github_id=user_id, username="y")
    writes = [
        lambda: data.users.upsert(new),
        # With an idempotency key, the write has its own transaction.
        lambda: data.users.upsert(new, idempotency_key=secrets.token_hex(8)),
    ]
    return reads + writes if caller % 4 == 0 else reads


@pytest.fixture
def users(database: Database) -> None:
    database.psql(
        "INSERT INTO groundwork.users (github_id, username)"
        f" SELECT n, 'user' || n FROM generate_series(1, {CALLERS}) n"
    )


@promise("a migration causes no errors in prepared statements")
def test_threads_get_no_error(users: None, database: Database, changing: Changing) -> None:
    with DataAccess(database_settings(database.url("app")), NO_CACHE) as data:
        with ThreadPoolExecutor(CALLERS) as threads:
            calls = [cycle(reads_and_writes(data, caller)) for caller in range(CALLERS)]
            for n, each in enumerate(calls):
                threads.submit(call_until_over, changing, n, lambda each=each: next(each)())
    assert [outcomes.keys() for outcomes in changing.outcomes] == [{"ok"}] * CALLERS


@promise("a migration causes no errors in prepared statements")
def test_tasks_get_no_error(users: None, database: Database, changing: Changing) -> None:
    async def scenario() -> None:
        async with AsyncDataAccess(database_settings(database.url("app")), NO_CACHE) as data:
            calls = [cycle(reads_and_writes(data, caller)) for caller in range(CALLERS)]
            await asyncio.gather(
                *(
                    await_until_over(changing, n, lambda each=each: next(each)())
                    for n, each in enumerate(calls)
                )
            )

    asyncio.run(scenario())
    assert [outcomes.keys() for outcomes in changing.outcomes] == [{"ok"}] * CALLERS


@promise("a migration causes no errors in prepared statements", control=True)
def test_the_plain_driver_gets_errors(users: None, database: Database, changing: Changing) -> None:
    """The negative control: prepared statements fail after the change."""
    columns = "id, github_id, username, email, preferences, created_at, updated_at, row_version"
    query = f"SELECT {columns} FROM users WHERE id = 1"

    def call(caller: int) -> None:
        with psycopg.connect(database.url("app"), autocommit=True) as connection:
            cursor = connection.cursor(row_factory=class_row(User))
            call_until_over(changing, caller, lambda: cursor.execute(query, prepare=True).fetchone())

    with ThreadPoolExecutor(CALLERS) as threads:
        for caller in range(CALLERS):
            threads.submit(call, caller)
    assert any(outcome.startswith("FeatureNotSupported") for outcome in sum(changing.outcomes, Counter()))
