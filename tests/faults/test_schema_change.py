"""ALTER TABLE while eight callers read and write: not one of them is given an error."""

from __future__ import annotations

import asyncio
import secrets
import threading
import time
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
from tests.integration.data_access import cache_settings, database_settings
from tests.scale import scaled

CALLERS = 8
CHANGES = scaled(9, 60)
# The result of every prepared statement on users changes with the type, not with a column that is added.
STATEMENTS = (
    "ALTER TABLE groundwork.users ALTER COLUMN username TYPE varchar(200)",
    "ALTER TABLE groundwork.users ADD COLUMN extra_{n} text",
    "ALTER TABLE groundwork.users ALTER COLUMN username TYPE text",
)
# No cache: every read is Postgres's.
NO_CACHE = cache_settings("redis://app:x@localhost:1/0", "none")


def change_schema(database: Database) -> None:
    """The changes one after the other, with time for every caller in between."""
    for n, statement in enumerate(islice(cycle(STATEMENTS), CHANGES)):
        time.sleep(0.15)
        database.psql(statement.format(n=n))
    time.sleep(0.15)


def call_until(stopped: threading.Event, call: Callable[[], object]) -> Counter[str]:
    """What came of calls: `ok`, or the error's name."""
    outcomes: Counter[str] = Counter()
    while not stopped.is_set():
        try:
            call()
            outcomes["ok"] += 1
        except Exception as error:
            outcomes[type(error).__name__] += 1
    return outcomes


async def await_until(stopped: threading.Event, call: Callable[[], Awaitable[object]]) -> Counter[str]:
    outcomes: Counter[str] = Counter()
    while not stopped.is_set():
        try:
            await call()
            outcomes["ok"] += 1
        except Exception as error:
            outcomes[type(error).__name__] += 1
    return outcomes


@pytest.fixture
def changing(database: Database) -> Iterator[threading.Event]:
    """Set once the schema has changed for the last time; it begins to when the test waits."""
    stopped = threading.Event()

    def change() -> None:
        try:
            change_schema(database)
        finally:
            stopped.set()

    changer = threading.Thread(target=change)
    changer.start()
    yield stopped
    changer.join()


def reads_and_writes(data: Any, caller: int) -> list[Callable[[], Any]]:
    """What each of the callers does in turn; every fourth writes."""
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
        # In a transaction of its own.
        lambda: data.users.upsert(new, idempotency_key=secrets.token_hex(8)),
    ]
    return reads + writes if caller % 4 == 0 else reads


@pytest.fixture
def users(database: Database) -> None:
    database.psql(
        "INSERT INTO groundwork.users (github_id, username)"
        f" SELECT n, 'user' || n FROM generate_series(1, {CALLERS}) n"
    )


def test_threads_are_given_no_error(users: None, database: Database, changing: threading.Event) -> None:
    with DataAccess(database_settings(database.url("app")), NO_CACHE) as data:
        with ThreadPoolExecutor(CALLERS) as threads:
            calls = [cycle(reads_and_writes(data, caller)) for caller in range(CALLERS)]
            callers = [threads.submit(call_until, changing, lambda c=c: next(c)()) for c in calls]
            outcomes = [caller.result() for caller in callers]
    assert sum(outcomes, Counter()).keys() == {"ok"}
    assert min(outcome["ok"] for outcome in outcomes) > CHANGES


def test_tasks_are_given_no_error(users: None, database: Database, changing: threading.Event) -> None:
    async def scenario() -> list[Counter[str]]:
        async with AsyncDataAccess(database_settings(database.url("app")), NO_CACHE) as data:
            calls = [cycle(reads_and_writes(data, caller)) for caller in range(CALLERS)]
            return await asyncio.gather(*(await_until(changing, lambda c=c: next(c)()) for c in calls))

    outcomes = asyncio.run(scenario())
    assert sum(outcomes, Counter()).keys() == {"ok"}
    assert min(outcome["ok"] for outcome in outcomes) > CHANGES


def test_the_plain_driver_is_given_errors(users: None, database: Database, changing: threading.Event) -> None:
    """The negative control: prepared statements outlive what they were prepared for."""
    columns = "id, github_id, username, email, preferences, created_at, updated_at, row_version"
    query = f"SELECT {columns} FROM users WHERE id = 1"

    def call() -> Counter[str]:
        with psycopg.connect(database.url("app"), autocommit=True) as connection:
            cursor = connection.cursor(row_factory=class_row(User))
            return call_until(changing, lambda: cursor.execute(query, prepare=True).fetchone())

    with ThreadPoolExecutor(CALLERS) as threads:
        outcomes = [caller.result() for caller in [threads.submit(call) for _ in range(CALLERS)]]
    assert sum(outcomes, Counter())["FeatureNotSupported"] > 0
