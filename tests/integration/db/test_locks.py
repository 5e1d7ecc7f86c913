"""`lock` of all kinds of records: others wait until the transaction ends, and the cache sees nothing of it."""

# ruff: noqa: PT012 (what is expected to fail is the block of a transaction as a whole)

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import pytest
from msgspec.structs import replace

from db import AsyncDataAccess, DataAccess
from db.errors import InvalidInput, NotFound, QueryFailed, TransactionRequired
from db.models import NewActivity, NewOrganization, NewRepository, NewUser
from tests.conftest import Database
from tests.containers import Server, wait_until
from tests.integration.data_access import cache_settings, database_settings
from tests.promises import promise

NEW: dict[str, tuple[Any, str]] = {
    "users": (NewUser(github_id=7, username="before"), "username"),
    "organizations": (NewOrganization(github_id=7, name="before"), "name"),
    "repositories": (NewRepository(github_id=7, name="before"), "name"),
}
_WAITING = (
    "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
)


@pytest.fixture
def settings(database: Database, redis_server: Server, namespace: str) -> tuple[Any, Any]:
    return database_settings(database.url("app")), cache_settings(redis_server.redis_url("app"), namespace)


@pytest.fixture
def data(settings: tuple[Any, Any]) -> Iterator[DataAccess]:
    with DataAccess(*settings) as opened:
        yield opened


@pytest.fixture(params=NEW)
def plural(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def _wait_for_a_waiter(database: Database) -> None:
    wait_until(lambda: database.psql(_WAITING).strip() == "1")


def _increment(data: DataAccess, record_id: int, read: Callable[[int], Any]) -> None:
    """Read a count with `read`, and write one more, in one transaction."""
    with data.transaction():
        organization = read(record_id)
        data.organizations.patch(record_id, member_count=organization.member_count + 1)


@promise("`lock` keeps other transactions from changing the record until the transaction ends")
def test_no_increment_of_a_locked_record_is_lost(data: DataAccess) -> None:
    added = data.organizations.add(NewOrganization(github_id=1, name="o"))
    with ThreadPoolExecutor(4) as threads:
        for done in [threads.submit(_increment, data, added.id, data.organizations.lock) for _ in range(40)]:
            done.result(60)
    assert data.organizations.get(added.id).member_count == 40


@promise("`lock` keeps other transactions from changing the record until the transaction ends", control=True)
def test_an_increment_of_a_record_that_was_only_read_is_lost(data: DataAccess) -> None:
    added = data.organizations.add(NewOrganization(github_id=1, name="o"))
    both = threading.Barrier(2, timeout=60)

    def read(record_id: int) -> Any:
        organization = data.organizations.get(record_id)
        both.wait()
        return organization

    with ThreadPoolExecutor(2) as threads:
        for done in [threads.submit(_increment, data, added.id, read) for _ in range(2)]:
            done.result(60)
    assert data.organizations.get(added.id).member_count == 1


@promise("`lock` keeps other transactions from changing the record until the transaction ends")
@pytest.mark.parametrize("verb", ["update", "patch", "delete", "lock"])
def test_others_wait_until_the_transaction_ends(
    data: DataAccess, database: Database, plural: str, verb: str
) -> None:
    records = getattr(data, plural)
    new, field = NEW[plural]
    added = records.add(new)

    def other() -> Any:
        if verb == "update":
            return records.update(replace(added, **{field: "other"}))
        if verb == "delete":
            return records.delete(added.id)
        if verb == "patch":
            return records.patch(added.id, **{field: "other"})
        with data.transaction():
            return records.lock(added.id)

    with ThreadPoolExecutor(1) as thread:
        with data.transaction():
            assert records.lock(added.id) == added
            waiting = thread.submit(other)
            _wait_for_a_waiter(database)
            # Reads do not wait.
            assert database.psql(f"SELECT {field} FROM groundwork.{plural}").strip() == "before"
        done = waiting.result(60)
    assert records.find(added.id) == (None if verb == "delete" else done)


@promise("`lock` keeps other transactions from changing the record until the transaction ends")
def test_a_lock_returns_what_was_committed_while_it_waited(
    data: DataAccess, database: Database, plural: str
) -> None:
    records = getattr(data, plural)
    new, field = NEW[plural]
    added = records.get(records.add(new).id)

    def lock() -> Any:
        with data.transaction():
            return records.lock(added.id)

    with ThreadPoolExecutor(1) as thread:
        with data.transaction():
            updated = records.update(replace(added, **{field: "after"}))
            waiting = thread.submit(lock)
            _wait_for_a_waiter(database)
        assert waiting.result(60) == updated


@promise("nothing that was rolled back reaches the cache")
def test_a_lock_neither_reads_nor_fills_the_cache(data: DataAccess, database: Database, plural: str) -> None:
    records = getattr(data, plural)
    new, field = NEW[plural]
    added = records.get(records.add(new).id)
    with pytest.raises(RuntimeError), data.transaction():
        records.patch(added.id, **{field: "rolled back"})
        assert getattr(records.lock(added.id), field) == "rolled back"
        raise RuntimeError
    assert records.get(added.id) == added
    # A change by psql is not in the cache yet.
    database.psql(f"UPDATE groundwork.{plural} SET {field} = 'psql'")
    with data.transaction():
        assert getattr(records.lock(added.id), field) == "psql"
    assert records.get(added.id) == added
    data.outbox.drain()
    assert getattr(records.get(added.id), field) == "psql"


def test_rows_that_refer_to_a_locked_record_do_not_wait(data: DataAccess) -> None:
    user = data.users.add(NewUser(github_id=7, username="ada"))
    new = NewActivity(user_id=user.id, type="PushEvent", timestamp=datetime.now(UTC))
    data.activities.make_partitions(new.timestamp, new.timestamp)
    with ThreadPoolExecutor(1) as thread, data.transaction():
        data.users.lock(user.id)
        assert thread.submit(data.activities.add, new).result(60).user_id == user.id


@promise("`lock` outside of a transaction raises TransactionRequired, and nothing is sent")
def test_a_lock_outside_of_a_transaction_is_refused(
    data: DataAccess, plural: str, caplog: pytest.LogCaptureFixture
) -> None:
    records = getattr(data, plural)
    with caplog.at_level("DEBUG", "groundwork.db.query"):
        with pytest.raises(TransactionRequired, match=rf"{plural}\.lock .* inside data\.transaction\(\)"):
            records.lock(1)
        for bad in ("7", None, True, 2**63):
            with pytest.raises(InvalidInput), data.transaction():
                records.lock(bad)
    assert not [each for each in caplog.records if each.__dict__.get("query", "").startswith("lock_")]


def test_a_lock_of_what_does_not_exist_is_not_found(data: DataAccess, plural: str) -> None:
    with data.transaction():
        with pytest.raises(NotFound, match="4711"):
            getattr(data, plural).lock(4711)
        # No statement has failed.
        added = getattr(data, plural).add(NEW[plural][0])
    assert getattr(data, plural).get(added.id) == added


def test_a_read_only_transaction_cannot_lock(data: DataAccess) -> None:
    user = data.users.add(NewUser(github_id=7, username="ada"))
    with pytest.raises(QueryFailed) as caught, data.transaction(read_only=True):
        data.users.lock(user.id)
    assert caught.value.sqlstate == "25006"


def test_the_async_form_locks_too(settings: tuple[Any, Any], database: Database) -> None:
    async def body() -> None:
        async with AsyncDataAccess(*settings) as data:
            added = await data.users.add(NewUser(github_id=7, username="ada"))
            with pytest.raises(TransactionRequired):
                await data.users.lock(added.id)
            # Created outside of the transaction, so that it has no part in it.
            entered = asyncio.Event()

            async def other() -> None:
                await entered.wait()
                await data.users.patch(added.id, username="other")

            task = asyncio.create_task(other())
            async with data.transaction():
                assert await data.users.lock(added.id) == added
                entered.set()
                await asyncio.to_thread(_wait_for_a_waiter, database)
                assert (await data.users.get(added.id)).username == "ada"
            await task
            assert (await data.users.get(added.id)).username == "other"

    asyncio.run(body())
