"""Queries of the application's own, with real servers: parameters, rows, transactions, deadlines, retry and metrics."""

# ruff: noqa: PT012 (what is expected to fail is the block of a transaction as a whole)

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple, TypedDict

import msgspec
import psycopg
import pytest

from db import AsyncDataAccess, DataAccess, load_queries
from db.errors import (
    ConstraintViolated,
    DeadlineExceeded,
    InvalidInput,
    InvalidRow,
    OutcomeUnknown,
    QueryFailed,
)
from db.models import NewUser
from tests.conftest import Database
from tests.containers import Server, wait_until
from tests.integration.data_access import cache_settings, database_settings
from tests.promises import promise

QUERIES = load_queries("""
-- name: own_users_by_name :read
-- Find users by their names.
-- takes: names list[str], since datetime | None
-- gives: Name
SELECT id, username AS name, preferences FROM users
WHERE username = ANY(%(names)s) AND created_at >= coalesce(%(since)s::timestamptz, '-infinity')
    AND username NOT LIKE 'x%%'
ORDER BY id;

-- name: own_count :read
-- Count the users.
-- takes: nothing
-- gives: int
SELECT count(*) FROM users;

-- name: own_rename :write
-- Rename a user.
-- takes: query int, name str, preferences dict
-- gives: nothing
UPDATE users SET username = %(name)s, preferences = %(preferences)s WHERE github_id = %(query)s;

-- name: own_add :write
-- Insert a user.
-- takes: github_id int, name str
-- gives: int
INSERT INTO users (github_id, username) VALUES (%(github_id)s, %(name)s) RETURNING id;

-- name: own_return :write
-- Rename all users, and return a text as several types.
-- takes: name str, moment str, json str
-- gives: Moment
UPDATE users SET username = %(name)s
RETURNING
    %(moment)s::text::timestamptz AS moment,
    %(moment)s::text::timestamp::date AS day,
    %(json)s::text::jsonb AS json;

-- name: own_silent :write
-- Rename all users, and return nothing.
-- takes: name str
-- gives: int
WITH named AS (SELECT %(name)s AS name) UPDATE users SET username = named.name FROM named;
""")
BY_NAME, COUNT = QUERIES["own_users_by_name"], QUERIES["own_count"]
RENAME, ADD = QUERIES["own_rename"], QUERIES["own_add"]
RETURN, SILENT = QUERIES["own_return"], QUERIES["own_silent"]
LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)


class StructName(msgspec.Struct):
    id: int
    name: str
    preferences: dict[str, Any]


@dataclass
class DataName:
    name: str
    id: int
    preferences: dict[str, Any]


class TupleName(NamedTuple):
    id: int
    name: str
    preferences: dict[str, Any]


class DictName(TypedDict):
    id: int
    name: str


class WrongName(msgspec.Struct):
    id: int
    title: str


class WrongType(msgspec.Struct):
    id: str


@promise("a query of the application's own returns typed rows")
def test_rows_have_the_type_that_is_asked_for(data: Any) -> None:
    user = data.users.add(NewUser(github_id=7, username="ada", preferences={"n": [1, None]}))
    data.users.add(NewUser(github_id=8, username="xada"))
    expected: list[tuple[Any, object]] = [
        (StructName, StructName(user.id, "ada", {"n": [1, None]})),
        (DataName, DataName("ada", user.id, {"n": [1, None]})),
        (TupleName, TupleName(user.id, "ada", {"n": [1, None]})),
        (DictName, {"id": user.id, "name": "ada"}),
        (dict, {"id": user.id, "name": "ada", "preferences": {"n": [1, None]}}),
        (dict[str, Any], {"id": user.id, "name": "ada", "preferences": {"n": [1, None]}}),
        (tuple, (user.id, "ada", {"n": [1, None]})),
        (tuple[int, str, Any], (user.id, "ada", {"n": [1, None]})),
    ]
    for row, value in expected:
        rows = data.fetch_all(BY_NAME, row, names=["ada", "xada"], since=LONG_AGO)
        assert rows == [value], row
        assert data.fetch_one(BY_NAME, row, names=["ada"], since=None) == value
        assert data.fetch_one(BY_NAME, row, names=["grace"], since=None) is None
    assert data.fetch_one(COUNT, int) == 2
    assert data.fetch_all(COUNT, int | None) == [2]


@promise("a query of the application's own returns typed rows")
def test_columns_that_do_not_fit_the_row_are_named(data: Any) -> None:
    data.users.add(NewUser(github_id=7, username="ada"))
    for row, why in (
        (WrongName, "title"),
        (WrongType, "Expected `str`"),
        (tuple[int, str], "length 2"),
        (dict[str, int], "Expected `int`"),
        (int, "int"),
        (int | None, r"fit int \| None: "),
        (Literal["ada", "grace"] | None, "fit .*Literal"),
    ):
        with pytest.raises(
            TypeError, match=rf"own_users_by_name: its columns \(id, name, preferences\).*{why}"
        ):
            data.fetch_all(BY_NAME, row, names=["ada"], since=None)
    assert data.fetch_one(COUNT, int) == 1


def test_a_write_whose_result_python_cannot_represent_is_applied(data: Any) -> None:
    user = data.users.add(NewUser(github_id=7, username="ada"))
    nested = "[" * 3000 + "]" * 3000
    bad = [("infinity", "1"), ("-infinity", "1"), ("0044-03-15 BC", "1"), ("10000-01-01", "1")]
    bad += [("2026-01-01", "1" * 5000), ("2026-01-01", nested)]
    for number, (moment, json) in enumerate(bad):
        name = f"name {number}"
        with pytest.raises(
            InvalidRow, match=r"own_return: a value in its columns \(moment, day, json\)"
        ) as caught:
            data.fetch_all(RETURN, dict, name=name, moment=moment, json=json)
        assert isinstance(caught.value, TypeError)
        assert not isinstance(caught.value, InvalidInput)
        assert data.users.find_by_github_id(7).username == name, moment
    with pytest.raises(InvalidRow, match="own_silent: it returned no columns; write `-- gives: nothing`"):
        data.fetch_all(SILENT, int, name="silent")
    assert data.users.find_by_github_id(7).username == "silent"
    assert data.fetch_one(RETURN, tuple, name="last", moment="2026-01-01", json="{}") is not None
    assert data.users.find_by_github_id(7).id == user.id


def test_a_write_whose_result_python_cannot_represent_is_part_of_its_transaction(data: Any) -> None:
    data.users.add(NewUser(github_id=7, username="ada"))
    with data.transaction():
        with pytest.raises(InvalidRow):
            data.fetch_all(RETURN, dict, name="grace", moment="infinity", json="1")
        assert data.users.find_by_github_id(7).username == "grace"
    assert data.users.find_by_github_id(7).username == "grace"
    with pytest.raises(InvalidRow), data.transaction():
        data.fetch_all(RETURN, dict, name="ada", moment="infinity", json="1")
    assert data.users.find_by_github_id(7).username == "grace"


@promise("parameters of an own query are checked before anything is sent")
def test_parameters_are_checked_before_anything_is_sent(data: Any, caplog: pytest.LogCaptureFixture) -> None:
    bad: list[tuple[Any, dict[str, Any], str]] = [
        (BY_NAME, {"names": ["ada"]}, "since: is missing"),
        (BY_NAME, {"names": ["ada"], "since": None, "extra": 1}, "extra: is unknown"),
        (BY_NAME, {"names": "ada", "since": None}, "names: str is not a list"),
        (BY_NAME, {"names": ["a\0b"], "since": None}, "NUL"),
        (BY_NAME, {"names": [None], "since": None}, "not text"),
        (BY_NAME, {"names": [], "since": datetime(2026, 1, 1)}, "time zone"),
        (RENAME, {"query": 2**63, "name": "x", "preferences": {}}, "out of range"),
        (RENAME, {"query": "7", "name": "x", "preferences": {}}, "not an integer"),
        (RENAME, {"query": 7, "name": None, "preferences": {}}, "not text"),
        (RENAME, {"query": 7, "name": "x", "preferences": {"f": 1e300}}, "jsonb"),
        (COUNT, {"names": []}, "takes nothing"),
    ]
    with caplog.at_level("DEBUG", "groundwork.db.query"):
        for query, parameters, why in bad:
            with pytest.raises(InvalidInput, match=why):
                data.fetch_all(query, dict, **parameters)
    assert not [each for each in caplog.records if each.__dict__.get("query", "").startswith("own_")]


@promise("an own query has the deadline, retry, errors and metrics of all others")
def test_own_queries_are_logged_and_fail_as_ours_do(data: Any, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("DEBUG", "groundwork.db.query"):
        assert data.fetch_one(ADD, int, github_id=7, name="ada") is not None
        with pytest.raises(ConstraintViolated, match="own_add: would violate constraint users_github_id_key"):
            data.fetch_one(ADD, int, github_id=7, name="ada")
    assert [(each.query, each.outcome) for each in caplog.records] == [
        ("own_add", "ok"),
        ("own_add", "ConstraintViolated"),
    ]
    assert "ada" not in caplog.text


@promise("an own query has the deadline, retry, errors and metrics of all others")
def test_own_queries_end_by_the_deadline(data: Any, database: Database) -> None:
    data.fetch_one(COUNT, int)
    with psycopg.connect(database.url("app"), autocommit=True) as connection, connection.transaction():
        connection.execute("LOCK TABLE users IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(DeadlineExceeded), data.deadline(0.3):
            data.fetch_one(COUNT, int)
        with pytest.raises(OutcomeUnknown), data.deadline(0.3):
            data.fetch_one(ADD, int, github_id=7, name="ada")


@promise("an own query has the deadline, retry, errors and metrics of all others")
def test_an_own_read_on_a_closed_connection_is_sent_again(data: Any, database: Database) -> None:
    for _ in range(3):
        assert data.fetch_one(COUNT, int) == 0
        database.psql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE usename = 'app_a' AND datname = current_database()"
        )


@promise("what an own query writes to our tables is invalidated by the outbox")
def test_what_an_own_query_writes_is_invalidated_by_the_outbox(data: Any) -> None:
    user = data.users.get(data.users.add(NewUser(github_id=7, username="ada")).id)
    data.outbox.drain()
    assert data.fetch_all(RENAME, dict, query=7, name="countess", preferences={"a": {"b": None}}) == []
    # Nothing is invalidated at once.
    assert data.users.get(user.id) == user
    data.outbox.drain()
    wait_until(lambda: data.users.get(user.id).username == "countess")
    assert data.users.get(user.id).preferences == {"a": {"b": None}}


@pytest.fixture
def sync(database: Database, redis_server: Server, namespace: str) -> Iterator[DataAccess]:
    cache = cache_settings(redis_server.redis_url("app"), namespace)
    with DataAccess(database_settings(database.url("app")), cache) as opened:
        yield opened


@promise("an own query takes part in transactions")
def test_own_queries_take_part_in_transactions(sync: DataAccess, database: Database) -> None:
    with pytest.raises(RuntimeError), sync.transaction():
        sync.users.add(NewUser(github_id=7, username="ada"))
        sync.fetch_one(ADD, int, github_id=8, name="grace")
        sync.fetch_all(RENAME, dict, query=7, name="countess", preferences={})
        assert sync.fetch_one(COUNT, int) == 2
        raise RuntimeError
    assert sync.fetch_one(COUNT, int) == 0
    with sync.transaction():
        sync.fetch_one(ADD, int, github_id=8, name="grace")
        sync.fetch_all(RENAME, dict, query=8, name="hopper", preferences={})
    assert database.psql("SELECT username FROM groundwork.users").split() == ["hopper"]
    with pytest.raises(QueryFailed) as caught, sync.transaction(read_only=True):
        sync.fetch_one(ADD, int, github_id=9, name="x")
    assert caught.value.sqlstate == "25006"


@promise("an own query takes part in transactions")
def test_the_async_form_takes_part_in_transactions(database: Database) -> None:
    async def body() -> None:
        cache = cache_settings(
            "redis://app:canary@127.0.0.1:9/0", "none", near_entries=0, timeout_seconds=0.1
        )
        async with AsyncDataAccess(database_settings(database.url("app")), cache) as data:
            with pytest.raises(RuntimeError):
                async with data.transaction():
                    await data.fetch_one(ADD, int, github_id=8, name="grace")
                    assert await data.fetch_one(COUNT, int) == 1
                    raise RuntimeError
            assert await data.fetch_all(COUNT, int) == [0]

    asyncio.run(body())
