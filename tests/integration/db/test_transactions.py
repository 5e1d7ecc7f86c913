"""Transactions over several repositories: they are atomic, and the cache is updated only after COMMIT."""

# ruff: noqa: PT012 (what is expected to fail is the block of a transaction as a whole)

from __future__ import annotations

import asyncio
import dataclasses
import select
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, nullcontext, suppress
from datetime import UTC, datetime
from typing import Any

import pytest
from msgspec.structs import replace

from db import AsyncDataAccess, DataAccess
from db.errors import (
    ConnectionLost,
    ConstraintViolated,
    NotFound,
    OutcomeUnknown,
    QueryFailed,
    TransactionAborted,
    TransactionBusy,
    TransactionOver,
    Unavailable,
    VersionConflict,
)
from db.models import NewActivity, NewOrganization, NewRepository, NewUser, Page, User
from tests.cases import in_case
from tests.conftest import Database
from tests.containers import Server
from tests.integration.data_access import cache_settings, database_settings
from tests.promises import promise

ADA = NewUser(github_id=7, username="ada")


@pytest.fixture
def settings(database: Database, redis_server: Server, namespace: str) -> tuple[Any, Any]:
    return (
        database_settings(database.url("app")),
        # Without near cache, because another one may serve a stale entry for a moment.
        cache_settings(redis_server.redis_url("app"), namespace, near_entries=0),
    )


@pytest.fixture
def data(settings: tuple[Any, Any]) -> Iterator[DataAccess]:
    with DataAccess(*settings) as opened:
        yield opened


@contextmanager
def in_a_loop(settings: tuple[Any, Any]) -> Iterator[Any]:
    """Run a coroutine function with an open AsyncDataAccess."""

    async def run(body: Any) -> Any:
        async with AsyncDataAccess(*settings) as opened:
            return await body(opened)

    yield lambda body: asyncio.run(run(body))


def _counts(database: Database) -> list[int]:
    tables = ("users", "organizations", "repositories", "activities")
    return [int(database.psql(f"SELECT count(*) FROM groundwork.{table}")) for table in tables]


def _one_of_each(data: DataAccess) -> None:
    user = data.users.add(ADA)
    organization = data.organizations.add(NewOrganization(github_id=1, name="o"))
    repository = data.repositories.add(NewRepository(github_id=1, name="o/r", org_id=organization.id))
    made = NewActivity(user_id=user.id, repo_id=repository.id, type="PushEvent", timestamp=datetime.now(UTC))
    data.activities.add(made)
    assert data.activities.copy_in([made]) == 1


@promise("a transaction is committed or rolled back as a whole")
def test_writes_of_several_repositories_are_kept_together(data: DataAccess, database: Database) -> None:
    with data.transaction():
        _one_of_each(data)
        assert _counts(database) == [0, 0, 0, 0]
    assert _counts(database) == [1, 1, 1, 2]


@promise("a transaction is committed or rolled back as a whole")
def test_an_error_that_leaves_the_block_rolls_back_all_writes(data: DataAccess, database: Database) -> None:
    with pytest.raises(RuntimeError, match="on purpose"), data.transaction():
        _one_of_each(data)
        raise RuntimeError("on purpose")
    assert _counts(database) == [0, 0, 0, 0]
    assert data.users.upsert(ADA).username == "ada"


def test_a_delete_that_finds_no_row_removes_the_stale_entry_although_it_is_rolled_back(
    data: DataAccess, database: Database
) -> None:
    ways: tuple[Callable[[int], object], ...] = (
        lambda user_id: data.users.delete(user_id),
        lambda user_id: data.users.delete_many([user_id]) or data.users.get(user_id),
    )
    for n, delete in enumerate(ways, start=1):
        user = data.users.get(data.users.add(NewUser(github_id=n, username="u")).id)
        database.psql(f"DELETE FROM groundwork.users WHERE id = {user.id}")
        assert data.users.find(user.id) == user
        with in_case(n), pytest.raises(NotFound), data.transaction():
            delete(user.id)
        assert data.users.find(user.id) is None


def test_async_transactions_do_the_same(settings: tuple[Any, Any], database: Database) -> None:
    async def body(data: AsyncDataAccess) -> None:
        async with data.transaction():
            user = await data.users.add(ADA)
            await data.users.update(replace(user, username="countess"))
        with pytest.raises(RuntimeError):
            async with data.transaction():
                await data.organizations.add(NewOrganization(github_id=1, name="o"))
                raise RuntimeError
        # Tasks started inside share the transaction, one statement after another.
        async with data.transaction():
            await asyncio.gather(*(data.users.add(NewUser(github_id=n, username="u")) for n in range(20, 30)))
            assert _counts(database) == [1, 0, 0, 0]

    with in_a_loop(settings) as run:
        run(body)
    assert _counts(database) == [11, 0, 0, 0]


@promise("a savepoint belongs to a single task")
def test_while_a_task_is_in_a_savepoint_no_other_writes_into_it(
    settings: tuple[Any, Any], database: Database
) -> None:
    async def body(data: AsyncDataAccess) -> None:
        is_inside, others_are_done = asyncio.Event(), asyncio.Event()

        async def fails() -> None:
            async with data.transaction():
                # The tasks that it starts are inside the savepoint too.
                await asyncio.gather(*(data.users.add(NewUser(github_id=n, username="u")) for n in (1, 2)))
                is_inside.set()
                await others_are_done.wait()
                raise RuntimeError

        async def meanwhile() -> None:
            await is_inside.wait()
            with pytest.raises(TransactionBusy):
                await data.users.add(NewUser(github_id=3, username="u"))
            with pytest.raises(TransactionBusy):
                await data.users.add(NewUser(github_id=4, username="u"), idempotency_key="k")
            with pytest.raises(TransactionBusy):
                async with data.transaction():
                    raise AssertionError("never inside")
            others_are_done.set()

        async with data.transaction():
            outcomes = await asyncio.gather(fails(), meanwhile(), return_exceptions=True)
            assert [type(outcome) for outcome in outcomes] == [RuntimeError, type(None)]
            kept = await data.users.add(NewUser(github_id=5, username="u"), idempotency_key="k")
        assert await data.users.list() == Page([kept], None)

    with in_a_loop(settings) as run:
        run(body)


@promise("a savepoint belongs to a single task", control=True)
def test_savepoints_of_two_tasks_take_each_others_work_back(database: Database) -> None:
    """The negative control: one task's savepoint is released, but is inside the other's."""
    database.psql(
        "BEGIN; SAVEPOINT s; SAVEPOINT s; INSERT INTO groundwork.users (github_id, username) VALUES (1, 'kept');"
        " RELEASE s; ROLLBACK TO s; COMMIT"
    )
    assert _counts(database) == [0, 0, 0, 0]


def test_reads_inside_see_the_own_writes_and_others_do_not_until_commit(
    data: DataAccess, settings: tuple[Any, Any]
) -> None:
    user = data.users.get(data.users.add(ADA).id)
    with DataAccess(*settings) as elsewhere:
        with data.transaction():
            updated = data.users.update(replace(user, username="countess"))
            assert data.users.get(user.id) == updated
            assert data.users.get_many([user.id]) == [updated]
            # Neither the database nor the cache shows it to others yet.
            assert elsewhere.users.get(user.id) == user
        assert elsewhere.users.get(user.id) == updated
        assert data.users.get(user.id) == updated


@promise("nothing that was rolled back reaches the cache")
def test_what_was_rolled_back_never_reaches_the_cache(data: DataAccess) -> None:
    user = data.users.get(data.users.add(ADA).id)
    with pytest.raises(RuntimeError), data.transaction():
        data.users.update(replace(user, username="countess"))
        raise RuntimeError
    assert data.users.get(user.id) == user
    # A later write gets the same row version as the one rolled back, and must be cached.
    later = data.users.update(replace(user, username="grace"))
    assert data.users.get(user.id) == later


@promise("nothing that was rolled back reaches the cache", control=True)
def test_updating_the_cache_before_commit_leaves_a_wrong_entry(data: DataAccess) -> None:
    """The control of the test above: updating the cache before COMMIT leaves there what was rolled back."""
    user = data.users.get(data.users.add(ADA).id)
    with pytest.raises(RuntimeError), data.transaction():
        updated = data.users.update(replace(user, username="countess"))
        data.users.cached.replace(updated.id, updated)
        raise RuntimeError
    assert data.users.get(user.id).username == "countess"


def test_a_refused_write_in_a_transaction_removes_a_stale_entry(data: DataAccess, database: Database) -> None:
    delete, rename = "DELETE FROM groundwork.users", "UPDATE groundwork.users SET username = 'changed'"
    cases: list[tuple[str, Callable[[User], object]]] = [
        (rename, data.users.update),
        (delete, lambda user: data.users.patch(user.id, username="x")),
        (rename, lambda user: data.users.update(user, idempotency_key="k")),
        (delete, lambda user: data.users.lock(user.id)),
    ]
    for n, (change, write) in enumerate(cases, start=1):
        for is_caught in (False, True):
            user = data.users.get(data.users.add(NewUser(github_id=2 * n + is_caught, username="u")).id)
            database.psql(f"{change} WHERE id = {user.id}")
            assert data.users.find(user.id) == user
            with in_case((n, is_caught)):
                # The block rolls back, or commits.
                with suppress(NotFound, VersionConflict), data.transaction():
                    with pytest.raises((NotFound, VersionConflict)) if is_caught else nullcontext():
                        write(user)
                assert data.users.find(user.id) != user


def test_an_inner_block_can_fail_alone(data: DataAccess) -> None:
    with data.transaction():
        user = data.users.add(ADA)
        with pytest.raises(ConstraintViolated), data.transaction():
            data.organizations.add(NewOrganization(github_id=1, name="gone"))
            data.users.add(ADA)
        with data.transaction():
            kept = data.users.update(replace(user, username="countess"))
    assert data.users.get(user.id) == kept
    assert data.organizations.find_by_github_id(1) is None


@promise("an error that the block caught and dropped is not reported as success")
def test_a_swallowed_error_is_not_reported_as_success(data: DataAccess) -> None:
    with pytest.raises(TransactionAborted, match="the transaction was rolled back"), data.transaction():
        data.users.add(ADA)
        with pytest.raises(ConstraintViolated):
            data.users.add(ADA)
        with pytest.raises(QueryFailed):
            data.users.find_by_github_id(7)
    assert data.users.find_by_github_id(7) is None


def test_a_connection_lost_in_a_transaction_raises_and_stores_nothing(
    data: DataAccess, database: Database
) -> None:
    with pytest.raises(ConnectionLost), data.transaction():
        data.users.add(ADA)
        database.psql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE usename = 'app_a' AND datname = current_database() AND state = 'idle in transaction'"
        )
        data.users.add(NewUser(github_id=8, username="grace"))
    assert _counts(database)[0] == 0
    assert data.users.add(ADA).username == "ada"


@promise("a COMMIT without an answer raises OutcomeUnknown, and the cache invalidates what was written")
def test_a_commit_without_an_answer_has_an_unknown_outcome_and_invalidates_the_cache(
    data: DataAccess, database: Database
) -> None:
    user = data.users.get(data.users.add(ADA).id)
    with pytest.raises(OutcomeUnknown), data.transaction():
        updated = data.users.update(replace(user, username="countess"))
        connection = _connection(data)
        send = connection.pgconn.send_query

        def send_and_lose(command: bytes) -> None:
            send(command)
            # The server gets the COMMIT and answers, but the answer is lost.
            connection.pgconn.flush()
            assert select.select([connection.pgconn.socket], [], [], 60)[0]
            connection.pgconn.finish()

        _patch(data, connection, send_and_lose)
    assert data.users.get(user.id).username in ("countess",)
    assert updated.username == "countess"


@promise("a task that outlives its transaction gets TransactionOver")
def test_a_task_that_outlives_its_transaction_gets_an_error(settings: tuple[Any, Any]) -> None:
    async def body(data: AsyncDataAccess) -> None:
        go_on = asyncio.Event()

        async def late() -> None:
            await go_on.wait()
            await data.users.find(1)

        async with data.transaction():
            task = asyncio.create_task(late())
            await asyncio.sleep(0)
        go_on.set()
        with pytest.raises(TransactionOver):
            await task

    with in_a_loop(settings) as run:
        run(body)


@promise("a task that outlives its transaction gets TransactionOver")
@pytest.mark.parametrize("ends_by", ["end", "error", "call"])
def test_a_nested_block_that_outlives_its_transaction_sends_nothing(
    settings: tuple[Any, Any], database: Database, ends_by: str
) -> None:
    """The connection may be in another transaction by then, whose savepoints have the same name."""
    database_settings, cache = settings

    async def body(data: AsyncDataAccess) -> None:
        is_nested, go_on = asyncio.Event(), asyncio.Event()

        async def late() -> None:
            async with data.transaction():
                is_nested.set()
                await go_on.wait()
                if ends_by == "error":
                    raise KeyError
                if ends_by == "call":
                    await data.users.count()

        async with data.transaction():
            task = asyncio.create_task(late())
            await is_nested.wait()

        async def other() -> None:
            async with data.transaction(), data.transaction():
                await data.users.add(ADA)
                go_on.set()
                with pytest.raises(KeyError if ends_by == "error" else TransactionOver):
                    await task
                await data.users.add(NewUser(github_id=8, username="grace"))

        await asyncio.create_task(other())

    with in_a_loop((dataclasses.replace(database_settings, pool_size=1, pool_min_size=1), cache)) as run:
        run(body)
    assert _counts(database)[0] == 2


def test_threads_have_transactions_of_their_own(data: DataAccess, database: Database) -> None:
    with data.transaction():
        data.users.add(ADA)
        other = threading.Thread(target=lambda: data.users.add(NewUser(github_id=8, username="grace")))
        other.start()
        other.join(timeout=10)
        assert database.psql("SELECT username FROM groundwork.users").split() == ["grace"]


def test_a_cancelled_transaction_is_rolled_back_and_its_connection_serves_on(
    settings: tuple[Any, Any], database: Database
) -> None:
    async def body(data: AsyncDataAccess) -> None:
        async def cancelled(is_under_way: asyncio.Event) -> None:
            async with data.transaction():
                await data.users.add(ADA)
                is_under_way.set()
                await asyncio.sleep(60)

        for _ in range(20):
            is_under_way = asyncio.Event()
            task = asyncio.create_task(cancelled(is_under_way))
            await is_under_way.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        added = await data.users.upsert(ADA)
        assert added.created_at == added.updated_at

    with in_a_loop(settings) as run:
        run(body)
    assert _counts(database)[0] == 1


def test_a_task_cancelled_as_its_connection_comes_is_cancelled(
    settings: tuple[Any, Any], database: Database
) -> None:
    """In whichever step of the event loop it is cancelled. psycopg_pool alone is the negative control."""
    one = (dataclasses.replace(settings[0], pool_size=1, pool_min_size=1), settings[1])

    async def body(data: AsyncDataAccess) -> None:
        raw = data.pool._pool

        @asynccontextmanager
        async def unguarded() -> AsyncIterator[None]:
            async with raw.connection():
                yield

        ours = [await _ignored(data, data.transaction, steps) for steps in range(25)]
        assert sum(ours) == 0
        # Since Python 3.12 asyncio handles this correctly.
        if sys.version_info < (3, 12):
            assert sum([await _ignored(data, unguarded, steps) for steps in range(25)]) > 0
        added = await data.users.upsert(ADA)
        assert added.created_at == added.updated_at

    with in_a_loop(one) as run:
        run(body)


async def _ignored(
    data: AsyncDataAccess, enter: Callable[[], AbstractAsyncContextManager[None]], steps: int
) -> bool:
    """Return whether a task continued although it was cancelled, `steps` event loop steps after it got a connection."""

    async def wait_in_line() -> None:
        async with enter():
            pass

    async with data.pool.connection(data.pool.deadline()):
        task = asyncio.create_task(wait_in_line())
        await asyncio.sleep(0.01)
    for _ in range(steps):
        await asyncio.sleep(0)
    # False if the task has finished already.
    was_told = task.cancel()
    await asyncio.wait([task])
    return was_told and not task.cancelled()


def test_a_pool_of_one_is_enough_for_a_transaction(
    database: Database, redis_server: Server, namespace: str
) -> None:
    with DataAccess(
        database_settings(database.url("app"), pool_size=1, deadline_seconds=2.0),
        cache_settings(redis_server.redis_url("app"), namespace),
    ) as data:
        with data.transaction():
            _one_of_each(data)
            # Outside the transaction no connection is left: a call raises an error in time, without a deadlock.
            errors: list[BaseException] = []

            def outside() -> None:
                try:
                    data.users.add(NewUser(github_id=99, username="late"))
                except Unavailable as error:
                    errors.append(error)

            thread = threading.Thread(target=outside)
            thread.start()
            thread.join(timeout=10)
            assert errors
    assert _counts(database) == [1, 1, 1, 2]


def _connection(data: DataAccess) -> Any:
    from db._sync.transaction import current_transaction

    transaction = current_transaction(data.pool)
    assert transaction is not None
    return transaction.connection


def _patch(data: DataAccess, connection: Any, send: Any) -> None:
    """Lose the connection after the transaction's COMMIT has been sent."""
    execute = connection.execute

    def commit_and_lose(sql: Any, *arguments: Any, **options: Any) -> Any:
        if bytes(sql) == b"COMMIT":
            send(b"COMMIT")
        return execute(sql, *arguments, **options)

    connection.execute = commit_and_lose
