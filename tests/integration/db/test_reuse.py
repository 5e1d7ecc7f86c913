"""Calls save time by sharing the connection that was returned last, and what psycopg knows about a query's types."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any
from weakref import ref

import psycopg
import pytest
from psycopg.rows import scalar_row, tuple_row
from psycopg_pool import ConnectionPool

from cache.settings import CacheSettings
from db import load_queries
from db._sync.connection import BoundedConnection
from db.named_query import NamedQuery
from tests.conftest import Database
from tests.containers import wait_until
from tests.integration.data_access import cache_settings, data_access, database_settings

NO_CACHE: CacheSettings = cache_settings("redis://app:x@localhost:1/0", "none")
CONNECTIONS = 3


def read(name: str, sql: str, takes: str = "nothing", gives: str = "int") -> NamedQuery:
    return load_queries(f"-- name: {name} :read\n-- Read.\n-- takes: {takes}\n-- gives: {gives}\n{sql};")[
        name
    ]


SESSION = read("own_session", "SELECT pg_backend_pid()")


def test_calls_one_after_the_other_use_one_connection(flavour: str, database: Database) -> None:
    settings = database_settings(database.url("app"), pool_size=CONNECTIONS, pool_min_size=CONNECTIONS)
    with data_access(flavour, settings, NO_CACHE) as data:
        wait_until(lambda: data.pool.statistics()["pool_available"] == CONNECTIONS)
        assert len({data.fetch_one(SESSION, int) for _ in range(2 * CONNECTIONS)}) == 1


def test_psycopgs_pool_would_use_each_connection_in_turn(database: Database) -> None:
    """The negative control."""
    with ConnectionPool(database.url("app"), min_size=CONNECTIONS, open=True) as pool:
        pool.wait()

        def session() -> int:
            with pool.connection() as connection:
                return connection.info.backend_pid

        assert len({session() for _ in range(2 * CONNECTIONS)}) == CONNECTIONS


@contextmanager
def bounded(database: Database) -> Iterator[BoundedConnection]:
    with BoundedConnection.connect(database.url("app"), autocommit=True) as connection:
        yield connection


def is_deleted_at_once(database: Database, use: Any) -> bool:
    connection = BoundedConnection.connect(database.url("app"), autocommit=True)
    use(connection)
    connection.close()
    reference = ref(connection)
    gc.disable()
    try:
        del connection
        return reference() is None
    finally:
        gc.enable()


def test_a_connection_that_its_caller_loses_is_deleted_at_once(database: Database) -> None:
    """Without garbage collection, so that the pool replaces it at once."""
    assert is_deleted_at_once(database, lambda connection: connection.fetch(SESSION, {}, scalar_row))


def test_a_connection_that_kept_its_cursor_would_not_be_deleted(database: Database) -> None:
    """The negative control: the simplest way to reuse what psycopg has found out."""

    def use(connection: Any) -> None:
        connection.kept = connection.execute(SESSION.sql)

    assert not is_deleted_at_once(database, use)
    gc.collect()


def test_a_repeated_query_reads_every_type_of_parameter_and_of_column(database: Database) -> None:
    at = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
    query = read(
        "own_types",
        "SELECT %(a)s::text, %(b)s::timestamptz, %(c)s::jsonb, %(d)s::bigint[]",
        "a str | None, b datetime | None, c dict | None, d list[int]",
        "str",
    )
    rows: list[dict[str, Any]] = [
        {"a": "é", "b": at, "c": psycopg.types.json.Jsonb({"x": ["é", 1, None]}), "d": [1, 2**40]},
        {"a": None, "b": None, "c": None, "d": []},
        {"a": "", "b": at.replace(year=1900), "c": psycopg.types.json.Jsonb([]), "d": [-1]},
    ]
    with bounded(database) as connection:
        for parameters in [*rows, *reversed(rows)]:
            (found,) = connection.fetch(query, parameters, tuple_row)
            expected = parameters | {"c": parameters["c"] and parameters["c"].obj}
            assert found == tuple(expected.values())
            assert found[1] is None or found[1].tzinfo is UTC


def test_a_column_whose_type_was_changed_is_read_with_the_new_type(database: Database) -> None:
    query = read("own_value", "SELECT value FROM changed")
    with bounded(database) as connection, psycopg.connect(database.url("migrator"), autocommit=True) as owner:
        owner.execute("CREATE TABLE changed AS SELECT 7 AS value")
        owner.execute("GRANT SELECT ON changed TO app_a")
        for kind, value in (("int", 7), ("text", "7"), ("numeric", 7), ("text[]", ["7"])):
            changed = "ARRAY[value]::text[]" if kind == "text[]" else f"value::{kind}"
            owner.execute(f"ALTER TABLE changed ALTER value TYPE {kind} USING {changed}")
            for _ in range(2):
                assert connection.fetch(query, {}, scalar_row) == [value], kind


def test_no_result_is_kept_and_the_number_of_known_queries_is_limited(database: Database) -> None:
    with bounded(database) as connection:
        for number in range(110):
            query = read(f"own_{number}", f"SELECT generate_series(1, 3) + {number}")
            assert connection.fetch(query, {}, scalar_row) == [number + 1, number + 2, number + 3]
        known = connection._transformers
        assert len(known) == 100
        assert all(each.pgresult is None for each in known.values())


@pytest.mark.parametrize("sql", ["SELECT 1 / 0", "SELECT 'x'::int"])
def test_a_query_that_failed_can_be_repeated(database: Database, sql: str) -> None:
    query, works = read("own_failure", f"{sql} + %(n)s", "n int"), read("own_one", "SELECT %(n)s", "n int")
    with bounded(database) as connection:
        for _ in range(2):
            with pytest.raises(psycopg.DataError):
                connection.fetch(query, {"n": 1}, scalar_row)
            assert connection.fetch(works, {"n": 1}, scalar_row) == [1]
