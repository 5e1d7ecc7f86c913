"""Tasks and threads that share a transaction use its connection one after another, each within its own deadline."""

# ruff: noqa: PT012 (what is expected to fail is the block as a whole)

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager, closing, nullcontext, suppress
from contextvars import copy_context
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest

from db import AsyncDataAccess, DataAccess
from db._sync.connection import BoundedConnection
from db.errors import ConnectionLost, DeadlineExceeded, TransactionOver
from db.models import NewActivity, NewOrganization, NewUser
from tests.conftest import Database
from tests.containers import wait_until
from tests.integration.data_access import cache_settings, database_settings
from tests.promises import promise

ADA, LAB = NewUser(github_id=7, username="ada"), NewOrganization(github_id=9, name="lab")
# The deadline of the settings: much later than that of the calls which wait.
SETTINGS_SECONDS = 120.0
SECONDS = 0.3


def _run(database: Database, body: Callable[[AsyncDataAccess], Awaitable[None]], pool_size: int = 2) -> None:
    nowhere = cache_settings("redis://app:x@127.0.0.1:9/0", "none", near_entries=0, timeout_seconds=0.1)
    settings = database_settings(
        database.url("app"), deadline_seconds=SETTINGS_SECONDS, pool_size=pool_size, pool_min_size=1
    )

    async def run() -> None:
        async with AsyncDataAccess(settings, nowhere) as data:
            await body(data)

    asyncio.run(run())


@asynccontextmanager
async def _busy(data: AsyncDataAccess, database: Database) -> AsyncIterator[asyncio.Task[Any]]:
    """Start a task whose statement waits for a locked table, until the block ends."""
    with psycopg.connect(database.url("app")) as connection:
        connection.execute("LOCK TABLE users IN ACCESS EXCLUSIVE MODE")
        task = asyncio.create_task(data.users.count())
        await asyncio.to_thread(wait_until, lambda: _waiting(database) == 1)
        yield task
        assert not task.done()


def _waiting(database: Database) -> int:
    return int(
        database.psql(
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
            " AND datname = current_database()"
        )
    )


def _stored(database: Database, table: str) -> int:
    return int(database.psql(f"SELECT count(*) FROM groundwork.{table}"))


async def _nested(data: AsyncDataAccess) -> None:
    async with data.transaction():
        raise AssertionError("never inside")


async def _load(data: AsyncDataAccess) -> None:
    await data.activities.copy_in([NewActivity(user_id=1, type="x", timestamp=datetime.now(UTC))])


@promise("every call in `data.deadline()` ends by then")
@pytest.mark.parametrize("call", [lambda data: data.organizations.count(), _nested, _load])
def test_a_call_that_waits_for_another_task_ends_by_its_own_deadline(
    database: Database, call: Callable[[AsyncDataAccess], Awaitable[Any]]
) -> None:
    async def body(data: AsyncDataAccess) -> None:
        async with data.transaction():
            lab = await data.organizations.add(LAB)
            async with _busy(data, database) as busy:
                with pytest.raises(DeadlineExceeded, match="other tasks of the transaction"):
                    with data.deadline(SECONDS):
                        await call(data)
            assert await busy == 0
            await data.organizations.patch(lab.id, name="still open")

    _run(database, body)
    assert _stored(database, "organizations") == 1
    assert _stored(database, "activities") == 0


def test_a_call_that_waits_keeps_its_own_deadline(database: Database) -> None:
    """The deadline of the call that gives up must not apply to those that wait with it."""

    async def body(data: AsyncDataAccess) -> None:
        async def hurried() -> object:
            with data.deadline(SECONDS):
                return await data.organizations.count()

        async with data.transaction():
            await data.organizations.add(LAB)
            async with _busy(data, database) as busy:
                patient = asyncio.create_task(data.organizations.count())
                with pytest.raises(DeadlineExceeded):
                    await asyncio.create_task(hurried())
            assert [await busy, await patient] == [0, 1]

    _run(database, body)
    assert _stored(database, "organizations") == 1


def test_a_nested_block_is_undone_after_the_statement_of_another_task(database: Database) -> None:
    async def body(data: AsyncDataAccess) -> None:
        async with data.transaction():
            await data.organizations.add(LAB)
            busy, waits = await _fail(data)
            assert await busy == 0
            with pytest.raises(TransactionOver):
                await waits

    async def _fail(data: AsyncDataAccess) -> list[asyncio.Task[Any]]:
        tasks: list[asyncio.Task[Any]] = []
        with pytest.raises(KeyError), data.deadline(SETTINGS_SECONDS):
            async with data.transaction():
                await data.organizations.add(NewOrganization(github_id=10, name="undone"))
                async with _busy(data, database) as busy:
                    tasks += [busy, asyncio.create_task(data.users.add(ADA))]
                    await asyncio.sleep(0)
                    # The lock is released when this block ends, which does not wait for the statement.
                raise KeyError
        return tasks

    _run(database, body)
    assert database.psql("SELECT name FROM groundwork.organizations").split() == ["lab"]
    assert _stored(database, "users") == 0


@promise("a task that outlives its transaction gets TransactionOver")
def test_a_call_that_waits_sends_nothing_after_an_error_has_left_the_block(database: Database) -> None:
    async def body(data: AsyncDataAccess) -> None:
        tasks: list[asyncio.Task[Any]] = []
        with pytest.raises(KeyError):
            async with data.transaction():
                async with _busy(data, database) as busy:
                    tasks += [busy, asyncio.create_task(data.organizations.add(LAB))]
                    await asyncio.sleep(0)
                raise KeyError
        assert await tasks[0] == 0
        with pytest.raises(TransactionOver):
            await tasks[1]

    _run(database, body)
    assert _stored(database, "organizations") == 0


@promise("a task that outlives its transaction gets TransactionOver")
def test_a_call_that_waits_for_commit_sends_nothing(database: Database) -> None:
    """The connection is in the pool by then."""

    async def body(data: AsyncDataAccess) -> None:
        is_sent = asyncio.Event()

        async def late() -> None:
            await is_sent.wait()
            await data.organizations.add(LAB)

        async with data.transaction():
            await data.users.add(ADA)
            task = asyncio.create_task(late())
            # Called when this task waits, which is when COMMIT has been sent.
            asyncio.get_running_loop().call_soon(is_sent.set)
        with pytest.raises(TransactionOver):
            await task

    _run(database, body, pool_size=1)
    assert [_stored(database, table) for table in ("users", "organizations")] == [1, 0]


def test_a_cancelled_call_lets_the_next_one_use_the_connection(database: Database) -> None:
    async def body(data: AsyncDataAccess) -> None:
        async with data.transaction():
            async with _busy(data, database) as busy:
                cancelled, waits = (asyncio.create_task(data.organizations.add(LAB)) for _ in range(2))
                await asyncio.sleep(0)
                cancelled.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await cancelled
            assert await busy == 0
            assert (await waits).name == "lab"

    _run(database, body)
    assert _stored(database, "organizations") == 1


async def _rows(data: AsyncDataAccess, *writes: NewUser) -> AsyncIterator[int]:
    async with data.transaction():
        for write in writes:
            await data.users.add(write)
        yield 1
        raise AssertionError("left early")


@promise("a generator that was left inside a transaction undoes no call silently")
def test_a_call_beside_a_generator_that_was_left_early_is_not_undone_silently(database: Database) -> None:
    """asyncio closes the generator in another task, while the call uses its transaction."""

    async def body(data: AsyncDataAccess) -> None:
        async for _ in _rows(data):
            break
        with pytest.raises(TransactionOver, match="rolled back while a write ran in it"):
            await data.organizations.add(LAB)
        # The task has left the generator's block.
        await data.users.add(ADA)
        assert await data.users.count() == 1

    _run(database, body)
    assert [_stored(database, table) for table in ("users", "organizations")] == [1, 0]


@promise("a generator that was left inside a transaction undoes no call silently")
def test_writes_undone_with_a_generator_are_reported_once(database: Database) -> None:
    async def closed(rows: AsyncIterator[int]) -> None:
        await asyncio.create_task(rows.aclose())  # type: ignore[attr-defined]

    async def body(data: AsyncDataAccess) -> None:
        for is_nested in (False, True):
            # A write of the generator, and one of the task that uses it.
            for rows, write in ((_rows(data, ADA), None), (_rows(data), ADA)):
                async with data.transaction() if is_nested else nullcontext():
                    async for _ in rows:
                        if write is not None:
                            await data.users.add(write)
                        break
                    await closed(rows)
                    with pytest.raises(TransactionOver, match=r"left early .* rolled back"):
                        await data.users.find(1)
                    assert await data.users.count() == 0
                    await data.organizations.upsert(LAB)

    _run(database, body)
    assert [_stored(database, table) for table in ("users", "organizations")] == [0, 1]


def test_writes_undone_with_a_lost_connection_are_reported_too(database: Database) -> None:
    async def body(data: AsyncDataAccess) -> None:
        rows = _rows(data, ADA)
        await anext(rows)
        database.psql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE state = 'idle in transaction' AND datname = current_database()"
        )
        with pytest.raises(ConnectionLost):
            await data.users.count()
        await asyncio.create_task(rows.aclose())  # type: ignore[attr-defined]
        with pytest.raises(TransactionOver, match="left early"):
            await data.users.count()
        assert await data.users.count() == 0

    _run(database, body)


def test_a_task_that_was_started_beside_a_generator_gets_transaction_over(database: Database) -> None:
    async def body(data: AsyncDataAccess) -> None:
        is_over = asyncio.Event()

        async def late() -> None:
            await is_over.wait()
            await data.users.add(ADA)

        rows = _rows(data)
        await anext(rows)
        task = asyncio.create_task(late())
        await asyncio.create_task(rows.aclose())  # type: ignore[attr-defined]
        is_over.set()
        with pytest.raises(TransactionOver, match="this task was started in"):
            await task
        await data.users.add(ADA)

    _run(database, body)
    assert _stored(database, "users") == 1


def test_a_transaction_that_ends_normally_in_another_task_leaves_nothing_behind(database: Database) -> None:
    async def body(data: AsyncDataAccess) -> None:
        stack = AsyncExitStack()
        await stack.enter_async_context(data.transaction())
        await data.users.add(ADA)
        await asyncio.create_task(stack.aclose())
        await data.organizations.add(LAB)

    _run(database, body)
    assert [_stored(database, table) for table in ("users", "organizations")] == [1, 1]


class _Sharing:
    """Threads that share the transaction of the main thread, as those of asyncio.to_thread do."""

    def __init__(self, database: Database, data: DataAccess) -> None:
        self._database = database
        self._data = data
        self._holder = psycopg.connect(database.url("app"))
        self._threads = ThreadPoolExecutor(2)

    def start(self, call: Callable[[], Any]) -> Future[Any]:
        return self._threads.submit(copy_context().run, call)

    def be_busy(self) -> Future[Any]:
        """Start a statement that waits for a locked table, until `release`."""
        self._holder.execute("LOCK TABLE users IN ACCESS EXCLUSIVE MODE")
        busy = self.start(self._data.users.count)
        wait_until(lambda: _waiting(self._database) == 1)
        return busy

    def release(self) -> None:
        self._holder.rollback()

    def close(self) -> None:
        self._holder.close()
        self._threads.shutdown()


@pytest.fixture
def sync_data(database: Database) -> Iterator[DataAccess]:
    nowhere = cache_settings("redis://app:x@127.0.0.1:9/0", "none", near_entries=0, timeout_seconds=0.1)
    settings = database_settings(
        database.url("app"), deadline_seconds=SETTINGS_SECONDS, pool_size=1, pool_min_size=1
    )
    with DataAccess(settings, nowhere) as opened:
        yield opened


@pytest.fixture
def sharing(database: Database, sync_data: DataAccess) -> Iterator[_Sharing]:
    with closing(_Sharing(database, sync_data)) as threads:
        yield threads


@promise("a task that outlives its transaction gets TransactionOver")
def test_a_threads_write_is_never_sent_after_the_rollback(
    database: Database, sync_data: DataAccess, sharing: _Sharing, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_reached = threading.Event()

    def fetch(*arguments: Any) -> Any:
        """Wait until the connection is in the pool, which must not happen before the write."""
        is_reached.set()
        with suppress(AssertionError):
            wait_until(lambda: sync_data.pool.statistics()["pool_available"] == 1, 0.5)
        return send(*arguments)

    send = BoundedConnection.fetch
    calls: list[Future[Any]] = []
    with pytest.raises(KeyError), sync_data.transaction():
        sync_data.organizations.add(LAB)
        monkeypatch.setattr(BoundedConnection, "fetch", fetch)
        calls += [sharing.start(lambda: sync_data.users.add(ADA))]
        is_reached.wait()
        calls += [sharing.start(lambda: sync_data.users.count())]
        raise KeyError
    for call in calls:
        with pytest.raises(TransactionOver):
            call.result()
    assert [_stored(database, table) for table in ("users", "organizations")] == [0, 0]


@promise("every call in `data.deadline()` ends by then")
def test_a_thread_that_waits_for_another_one_ends_by_its_own_deadline(
    database: Database, sync_data: DataAccess, sharing: _Sharing
) -> None:
    with sync_data.transaction():
        busy = sharing.be_busy()
        with pytest.raises(DeadlineExceeded, match="other tasks of the transaction"):
            with sync_data.deadline(SECONDS):
                sync_data.organizations.add(LAB)
        sharing.release()
        assert busy.result() == 0
        sync_data.users.add(ADA)
    assert [_stored(database, table) for table in ("users", "organizations")] == [1, 0]
