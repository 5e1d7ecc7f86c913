"""The deadline of a block: all calls in it end by then, whatever they wait for."""

# ruff: noqa: PT012 (what is expected to fail is the block as a whole)

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any

import psycopg
import pytest

from db import AsyncDataAccess, DataAccess
from db.deadline import chosen_deadline
from db.errors import (
    ConnectionLost,
    DeadlineExceeded,
    InvalidInput,
    OutcomeUnknown,
    TransactionAborted,
    Unavailable,
)
from db.models import NewActivity, NewUser
from tests.conftest import Database
from tests.containers import Server, wait_until
from tests.integration.data_access import answers, cache_settings, data_access, database_settings
from tests.promises import promise

ADA, GRACE = NewUser(github_id=7, username="ada"), NewUser(github_id=8, username="grace")
# The deadline of the settings: much later than that of the blocks.
SETTINGS_SECONDS = 120.0
LATE_SECONDS = 60.0


@pytest.fixture
def data(open_data: Any) -> Any:
    opened = open_data(deadline_seconds=SETTINGS_SECONDS)
    wait_until(lambda: answers(opened))
    return opened


@contextmanager
def _locked_table(database: Database) -> Iterator[None]:
    with psycopg.connect(database.url("app"), autocommit=True) as connection:
        with connection.transaction():
            connection.execute("LOCK TABLE users IN ACCESS EXCLUSIVE MODE")
            yield


def _waiting(database: Database) -> int:
    return int(
        database.psql(
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
            " AND datname = current_database()"
        )
    )


def _expire() -> None:
    """Let the block's deadline pass now."""
    deadline = chosen_deadline()
    assert deadline is not None
    deadline.ends_at = 0.0


def _wait_for_a_connection(data: Any) -> None:
    """Wait until the pool has a free connection. A call that was cancelled may have closed its own."""
    wait_until(lambda: data.pool.statistics()["pool_available"] > 0)


def _users(database: Database) -> list[str]:
    return database.psql("SELECT username FROM groundwork.users ORDER BY 1").split()


@promise("every call in `data.deadline()` ends by then")
def test_calls_end_by_the_deadline_of_the_block(data: Any, database: Database) -> None:
    ada = data.users.add(ADA)
    reads: list[Callable[[], object]] = [
        lambda: data.users.find(4711),
        lambda: data.users.get_many([4711, 4712]),
        lambda: data.users.list(),
        lambda: data.users.find_by_github_id(7),
    ]
    writes: list[Callable[[], object]] = [
        lambda: data.users.add(GRACE),
        lambda: data.users.patch(ada.id, username="late"),
        lambda: data.users.delete(ada.id),
    ]
    started = time.monotonic()
    with _locked_table(database):
        for call, expected in [(read, DeadlineExceeded) for read in reads] + [
            (write, OutcomeUnknown) for write in writes
        ]:
            _wait_for_a_connection(data)
            with pytest.raises(expected), data.deadline(0.3):
                call()
    assert time.monotonic() - started < LATE_SECONDS
    # Outside of the block, the deadline of the settings counts again.
    assert data.users.count() >= 0


@promise("every call in `data.deadline()` ends by then")
def test_a_feed_ends_by_the_deadline_of_the_block(data: Any, database: Database) -> None:
    with psycopg.connect(database.url("app"), autocommit=True) as connection, connection.transaction():
        connection.execute("LOCK TABLE activities IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(DeadlineExceeded), data.deadline(0.3):
            data.activities.feed(1)
    with data.deadline(LATE_SECONDS):
        assert data.activities.feed(1).items == []


@promise("every call in `data.deadline()` ends by then")
def test_a_caller_without_a_connection_gives_up_by_the_deadline_of_the_block(
    open_data: Any, database: Database
) -> None:
    data = open_data(deadline_seconds=SETTINGS_SECONDS, pool_size=1)
    wait_until(lambda: answers(data))
    with ThreadPoolExecutor(1) as thread:
        with _locked_table(database):
            holder = thread.submit(data.users.list)
            wait_until(lambda: _waiting(database) == 1)
            with pytest.raises(Unavailable), data.deadline(0.3):
                data.users.list()
        assert holder.result(60).items == []


@promise("after the deadline of a block, nothing more is sent")
def test_after_the_deadline_nothing_is_sent(data: Any, database: Database) -> None:
    with data.deadline(LATE_SECONDS):
        ada = data.users.add(ADA)
        _expire()
        for call in (
            lambda: data.users.list(),
            lambda: data.users.find(4711),
            lambda: data.users.add(GRACE),
            lambda: data.users.add(GRACE, idempotency_key="k"),
            lambda: data.users.upsert_many([GRACE]),
            lambda: data.activities.copy_in([NewActivity(user_id=1, type="x", timestamp=ada.created_at)]),
        ):
            with pytest.raises(DeadlineExceeded, match="passed before it was sent; nothing was changed"):
                call()
    assert _users(database) == ["ada"]
    # Nothing is wrong with the connections.
    assert data.pool.statistics().get("connections_lost", 0) == 0


@promise("of nested deadlines the earliest counts")
def test_the_earliest_of_nested_deadlines_counts(data: Any, database: Database) -> None:
    with _locked_table(database):
        with pytest.raises(DeadlineExceeded), data.deadline(0.3), data.deadline(LATE_SECONDS):
            data.users.list()
        _wait_for_a_connection(data)
        with data.deadline(LATE_SECONDS):
            with pytest.raises(DeadlineExceeded), data.deadline(0.3):
                data.users.list()
            assert chosen_deadline().seconds == LATE_SECONDS
    assert chosen_deadline() is None
    with data.deadline(2 * SETTINGS_SECONDS):
        assert data.pool.deadline().seconds == SETTINGS_SECONDS


def test_a_deadline_is_a_positive_number_of_seconds(data: Any) -> None:
    for bad in (0, -1, float("nan"), float("inf"), "1", None, True, 10**6):
        with pytest.raises(InvalidInput, match="seconds"), data.deadline(bad):
            raise AssertionError("never inside")
    assert chosen_deadline() is None


@promise("callers of a shared read keep their own deadlines")
def test_a_caller_with_little_time_does_not_fail_the_others(open_data: Any, database: Database) -> None:
    # Otherwise the role's limit of 5 s could end the reads first.
    database.psql(f"ALTER ROLE app_a IN DATABASE {database.name} SET lock_timeout = 0")
    data = open_data(deadline_seconds=SETTINGS_SECONDS)
    wait_until(lambda: answers(data))
    ada = data.users.add(ADA)

    def hurried() -> Any:
        with data.deadline(5.0):
            return data.users.get(ada.id)

    with ThreadPoolExecutor(8) as threads:
        with _locked_table(database):
            # The first read is in progress, and all others join the second, which a hurried caller leads.
            first = threads.submit(hurried)
            wait_until(lambda: _waiting(database) == 1)
            hurrying = [threads.submit(hurried) for _ in range(3)]
            wait_until(lambda: data.users.cached._single_flight._gathering)
            patient = [threads.submit(data.users.get, ada.id) for _ in range(3)]
            for each in (first, *hurrying):
                with pytest.raises(DeadlineExceeded):
                    each.result(60)
            assert not any(each.done() for each in patient)
        assert [each.result(60) for each in patient] == [ada] * 3


@promise("the Redis calls of a read take at most half of the time until its deadline")
def test_a_read_leaves_time_for_postgres(flavour: str, database: Database) -> None:
    """Redis accepts connections and never answers, and may take longer than the deadline."""
    with socket.create_server(("127.0.0.1", 0)) as mute:
        url = f"redis://app:canary@127.0.0.1:{mute.getsockname()[1]}/0"
        cache = cache_settings(url, "none", near_entries=0, timeout_seconds=30.0)
        database.psql("INSERT INTO groundwork.users (github_id, username) VALUES (7, 'ada')")
        with data_access(flavour, database_settings(database.url("app")), cache) as data:
            data.users.list()
            for read in (
                lambda: data.users.get(1).username,
                lambda: data.users.get_many([1])[0].username,
                lambda: data.activities.feed(1).items or "ada",
            ):
                with data.deadline(4.0):
                    assert read() == "ada"


@pytest.fixture
def sync(database: Database, redis_server: Server, namespace: str) -> Iterator[DataAccess]:
    settings = database_settings(database.url("app"), deadline_seconds=SETTINGS_SECONDS)
    with DataAccess(settings, cache_settings(redis_server.redis_url("app"), namespace)) as opened:
        wait_until(lambda: answers(opened))
        yield opened


@promise("every call in `data.deadline()` ends by then")
def test_a_transaction_ends_by_the_deadline_of_the_block(sync: DataAccess, database: Database) -> None:
    with _locked_table(database):
        with pytest.raises(DeadlineExceeded), sync.deadline(0.5), sync.transaction():
            sync.users.add(ADA)
    assert _users(database) == []


@promise("after the deadline of a block, nothing more is sent")
def test_no_commit_is_sent_after_the_deadline(sync: DataAccess, database: Database) -> None:
    with pytest.raises(DeadlineExceeded, match="commit_transaction"), sync.deadline(LATE_SECONDS):
        with sync.transaction():
            sync.users.add(ADA)
            _expire()
    with pytest.raises(DeadlineExceeded, match="begin_transaction"), sync.deadline(LATE_SECONDS):
        _expire()
        with sync.transaction():
            raise AssertionError("never inside")
    assert _users(database) == []


def test_a_deadline_inside_a_transaction_covers_only_its_block(sync: DataAccess, database: Database) -> None:
    with sync.transaction():
        sync.users.add(ADA)
        with pytest.raises(DeadlineExceeded), sync.deadline(LATE_SECONDS):
            _expire()
            sync.users.add(GRACE)
    assert _users(database) == ["ada"]


def test_a_nested_block_whose_deadline_has_passed_is_undone_alone(
    sync: DataAccess, database: Database
) -> None:
    with sync.transaction():
        sync.users.add(ADA)
        with pytest.raises(DeadlineExceeded), sync.deadline(LATE_SECONDS):
            with sync.transaction():
                sync.users.add(GRACE)
                _expire()
                sync.users.list()
        with pytest.raises(DeadlineExceeded, match="make_savepoint"), sync.deadline(LATE_SECONDS):
            _expire()
            with sync.transaction():
                raise AssertionError("never inside")
    assert _users(database) == ["ada"]


def test_a_nested_block_that_ends_too_late_ends_the_transaction(sync: DataAccess, database: Database) -> None:
    """The savepoint may or may not have been released, so nothing may be committed."""
    with pytest.raises(ConnectionLost), sync.transaction():
        sync.users.add(ADA)
        with pytest.raises(DeadlineExceeded), sync.deadline(LATE_SECONDS), sync.transaction():
            sync.users.add(GRACE)
            _expire()
        sync.users.count()
    assert _users(database) == []


def test_a_nested_block_that_ends_too_late_waits_for_the_statement_of_another_task(
    database: Database,
) -> None:
    """psycopg reads freed memory if a connection is closed during a statement."""

    async def body() -> None:
        nowhere = cache_settings(
            "redis://app:canary@127.0.0.1:9/0", "none", near_entries=0, timeout_seconds=0.1
        )
        async with AsyncDataAccess(
            database_settings(database.url("app"), deadline_seconds=60.0), nowhere
        ) as data:
            async with data.transaction():
                with pytest.raises(DeadlineExceeded), data.deadline(LATE_SECONDS):
                    async with data.transaction():
                        lock = ExitStack()
                        lock.enter_context(_locked_table(database))
                        task = asyncio.create_task(data.users.list())
                        await asyncio.to_thread(wait_until, lambda: _waiting(database) == 1)
                        _expire()
                        asyncio.get_running_loop().call_later(0.2, lock.close)
                assert (await task).items == []

    with pytest.raises(TransactionAborted):
        asyncio.run(body())


def test_tasks_that_are_started_in_the_block_share_its_deadline(database: Database) -> None:
    async def body() -> None:
        settings = database_settings(database.url("app"), deadline_seconds=SETTINGS_SECONDS)
        cache = cache_settings(
            "redis://app:canary@127.0.0.1:9/0", "none", near_entries=0, timeout_seconds=0.1
        )
        async with AsyncDataAccess(settings, cache) as data:
            await data.users.list()
            outside = asyncio.Event()

            async def list_later() -> object:
                await outside.wait()
                return await data.users.list()

            before = asyncio.create_task(list_later())
            with data.deadline(LATE_SECONDS):
                started = asyncio.create_task(list_later())
                _expire()
                outside.set()
                with pytest.raises(DeadlineExceeded):
                    await started
                assert await before

    asyncio.run(body())
