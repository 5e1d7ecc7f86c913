"""The exporter's queries, on sessions of every kind."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml

from infra.docker.engine import psql
from infra.monitoring.configuration import POSTGRES_QUERIES
from tests.conftest import Database

# backend_type, login, state, seconds since the transaction began
SESSIONS = (
    ("client backend", "app_a", "idle in transaction", 900),
    ("client backend", "app_a", "idle in transaction", 60),
    ("client backend", "app_a", "active", 5),
    ("parallel worker", "app_a", "active", 5),
    ("parallel worker", "app_a", "active", 5),
    ("autovacuum worker", None, "active", 7200),
    ("walsender", "monitor_a", "active", 7200),
)
# mode, whether it is a fast-path lock
LOCKS = (
    ("AccessShareLock", True),
    ("ExclusiveLock", False),
    ("ExclusiveLock", False),
    ("SIReadLock", False),
)


@pytest.fixture
def asked(database: Database) -> Any:
    """Return asked("pg_role"), which runs a query of the exporter on SESSIONS and LOCKS instead of the server's."""
    rows = ", ".join(
        f"('{kind}', (SELECT oid FROM pg_roles WHERE rolname = {repr(login) if login else 'NULL'}), '{state}',"
        f" clock_timestamp() - interval '{seconds} s')"
        for kind, login, state, seconds in SESSIONS
    )
    locks = ", ".join(f"('{mode}', {is_fast})" for mode, is_fast in LOCKS)
    prepared = (
        "CREATE TEMP TABLE pg_stat_activity AS SELECT * FROM pg_catalog.pg_stat_activity WITH NO DATA;"
        " INSERT INTO pg_temp.pg_stat_activity (backend_type, usesysid, state, xact_start, datname, pid)"
        " SELECT kind, login, state, since, current_database(), row_number() OVER ()"
        f" FROM (VALUES {rows}) AS session (kind, login, state, since);"
        " CREATE TEMP TABLE pg_locks AS SELECT * FROM pg_catalog.pg_locks WITH NO DATA;"
        f" INSERT INTO pg_temp.pg_locks (mode, fastpath) VALUES {locks};"
        " SET search_path = pg_temp, pg_catalog;"
    )

    def ask(name: str) -> list[dict[str, Any]]:
        query = yaml.safe_load(POSTGRES_QUERIES.read_text())[name]["query"]
        text = f"{prepared} SELECT json_agg(found) FROM ({query}) AS found;"
        return list(json.loads(psql(database.server.container, text, database=database.name)))

    return ask


def test_a_long_transaction_is_one_of_a_client(asked: Any, database: Database) -> None:
    found = {
        row["state"]: row["seconds"]
        for row in asked("pg_long_transaction")
        if row["datname"] == database.name
    }
    assert found.keys() == {"active", "idle in transaction", "idle in transaction (aborted)"}
    assert 900 <= found["idle in transaction"] < 1500
    assert 5 <= found["active"] < 600
    assert found["idle in transaction (aborted)"] == 0


def test_connections_are_counted_as_for_the_connection_limit(asked: Any) -> None:
    found = {row["rolname"]: row["connections"] for row in asked("pg_role")}
    assert (found["app_a"], found["monitor_a"], found["readonly_a"]) == (3, 1, 0)


def test_only_locks_in_the_lock_table_are_counted(asked: Any, database: Database) -> None:
    """Neither fast-path locks nor predicate locks are in that table."""
    (found,) = asked("pg_lock_table")
    size = (
        "SELECT current_setting('max_locks_per_transaction')::int"
        " * (current_setting('max_connections')::int + current_setting('max_prepared_transactions')::int)"
    )
    assert found["usage"] * int(database.psql(size)) == pytest.approx(2)


def test_live_rows_are_those_that_the_server_had_before_a_crash(asked: Any, database: Database) -> None:
    """A crash discards the statistics."""
    database.psql("CREATE TABLE groundwork.old (id bigint); CREATE TABLE groundwork.new (id bigint)")
    database.psql("INSERT INTO groundwork.old SELECT generate_series(1, 500); ANALYZE groundwork.old")
    database.psql("SELECT pg_stat_reset_single_table_counters('groundwork.old'::regclass)")
    database.psql("UPDATE groundwork.old SET id = id WHERE id <= 20; SELECT pg_stat_force_next_flush();")
    rows = {row["relname"]: (row["live_rows"], row["dead_rows"]) for row in asked("pg_table")}
    assert rows["old"] == (500, 20)
    assert rows["new"] == (0, 0)
