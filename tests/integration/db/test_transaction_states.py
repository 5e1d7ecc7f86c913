"""Each row of the table of transaction states and errors in docs/data-access.md."""

# ruff: noqa: PT012 (what is expected to fail is the block of a transaction as a whole)

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from msgspec.structs import replace

from db import AsyncDataAccess, DataAccess
from db.deadline import Deadline
from db.errors import (
    ConnectionLost,
    ConstraintViolated,
    DbError,
    DeadlineExceeded,
    InvalidInput,
    NotFound,
    OutcomeUnknown,
    QueryFailed,
    TransactionAborted,
    TransactionConflict,
    Unavailable,
    VersionConflict,
)
from db.models import NewOrganization, NewUser, User
from tests.conftest import Database
from tests.containers import wait_until
from tests.integration.data_access import cache_settings, database_settings
from tests.promises import promise

PAGE = Path(__file__).parents[3] / "docs/data-access.md"
ADA, GRACE = NewUser(github_id=7, username="ada"), NewUser(github_id=8, username="grace")
NO_CACHE = cache_settings("redis://app:canary@127.0.0.1:9/0", "none", near_entries=0, timeout_seconds=0.1)
OpenSync = Callable[..., DataAccess]


@pytest.fixture
def open_sync(database: Database) -> Iterator[OpenSync]:
    """Open a data access without a cache. `options` are settings of the session, other arguments DatabaseSettings."""
    with ExitStack() as stack:

        def open_one(options: str = "", **changes: Any) -> DataAccess:
            url = f"{database.url('app')}&options={quote(options)}" if options else database.url("app")
            return stack.enter_context(DataAccess(database_settings(url, **changes), NO_CACHE))

        yield open_one


@pytest.fixture
def data(open_sync: OpenSync) -> DataAccess:
    # A busy machine may need long to find a deadlock.
    return open_sync(deadline_seconds=60.0)


@pytest.fixture
def ada(data: DataAccess) -> User:
    return data.users.add(ADA)


def _users(database: Database) -> list[str]:
    return database.psql("SELECT username FROM groundwork.users ORDER BY 1").split()


_IN_A_TRANSACTION = "usename = 'app_a' AND datname = current_database() AND state LIKE 'idle in transaction%'"


def _terminate(database: Database) -> None:
    """End the sessions that are in a transaction, and wait until they are gone."""
    database.psql(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {_IN_A_TRANSACTION}")
    _wait_until_ended(database)


def _wait_until_ended(database: Database) -> None:
    wait_until(
        lambda: (
            database.psql(f"SELECT count(*) FROM pg_stat_activity WHERE {_IN_A_TRANSACTION}").strip() == "0"
        )
    )


@promise("the table of transaction states and errors is complete and true")
def test_a_rejected_statement_rolls_everything_back(data: DataAccess, database: Database) -> None:
    with pytest.raises(ConstraintViolated) as caught, data.transaction():
        data.users.add(GRACE)
        data.users.add(GRACE)
    assert (caught.value.sqlstate, _users(database)) == ("23505", [])


@promise("the table of transaction states and errors is complete and true")
def test_a_lock_timeout_is_query_failed(open_sync: OpenSync, database: Database, ada: User) -> None:
    holder, waiter = open_sync(), open_sync("-c lock_timeout=100ms")
    with holder.transaction():
        holder.users.update(replace(ada, username="held"))
        with pytest.raises(QueryFailed) as caught, waiter.transaction():
            waiter.users.add(GRACE)
            waiter.users.update(replace(ada, username="countess"))
    assert (caught.value.sqlstate, _users(database)) == ("55P03", ["held"])


@promise("a serialization failure or a deadlock raises TransactionConflict")
@promise("the table of transaction states and errors is complete and true")
def test_a_serialization_failure_is_a_conflict(open_sync: OpenSync, database: Database, ada: User) -> None:
    other, serializable = open_sync(), open_sync("-c default_transaction_isolation=serializable")
    with pytest.raises(TransactionConflict) as caught, serializable.transaction():
        serializable.users.find(ada.id)
        other.users.update(replace(ada, username="countess"))
        serializable.users.update(replace(ada, username="lost"))
    assert (caught.value.sqlstate, _users(database)) == ("40001", ["countess"])


@promise("a serialization failure or a deadlock raises TransactionConflict")
@promise("the table of transaction states and errors is complete and true")
def test_a_deadlock_is_a_conflict_for_one_of_two(data: DataAccess, database: Database, ada: User) -> None:
    grace = data.users.add(GRACE)
    both = threading.Barrier(2, timeout=60)
    states: list[str | None] = []

    def swap(first: User, second: User) -> None:
        try:
            with data.transaction():
                data.users.update(replace(first, username="first"))
                both.wait()
                data.users.update(replace(second, username="second"))
        except TransactionConflict as error:
            states.append(error.sqlstate)

    threads = [threading.Thread(target=swap, args=pair) for pair in ((ada, grace), (grace, ada))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert states == ["40P01"]
    assert sorted(_users(database)) == ["first", "second"]


@promise("the table of transaction states and errors is complete and true")
def test_after_a_rejected_statement_all_others_fail_until_the_block_ends(
    data: DataAccess, database: Database
) -> None:
    with pytest.raises(TransactionAborted), data.transaction():
        data.users.add(ADA)
        with pytest.raises(ConstraintViolated):
            data.users.add(ADA)
        with pytest.raises(QueryFailed) as caught:
            data.users.add(GRACE)
        assert caught.value.sqlstate == "25P02"
        with pytest.raises(QueryFailed) as caught, data.transaction():
            raise AssertionError("never inside")
        assert caught.value.sqlstate == "25P02"
    assert _users(database) == []
    # The connection is whole.
    assert data.users.add(ADA).username == "ada"


@promise("the table of transaction states and errors is complete and true")
def test_an_error_without_a_failed_statement_does_not_abort(
    data: DataAccess, database: Database, ada: User
) -> None:
    with data.transaction():
        with pytest.raises(NotFound):
            data.users.get(4711)
        with pytest.raises(VersionConflict):
            data.users.update(replace(ada, row_version=99))
        with pytest.raises(InvalidInput):
            data.users.add(NewUser(github_id=9, username="\0"))
        data.users.add(GRACE)
    assert _users(database) == ["ada", "grace"]


@promise("the table of transaction states and errors is complete and true")
def test_a_nested_block_that_caught_an_error_is_undone_alone(data: DataAccess, database: Database) -> None:
    with data.transaction():
        data.users.add(ADA)
        with pytest.raises(TransactionAborted), data.transaction():
            data.users.add(GRACE)
            with pytest.raises(ConstraintViolated):
                data.users.add(GRACE)
        data.organizations.add(NewOrganization(github_id=1, name="kept"))
    assert _users(database) == ["ada"]
    assert data.organizations.find_by_github_id(1) is not None


@promise("the table of transaction states and errors is complete and true")
def test_an_error_that_leaves_a_nested_block_undoes_only_that(data: DataAccess, database: Database) -> None:
    with data.transaction():
        data.users.add(ADA)
        with pytest.raises(RuntimeError), data.transaction():
            data.users.add(GRACE)
            raise RuntimeError
    assert _users(database) == ["ada"]


@promise("the table of transaction states and errors is complete and true")
def test_a_session_that_the_server_ends_is_lost_for_the_next_statement(
    data: DataAccess, database: Database
) -> None:
    with pytest.raises(ConnectionLost), data.transaction():
        data.users.add(ADA)
        _terminate(database)
        data.users.add(GRACE)
    assert _users(database) == []


@promise("the table of transaction states and errors is complete and true")
@pytest.mark.parametrize("how", ["terminated", "idle timeout"])
def test_a_session_that_ended_before_commit_is_lost_and_not_unknown(
    open_sync: OpenSync, database: Database, how: str
) -> None:
    data = open_sync("-c idle_in_transaction_session_timeout=300ms" if how == "idle timeout" else "")
    with pytest.raises(ConnectionLost) as caught, data.transaction():
        data.users.add(ADA)
        if how == "terminated":
            _terminate(database)
        else:
            _wait_until_ended(database)
    assert (caught.value.sqlstate, _users(database)) == ("25P03" if how == "idle timeout" else "57P01", [])
    assert data.users.add(ADA).username == "ada"


@promise("the table of transaction states and errors is complete and true")
def test_the_idle_timeout_is_lost_for_a_statement_too(open_sync: OpenSync, database: Database) -> None:
    data = open_sync("-c idle_in_transaction_session_timeout=300ms")
    with pytest.raises(ConnectionLost) as caught, data.transaction():
        data.users.add(ADA)
        _wait_until_ended(database)
        data.users.add(GRACE)
    assert (caught.value.sqlstate, _users(database)) == ("25P03", [])


@promise("the table of transaction states and errors is complete and true")
def test_a_block_that_caught_a_lost_connection_is_aborted_and_not_unknown(
    data: DataAccess, database: Database
) -> None:
    with pytest.raises(TransactionAborted), data.transaction():
        data.users.add(ADA)
        _terminate(database)
        with pytest.raises(ConnectionLost):
            data.users.add(GRACE)
        with pytest.raises(ConnectionLost):
            data.users.find_by_github_id(7)
        with pytest.raises(ConnectionLost), data.transaction():
            raise AssertionError("never inside")
    assert _users(database) == []


@promise("the table of transaction states and errors is complete and true")
def test_a_nested_block_that_caught_a_lost_connection_is_lost(data: DataAccess, database: Database) -> None:
    with pytest.raises(ConnectionLost), data.transaction(), data.transaction():
        data.users.add(ADA)
        _terminate(database)
        with pytest.raises(ConnectionLost):
            data.users.add(GRACE)
    assert _users(database) == []


@promise("the table of transaction states and errors is complete and true")
def test_a_statement_that_the_server_cancels_fails_the_transaction(
    open_sync: OpenSync, database: Database, ada: User
) -> None:
    holder, waiter = open_sync(), open_sync("-c statement_timeout=200ms")
    with holder.transaction():
        holder.users.update(replace(ada, username="held"))
        with pytest.raises(DeadlineExceeded) as caught, waiter.transaction():
            waiter.users.update(replace(ada, username="countess"))
        assert caught.value.sqlstate == "57014"
        with pytest.raises(TransactionAborted), waiter.transaction():
            with pytest.raises(DeadlineExceeded):
                waiter.users.update(replace(ada, username="countess"))
    assert _users(database) == ["held"]


@promise("the table of transaction states and errors is complete and true")
def test_a_statement_past_its_deadline_closes_the_connection(
    open_sync: OpenSync, database: Database, ada: User
) -> None:
    # The server would answer later than the client waits.
    holder, waiter = open_sync(), open_sync("-c statement_timeout=60s", deadline_seconds=1.5)
    with holder.transaction():
        holder.users.update(replace(ada, username="held"))
        with pytest.raises(DeadlineExceeded) as caught, waiter.transaction():
            waiter.users.update(replace(ada, username="countess"))
        assert caught.value.sqlstate is None
        with pytest.raises(TransactionAborted), waiter.transaction():
            with pytest.raises(DeadlineExceeded):
                waiter.users.update(replace(ada, username="countess"))
            with pytest.raises(ConnectionLost):
                waiter.users.add(GRACE)
    assert _users(database) == ["held"]


@promise("the table of transaction states and errors is complete and true")
def test_a_deadline_of_the_whole_transaction_that_passes_before_commit(
    data: DataAccess, database: Database
) -> None:
    deadline = Deadline(60.0)
    with pytest.raises(DeadlineExceeded), data.pool.transaction(deadline):
        data.users.add(ADA)
        deadline.ends_at = 0.0
    assert _users(database) == []


@promise("the table of transaction states and errors is complete and true")
def test_a_commit_that_the_server_rejects_changes_nothing(data: DataAccess, database: Database) -> None:
    database.psql(
        "ALTER TABLE groundwork.organizations ADD CONSTRAINT one_name UNIQUE (name) DEFERRABLE INITIALLY DEFERRED"
    )
    with pytest.raises(ConstraintViolated) as caught, data.transaction():
        data.organizations.add(NewOrganization(github_id=1, name="same"))
        data.organizations.add(NewOrganization(github_id=2, name="same"))
    assert (caught.value.constraint, caught.value.query) == ("one_name", "commit_transaction")
    assert data.organizations.find_by_github_id(1) is None


@promise("the table of transaction states and errors is complete and true")
def test_a_commit_without_an_answer_is_unknown(data: DataAccess, database: Database) -> None:
    """The server ends the session while COMMIT runs, which waits for a lock in a deferred trigger."""
    database.psql(
        "CREATE FUNCTION groundwork.wait_for_lock() RETURNS trigger LANGUAGE plpgsql AS"
        " $$BEGIN PERFORM pg_advisory_xact_lock_shared(4711); RETURN NULL; END$$;"
        "CREATE CONSTRAINT TRIGGER waits AFTER INSERT ON groundwork.users DEFERRABLE INITIALLY DEFERRED"
        " FOR EACH ROW EXECUTE FUNCTION groundwork.wait_for_lock()"
    )
    database.psql("GRANT EXECUTE ON FUNCTION pg_advisory_xact_lock_shared(bigint) TO app")
    running = "usename = 'app_a' AND datname = current_database() AND query = 'COMMIT' AND state = 'active'"

    def end_it() -> None:
        wait_until(
            lambda: database.psql(f"SELECT count(*) FROM pg_stat_activity WHERE {running}").strip() == "1"
        )
        database.psql(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {running}")

    holder = threading.Thread(
        target=database.psql,
        args=("BEGIN; SELECT pg_advisory_xact_lock(4711); SELECT pg_sleep(5); COMMIT",),
    )
    ender = threading.Thread(target=end_it)
    with pytest.raises(OutcomeUnknown), data.transaction():
        data.users.add(ADA)
        holder.start()
        locked = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 4711 AND granted"
        wait_until(lambda: database.psql(locked).strip() == "1")
        ender.start()
    ender.join(timeout=60)
    holder.join(timeout=60)


@promise("the table of transaction states and errors is complete and true")
def test_without_a_connection_no_transaction_begins(open_sync: OpenSync) -> None:
    data = open_sync(deadline_seconds=1.5, pool_size=1)
    data.users.list()
    with data.pool.connection(data.pool.deadline()), pytest.raises(Unavailable), data.transaction():
        raise AssertionError("never inside")


@promise("the table of transaction states and errors is complete and true")
def test_a_data_access_that_was_closed_cannot_be_entered_again(database: Database) -> None:
    data = DataAccess(database_settings(database.url("app")), NO_CACHE)
    with pytest.raises(Unavailable, match="open the data access before"), data.transaction():
        raise AssertionError("never inside")
    with data:
        data.users.list()
    with pytest.raises(Unavailable, match="cannot be opened again; create a new DataAccess"), data:
        raise AssertionError("never inside")
    with pytest.raises(Unavailable, match="is closed"):
        data.users.list()


@promise("the table of transaction states and errors is complete and true")
def test_the_async_form_has_the_same_states(database: Database) -> None:
    async def body() -> None:
        data = AsyncDataAccess(database_settings(database.url("app")), NO_CACHE)
        async with data:
            with pytest.raises(ConnectionLost) as caught:
                async with data.transaction():
                    await data.users.add(ADA)
                    await asyncio.to_thread(_terminate, database)
            assert caught.value.sqlstate == "57P01"
            with pytest.raises(TransactionAborted):
                async with data.transaction():
                    await data.users.add(ADA)
                    await asyncio.to_thread(_terminate, database)
                    with pytest.raises(ConnectionLost):
                        await data.users.add(GRACE)
            async with data.transaction():
                await data.users.add(ADA)
                with pytest.raises(TransactionAborted):
                    async with data.transaction():
                        with pytest.raises(ConstraintViolated):
                            await data.users.add(ADA)
        with pytest.raises(Unavailable, match="cannot be opened again"):
            await data.__aenter__()

    asyncio.run(body())
    assert _users(database) == ["ada"]


def test_the_table_names_every_error_of_a_transaction() -> None:
    section = PAGE.read_text().partition("### States and errors")[2].partition("\n## ")[0]
    errors = {kind.__name__ for kind in _kinds(DbError) if kind.__module__ == "db.errors"}
    elsewhere = {"InvalidCursor", "TokenUnreadable", "UnknownTokenKey"}
    assert errors - elsewhere <= set(re.findall(r"`(\w+)`", section))


def _kinds(kind: type[DbError]) -> Iterator[type[DbError]]:
    for each in kind.__subclasses__():
        yield each
        yield from _kinds(each)
