"""Reads from a replica: which ones, what they see, and when the primary answers instead."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any

import psycopg
import pytest

import db._async.replicas
import db._sync.replicas
from cache.url_source import UrlSource
from db import load_queries
from db.errors import ConnectionLost, DeadlineExceeded, InvalidInput, InvalidSetting, QueryFailed
from db.models import NewUser
from db.rows import Position
from infra.docker.engine import docker
from infra.spec.roles import DATABASE
from tests.containers import wait_until
from tests.integration.data_access import cache_settings, data_access, database_settings, replica_reads
from tests.integration.reading.conftest import IS_REPLICA, is_answered_by_replica
from tests.promises import promise
from tests.replica import Pair

ADA = NewUser(github_id=7, username="ada")
# Blocks of `transaction()`, which a test cannot enter in the event loop of the async form.
SYNC = pytest.mark.parametrize("flavour", ["sync"])
OWN = load_queries("""
-- name: both :read
-- Return whether a replica answers, and the name of a user.
-- takes: github_id int
-- gives: tuple
SELECT pg_is_in_recovery(), username FROM users WHERE github_id = %(github_id)s;

-- name: write :read
-- Change something although it is marked as a read.
-- takes: nothing
-- gives: int
SELECT 1 FROM (SELECT pg_notify('reading', '')) AS notified;

-- name: wait :read
-- Wait to be cancelled.
-- takes: nothing
-- gives: int
SELECT 1 FROM (SELECT pg_sleep(30)) AS slept;

-- name: fail :read
-- Divide by zero.
-- takes: nothing
-- gives: int
SELECT 1 / count(*) FROM users WHERE id < 0;

-- name: session :read
-- Return the process of the session.
-- takes: nothing
-- gives: int
SELECT pg_backend_pid();
""")


def insert(pair: Pair, github_id: int, username: str) -> None:
    """Write as another process does, of which the data access knows nothing."""
    pair.primary.psql(
        f"INSERT INTO groundwork.users (github_id, username) VALUES ({github_id}, '{username}')", DATABASE
    )


def signal(pair: Pair, process: int, name: str) -> None:
    docker("exec", pair.primary.container, "sh", "-c", f"kill -{name} {process}")


@promise("a replica answers reads in `reading()`, and only there")
def test_a_replica_answers_in_the_block_only(data: Any) -> None:
    assert is_answered_by_replica(data)
    assert data.fetch_one(IS_REPLICA, bool) is False


@promise("a replica answers reads in `reading()`, and only there")
def test_listings_counts_and_reads_by_a_natural_key_are_answered_by_a_replica(data: Any) -> None:
    ada = data.users.add(ADA)
    wait_until(lambda: is_answered_by_replica(data))
    before = replica_reads("replica")
    with data.reading():
        assert data.users.find_by_github_id(7) == ada
        assert data.users.list().items == [ada]
        assert data.users.count() == 1
        assert data.activities.list().items == []
        assert data.activities.list_by_type("PushEvent").items == []
    assert replica_reads("replica") == before + 5


@promise("replicas never fill the cache")
def test_reads_through_the_cache_are_answered_by_the_primary(data: Any, pair: Pair) -> None:
    is_answered_by_replica(data)
    before = replica_reads("replica")
    with pair.paused():
        insert(pair, 8, "grace")
        with data.reading(max_staleness=None):
            assert data.users.find_by_github_id(8) is None
            (grace,) = data.fetch_all(OWN["both"], tuple, github_id=8) or [None]
            assert grace is None
            user_id = int(pair.primary.psql("SELECT id FROM groundwork.users WHERE github_id = 8", DATABASE))
            assert data.users.get(user_id).username == "grace"
            assert [each.username for each in data.users.get_many([user_id])] == ["grace"]
            assert data.activities.feed(user_id).items == []
    assert replica_reads("replica") == before + 2


@SYNC
@promise("a read in `reading()` sees every write that its data access has completed")
def test_a_read_sees_the_writes_of_its_process_while_the_replica_lags(data: Any, pair: Pair) -> None:
    with pair.paused():
        ada = data.users.add(ADA)
        with data.reading(max_staleness=None):
            assert data.users.find_by_github_id(7) == ada
            with data.transaction():
                renamed = data.users.patch(ada.id, username="countess")
            assert data.users.find_by_github_id(7) == renamed
            data.users.delete(ada.id)
            assert data.users.find_by_github_id(7) is None
    wait_until(lambda: is_answered_by_replica(data))


@promise("a read in `reading()` sees every write that its data access has completed", control=True)
def test_a_plain_connection_to_the_replica_misses_the_write(data: Any, pair: Pair) -> None:
    with pair.paused(), psycopg.connect(pair.url("app_a", DATABASE), autocommit=True) as replica:
        data.users.add(ADA)
        assert replica.execute("SELECT count(*) FROM users").fetchone() == (0,)


@promise("a replica answers only if it has every write that is older than max_staleness")
def test_the_primary_answers_if_the_replica_is_too_stale(data: Any, pair: Pair) -> None:
    # The position that the bound of an hour needs later.
    assert is_answered_by_replica(data, max_staleness=3600)
    with pair.paused():
        insert(pair, 8, "grace")
        with data.reading(max_staleness=3600):
            assert data.users.find_by_github_id(8) is None
        with data.reading(max_staleness=None):
            assert data.users.find_by_github_id(8) is None
        before = replica_reads("lagging")
        with data.reading(max_staleness=0.0001):
            assert data.users.find_by_github_id(8).username == "grace"
        assert replica_reads("lagging") == before + 1


def test_a_replica_of_an_idle_primary_is_not_stale(data: Any, pair: Pair) -> None:
    """Although the last transaction that it has replayed is old."""
    pair.catch_up()
    assert is_answered_by_replica(data, max_staleness=0.001)


@promise("a read after a position sees the writes before it, also those of other processes")
def test_a_position_carries_writes_to_another_data_access(
    open_reader: Callable[..., Any], pair: Pair
) -> None:
    writer, reader = open_reader(), open_reader()
    with pair.paused():
        ada = writer.users.add(ADA)
        position = writer.write_position()
        with reader.reading(max_staleness=None):
            assert reader.users.find_by_github_id(7) is None
        with reader.reading(max_staleness=None, after=position):
            assert reader.users.find_by_github_id(7) == ada
    wait_until(lambda: is_answered_by_replica(reader, after=position))


@SYNC
def test_a_position_is_not_known_inside_a_transaction(data: Any) -> None:
    with data.transaction(), pytest.raises(InvalidInput, match="call it after the transaction"):
        data.write_position()


def test_a_position_of_a_later_timeline_is_answered_by_the_primary(data: Any) -> None:
    before = replica_reads("other_timeline")
    assert not is_answered_by_replica(data, after=str(Position(2, 1)))
    assert replica_reads("other_timeline") == before + 1


@SYNC
def test_a_transaction_in_the_block_runs_on_the_primary(data: Any) -> None:
    with data.reading(), data.transaction():
        assert data.fetch_one(IS_REPLICA, bool) is False


def test_without_replicas_the_primary_answers(
    open_reader: Callable[..., Any], pair: Pair, flavour: str
) -> None:
    settings = database_settings(pair.url("app_a", DATABASE, servers="primary"))
    nowhere = cache_settings("redis://app:x@localhost:1/0", "none", near_entries=0)
    with data_access(flavour, settings, nowhere) as data:
        data.users.find(1)
        with data.reading(after=data.write_position()):
            assert data.fetch_one(IS_REPLICA, bool) is False


def test_a_list_without_a_replica_is_not_used_for_more_connections_to_the_primary(
    pair: Pair, flavour: str
) -> None:
    primary = pair.url("app_a", DATABASE, servers="primary")
    settings = database_settings(primary, read_url=UrlSource("DATABASE_READ_URL", InvalidSetting, primary))
    nowhere = cache_settings("redis://app:x@localhost:1/0", "none", near_entries=0)
    before = replica_reads("no_replica")
    with data_access(flavour, settings, nowhere) as data:
        assert not is_answered_by_replica(data)
    assert replica_reads("no_replica") == before + 1


def test_the_error_of_a_wrong_query_comes_from_the_primary(data: Any) -> None:
    with data.reading(), pytest.raises(QueryFailed, match="division by zero"):
        data.fetch_one(OWN["fail"], int)
    assert is_answered_by_replica(data)


def test_a_read_that_writes_is_sent_to_the_primary(data: Any) -> None:
    before = replica_reads("failed")
    with data.reading():
        assert data.fetch_one(OWN["write"], int) == 1
    assert replica_reads("failed") == before + 1
    assert is_answered_by_replica(data)


def test_a_query_that_is_cancelled_on_the_replica_is_not_sent_to_the_primary(data: Any, pair: Pair) -> None:
    cancel = "SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
    with ThreadPoolExecutor(1) as thread, data.reading():
        waiting = thread.submit(copy_context().run, data.fetch_one, OWN["wait"], int)
        wait_until(lambda: pair.replica_psql(cancel) == "1")
        with pytest.raises(DeadlineExceeded) as cancelled:
            waiting.result(20)
    assert cancelled.value.sqlstate == "57014"


@promise("the primary answers while a replica is gone or frozen")
def test_the_primary_answers_while_the_replica_is_stopped(data: Any, pair: Pair) -> None:
    ada = data.users.add(ADA)
    pair.stop_replica()
    try:
        with data.reading():
            for _ in range(5):
                assert data.users.find_by_github_id(7) == ada
    finally:
        pair.start_replica()
    wait_until(lambda: is_answered_by_replica(data), 60)


@promise("the primary answers while a replica is gone or frozen")
def test_the_primary_answers_while_the_replica_is_frozen(
    open_reader: Callable[..., Any], pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Otherwise a replica that has just answered is trusted for a second.
    for module in (db._async.replicas, db._sync.replicas):
        monkeypatch.setattr(module, "_TRUST_SECONDS", 0.0)
    data = open_reader(read_pool_size=1, deadline_seconds=30.0)
    ada = data.users.add(ADA)
    wait_until(lambda: is_answered_by_replica(data))
    with data.reading():
        session = data.fetch_one(OWN["session"], int)
        signal(pair, session, "STOP")
        try:
            before = replica_reads("failed")
            assert data.users.find_by_github_id(7) == ada
            assert replica_reads("failed") == before + 1
            # The connection was replaced.
            wait_until(lambda: is_answered_by_replica(data), 60)
        finally:
            signal(pair, session, "CONT")


@promise("if a replica refuses a write, the pool connects again, and nothing was changed")
def test_a_write_to_a_replica_is_a_lost_connection(pair: Pair, flavour: str) -> None:
    nowhere = cache_settings("redis://app:x@localhost:1/0", "none", near_entries=0)
    with data_access(flavour, database_settings(pair.url("app_a", DATABASE)), nowhere) as data:
        before = data.fetch_one(OWN["session"], int)
        with pytest.raises(
            ConnectionLost, match="the server is no longer the primary; nothing was changed"
        ) as lost:
            data.users.add(ADA)
        assert lost.value.sqlstate == "25006"
        with pytest.raises(ConnectionLost):
            data.users.add(ADA, idempotency_key="k")
        assert data.fetch_one(OWN["session"], int) != before


def test_the_urls_of_both_pools_are_checked(flavour: str, pair: Pair) -> None:
    settings = database_settings(
        pair.url("app_a", DATABASE), read_url=UrlSource("DATABASE_READ_URL", InvalidSetting, "nonsense")
    )
    nowhere = cache_settings("redis://app:x@localhost:1/0", "none", near_entries=0)
    with (
        pytest.raises(InvalidSetting, match="DATABASE_READ_URL is not a connection string"),
        data_access(flavour, settings, nowhere),
    ):
        pass
