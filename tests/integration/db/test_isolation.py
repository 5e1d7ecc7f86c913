"""Isolation levels and read-only transactions."""

# ruff: noqa: PT012 (what is expected to fail is the block of a transaction as a whole)

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from msgspec.structs import replace

from db import AsyncDataAccess, DataAccess
from db.errors import InvalidInput, QueryFailed, TransactionConflict
from db.models import NewUser
from tests.conftest import Database
from tests.integration.data_access import cache_settings, database_settings
from tests.promises import promise

ADA, GRACE = NewUser(github_id=7, username="ada"), NewUser(github_id=8, username="grace")
NO_CACHE = cache_settings("redis://app:canary@127.0.0.1:9/0", "none", near_entries=0, timeout_seconds=0.1)


@pytest.fixture
def data(database: Database) -> Iterator[DataAccess]:
    with DataAccess(database_settings(database.url("app")), NO_CACHE) as opened:
        yield opened


def _users(database: Database) -> list[str]:
    return database.psql("SELECT username FROM groundwork.users ORDER BY 1").split()


def _insert(database: Database, github_id: int) -> None:
    database.psql(f"INSERT INTO groundwork.users (github_id, username) VALUES ({github_id}, 'psql')")


@promise("a transaction has the isolation level that it asks for")
@pytest.mark.parametrize(
    ("isolation", "seen"),
    [(None, 1), ("read committed", 1), ("repeatable read", 0), ("serializable", 0)],
)
def test_only_a_snapshot_hides_what_others_commit(
    data: DataAccess, database: Database, isolation: Any, seen: int
) -> None:
    with data.transaction(isolation=isolation):
        assert data.users.count() == 0
        _insert(database, 1)
        assert data.users.count() == seen
    assert data.users.count() == 1


@promise("a transaction has the isolation level that it asks for")
def test_a_level_ends_with_its_transaction(data: DataAccess, database: Database) -> None:
    with data.transaction(isolation="serializable", read_only=True):
        data.users.count()
    with data.transaction():
        data.users.count()
        _insert(database, 1)
        assert data.users.count() == 1
        data.users.add(ADA)
    assert _users(database) == ["ada", "psql"]


def _skew(data: DataAccess, isolation: Any) -> None:
    """Let two transactions each count the users, and insert one only if there is none."""

    def add_grace() -> None:
        # In a thread of its own, so that it is a transaction of its own.
        with data.transaction(isolation=isolation):
            if data.users.count() == 0:
                data.users.add(GRACE)

    with data.transaction(isolation=isolation):
        if data.users.count() == 0:
            other = threading.Thread(target=add_grace)
            other.start()
            other.join()
            data.users.add(ADA)


@promise("a serialization failure or a deadlock raises TransactionConflict")
def test_serializable_transactions_refuse_write_skew(data: DataAccess, database: Database) -> None:
    with pytest.raises(TransactionConflict, match="retry the transaction") as caught:
        _skew(data, "serializable")
    assert (caught.value.sqlstate, _users(database)) == ("40001", ["grace"])


@promise("a serialization failure or a deadlock raises TransactionConflict", control=True)
def test_read_committed_transactions_permit_write_skew(data: DataAccess, database: Database) -> None:
    _skew(data, "read committed")
    assert _users(database) == ["ada", "grace"]


@promise("a serialization failure or a deadlock raises TransactionConflict")
def test_a_retry_of_the_transaction_succeeds(data: DataAccess, database: Database) -> None:
    ada = data.users.add(ADA)

    def rename(between: Callable[[], object]) -> None:
        with data.transaction(isolation="repeatable read"):
            read = data.users.get(ada.id)
            between()
            data.users.update(replace(read, username=f"{read.username}+1"))

    with pytest.raises(TransactionConflict) as caught:
        rename(lambda: database.psql("UPDATE groundwork.users SET username = 'psql'"))
    assert (caught.value.sqlstate, caught.value.query) == ("40001", "update_user")
    rename(lambda: None)
    assert _users(database) == ["psql+1"]


@promise("a read-only transaction writes nothing")
def test_a_read_only_transaction_rejects_every_write(data: DataAccess, database: Database) -> None:
    ada = data.users.add(ADA)
    for write in (
        lambda: data.users.add(GRACE),
        lambda: data.users.upsert(ADA, idempotency_key="k"),
        lambda: data.users.update(replace(ada, username="x")),
        lambda: data.users.delete(ada.id),
    ):
        with pytest.raises(QueryFailed) as caught, data.transaction(read_only=True):
            assert data.users.get(ada.id) == ada
            write()
        assert caught.value.sqlstate == "25006"
    with data.transaction(read_only=True), data.transaction():
        assert data.users.get(ada.id) == ada
    assert _users(database) == ["ada"]
    assert data.users.get(ada.id) == ada


@promise("a nested block that asks for another isolation level or access mode is refused")
def test_a_nested_block_cannot_ask_for_something_else(data: DataAccess, database: Database) -> None:
    refused: list[tuple[dict[str, Any], dict[str, Any], str]] = [
        ({}, {"isolation": "serializable"}, "the session's default"),
        ({}, {"isolation": "read committed"}, "the session's default"),
        ({"isolation": "serializable"}, {"isolation": "repeatable read"}, "'serializable'"),
        ({}, {"read_only": True}, "that may write"),
        ({"isolation": "serializable"}, {"isolation": "serializable", "read_only": True}, "that may write"),
    ]
    for outer, inner, why in refused:
        with data.transaction(**outer):
            data.users.upsert(ADA)
            with pytest.raises(InvalidInput, match=why), data.transaction(**inner):
                raise AssertionError("never inside")
            # Nothing was sent, so the transaction continues.
            data.users.upsert(GRACE)
    assert _users(database) == ["ada", "grace"]
    accepted: list[tuple[dict[str, Any], dict[str, Any]]] = [
        ({"isolation": "serializable"}, {}),
        ({"isolation": "serializable"}, {"isolation": "serializable"}),
        ({"read_only": True}, {"read_only": True}),
    ]
    for outer, inner in accepted:
        with data.transaction(**outer), data.transaction(**inner):
            assert data.users.count() == 2


def test_unknown_levels_are_refused(data: DataAccess) -> None:
    bad: list[tuple[dict[str, Any], str]] = [
        ({"isolation": "snapshot"}, "isolation: 'snapshot' is not an isolation level"),
        ({"isolation": "serializable; DROP TABLE users"}, "is not an isolation level"),
        ({"isolation": "SERIALIZABLE"}, "is not an isolation level"),
        ({"read_only": "yes"}, "read_only: str is not a bool"),
    ]
    for options, why in bad:
        with pytest.raises(InvalidInput, match=why), data.transaction(**options):
            raise AssertionError("never inside")


@promise("a transaction has the isolation level that it asks for")
def test_the_async_form_has_the_same_levels(database: Database) -> None:
    async def body() -> None:
        async with AsyncDataAccess(database_settings(database.url("app")), NO_CACHE) as data:
            async with data.transaction(isolation="repeatable read", read_only=True):
                assert await data.users.count() == 0
                await asyncio.to_thread(_insert, database, 1)
                assert await data.users.count() == 0
                with pytest.raises(InvalidInput):
                    async with data.transaction(isolation="serializable"):
                        raise AssertionError("never inside")
            assert await data.users.count() == 1

    asyncio.run(body())
