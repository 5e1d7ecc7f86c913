"""Connections that are lost, used up, blocked by locks or affected by migrations, with a working Postgres."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from threading import Thread
from typing import Any

import psycopg
import pytest
from msgspec.structs import replace
from psycopg import errors as sql_errors

from db import DataAccess
from db._sync.connection import BoundedConnection
from db.deadline import Deadline
from db.errors import DeadlineExceeded, OutcomeUnknown, Unavailable
from db.models import NewActivity, NewRepository, NewUser
from tests.cases import in_case
from tests.conftest import Database
from tests.containers import Server, wait_until
from tests.faults.slow_proxy import slow_proxy
from tests.integration.data_access import answers, cache_settings, data_access, database_settings
from tests.promises import promise
from tests.scale import limit

DEADLINE_SECONDS = 1.0
BOUND_SECONDS = limit(DEADLINE_SECONDS)
_SLEEPING = (
    " FROM pg_stat_activity"
    " WHERE usename = 'app_a' AND wait_event = 'PgSleep' AND query LIKE 'COMMIT%' AND datname = current_database()"
)


@promise("an idle connection that the server closed costs no error")
def test_an_idle_connection_that_the_server_closed_costs_no_error(data: Any, database: Database) -> None:
    for _ in range(3):
        data.users.find(1)
        database.psql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE usename = 'app_a' AND datname = current_database()"
        )
        data.users.list()
    wait_until(_is_whole(data), 60)


@promise("an idle connection that the server closed costs no error")
def test_a_write_over_one_is_sent_over_another(data: Any, database: Database) -> None:
    """Nothing was sent over the lost connection, so the outcome is known."""
    for n in range(1, 6):
        data.users.add(NewUser(github_id=n, username="x"))
        assert _terminate_idle(database) > 0
    assert len(data.users.list().items) == 5


@promise("an idle connection that the server closed costs no error", control=True)
def test_the_drivers_connection_fails_at_the_write(database: Database) -> None:
    """The negative control: the driver does not check for the server's message before it writes."""
    with psycopg.connect(database.url("app"), autocommit=True) as connection:
        connection.execute("SELECT 1")
        assert _terminate_idle(database) > 0
        with pytest.raises(psycopg.OperationalError):
            connection.execute("DELETE FROM users")


@promise("a read that loses its connection is retried once")
def test_a_read_that_loses_its_connection_is_retried(data: Any, database: Database) -> None:
    user = data.users.add(NewUser(github_id=1, username="x"))
    with _locked_table(database), ThreadPoolExecutor(1) as thread:
        reading = thread.submit(data.users.get, user.id)
        wait_until(lambda: _terminate_waiting(database) == 1)
        # The second attempt waits for the lock too, until it is released.
        wait_until(lambda: _waiting(database) == 1)
        _release(database)
        assert reading.result(10) == user
    wait_until(_is_whole(data), 60)


@promise("a write whose answer was lost is not retried without an idempotency key")
@promise("a write with an idempotency key is applied once, however often it is sent", control=True)
def test_a_write_that_loses_its_connection_is_not_repeated(data: Any, database: Database) -> None:
    with _locked_table(database), ThreadPoolExecutor(1) as thread:
        writing = thread.submit(data.users.add, NewUser(github_id=1, username="x"))
        wait_until(lambda: _terminate_waiting(database) == 1)
        with pytest.raises(OutcomeUnknown) as caught:
            writing.result(10)
        assert caught.value.sqlstate == "57P01"
    wait_until(_is_whole(data), 60)


@promise("a write with an idempotency key is applied once, however often it is sent")
def test_a_write_under_a_key_that_loses_its_connection_is_repeated_and_done_once(
    data: Any, database: Database
) -> None:
    """The test above is the control: without a key the outcome is unknown."""
    with _locked_table(database), ThreadPoolExecutor(1) as thread:
        new = NewUser(github_id=1, username="x")
        writing = thread.submit(data.users.add, new, idempotency_key="k")
        wait_until(lambda: _terminate_waiting(database) == 1)
        wait_until(lambda: _waiting(database) == 1)
        _release(database)
        user = writing.result(10)
    assert user.created_at == user.updated_at
    assert data.users.add(new, idempotency_key="k") == user
    wait_until(_is_whole(data), 60)


def test_an_activity_identified_only_by_its_key_is_done_once(data: Any, database: Database) -> None:
    user = data.users.add(NewUser(github_id=1, username="x"))
    new = NewActivity(user_id=user.id, type="PushEvent", timestamp=datetime.now(UTC))
    # The insert waits because its foreign key locks the user's row.
    with _locked_table(database), ThreadPoolExecutor(1) as thread:
        writing = thread.submit(data.activities.add, new, idempotency_key="k")
        wait_until(lambda: _terminate_waiting(database) == 1)
        wait_until(lambda: _waiting(database) == 1)
        _release(database)
        activity = writing.result(10)
    assert data.activities.add(new, idempotency_key="k") == activity
    assert data.activities.feed(user.id).items == [activity]


def test_a_write_under_a_key_has_an_unknown_outcome_if_its_retry_finds_no_server(
    open_data: Any, database: Database
) -> None:
    """Only of the second attempt is it known that nothing was done: the first one had sent its COMMIT."""
    data = open_data(deadline_seconds=5.0, pool_size=1)
    _slow_down(database, "AT COMMIT", 10)
    with ThreadPoolExecutor(1) as thread:
        writing = thread.submit(data.users.add, NewUser(github_id=1, username="x"), idempotency_key="k")
        wait_until(lambda: _sleeping(database) == 1)
        database.psql(f"ALTER DATABASE {database.name} CONNECTION LIMIT 0")
        _terminate_sleeping(database)
        with pytest.raises(OutcomeUnknown):
            writing.result(15)
        database.psql(f"ALTER DATABASE {database.name} CONNECTION LIMIT -1")


def test_a_write_under_a_key_has_an_unknown_outcome_if_its_retry_is_refused(
    open_data: Any, database: Database
) -> None:
    """The retry waits too long for the first attempt's lock, is part of a deadlock, or finds a replica."""
    _slow_down(database, "AT COMMIT", 10)
    database.psql("""
        CREATE TABLE groundwork.refusal AS SELECT NULL::text AS code;
        CREATE FUNCTION groundwork.refuse() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
            DECLARE refusal text := (SELECT code FROM groundwork.refusal);
            BEGIN IF refusal IS NOT NULL THEN RAISE EXCEPTION USING ERRCODE = refusal; END IF; RETURN NEW; END$$;
        CREATE TRIGGER refuse BEFORE INSERT ON groundwork.idempotency_keys
            FOR EACH ROW EXECUTE FUNCTION groundwork.refuse()""")
    for code in ("55P03", "40P01", "25006"):
        with in_case(code), ThreadPoolExecutor(1) as thread:
            data = open_data(pool_size=1)
            database.psql("UPDATE groundwork.refusal SET code = NULL")
            writing = thread.submit(data.users.add, NewUser(github_id=1, username="x"), idempotency_key="k")
            wait_until(lambda: _sleeping(database) == 1)
            database.psql(f"UPDATE groundwork.refusal SET code = '{code}'")
            _terminate_sleeping(database)
            with pytest.raises(OutcomeUnknown) as caught:
                writing.result(15)
            assert getattr(caught.value.__cause__, "sqlstate", None) == code


def test_all_statements_of_a_write_under_a_key_have_one_deadline(open_data: Any, database: Database) -> None:
    """Each statement is in time, but together they are late."""
    data = open_data(deadline_seconds=2.0)
    data.users.find(1)
    _slow_down(database, "BEFORE", 1.2)
    _slow_down(database, "AT COMMIT", 1.2)
    started = time.monotonic()
    with pytest.raises((DeadlineExceeded, OutcomeUnknown)):
        data.users.add(NewUser(github_id=1, username="x"), idempotency_key="k")
    assert time.monotonic() - started < limit(2.0)
    # Without a key there is one statement, which includes its COMMIT.
    wait_until(_is_whole(data), 60)


def test_a_statement_that_takes_too_long_is_cancelled(open_data: Any, database: Database) -> None:
    data = open_data(deadline_seconds=DEADLINE_SECONDS)
    wait_until(lambda: answers(data))
    with _locked_table(database):
        started = time.monotonic()
        with pytest.raises((DeadlineExceeded, Unavailable)):
            data.users.find(2)
        assert time.monotonic() - started < BOUND_SECONDS
    wait_until(_is_whole(data), 60)


def test_callers_that_find_no_connection_give_up_by_their_deadline(
    open_data: Any, database: Database
) -> None:
    data = open_data(deadline_seconds=DEADLINE_SECONDS, pool_size=1)
    wait_until(lambda: answers(data))
    with _locked_table(database), ThreadPoolExecutor(4) as threads:
        started = time.monotonic()
        calls = [threads.submit(data.users.find, 100 + n) for n in range(4)]
        errors = [call.exception() for call in calls]
        assert time.monotonic() - started < BOUND_SECONDS
    assert all(isinstance(error, DeadlineExceeded | Unavailable) for error in errors)
    wait_until(_is_whole(data), 60)


def test_a_migration_under_prepared_statements_gives_no_error(data: Any, database: Database) -> None:
    user = data.users.add(NewUser(github_id=1, username="x"))
    for type_name in ("varchar(200)", "text", "varchar(100)"):
        for _ in range(3):
            assert data.users.list().items[0].id == user.id
        database.psql(f"ALTER TABLE groundwork.users ALTER COLUMN username TYPE {type_name}")
    assert data.users.update(data.users.get(user.id)).row_version == user.row_version + 1


@promise("a migration causes no errors in prepared statements")
def test_a_second_deallocation_is_noticed_by_the_driver(database: Database) -> None:
    """The first one finds no prepared statement, as if a migration commits during the first preparation."""
    with BoundedConnection.connect(database.url("app"), autocommit=True) as connection:
        for _ in range(3):
            connection.deallocate_all()
            connection.execute("SELECT 1", prepare=True)


@promise("a migration causes no errors in prepared statements", control=True)
def test_the_plain_driver_misses_a_second_deallocation(connect: Callable[..., Any]) -> None:
    connection = connect("app")
    connection.execute("DEALLOCATE ALL", prepare=False)
    connection.execute("SELECT 1", prepare=True)
    connection.execute("DEALLOCATE ALL", prepare=False)
    for _ in range(2):
        with pytest.raises(sql_errors.InvalidSqlStatementName):
            connection.execute("SELECT 1", prepare=True)


@promise("a migration causes no errors in prepared statements")
def test_a_statement_that_the_server_lost_is_prepared_again(database: Database) -> None:
    no_cache = cache_settings("redis://app:x@localhost:1/0", "none")
    with DataAccess(database_settings(database.url("app"), pool_size=1), no_cache) as data:
        for _ in range(3):
            assert list(data.users.list().items) == []
            with data.pool.connection(Deadline(5.0)) as connection:
                # psycopg does not notice this.
                connection.pgconn.exec_(b"DEALLOCATE ALL")


def test_the_plain_driver_fails_after_a_migration(connect: Callable[..., Any], database: Database) -> None:
    """The negative control: every call on the connection fails with 0A000."""
    connection = connect("app")
    query = "SELECT username FROM users"
    connection.execute(query, prepare=True)
    database.psql("ALTER TABLE groundwork.users ALTER COLUMN username TYPE varchar(200)")
    for _ in range(3):
        with pytest.raises(sql_errors.FeatureNotSupported):
            connection.execute(query, prepare=True)


@pytest.mark.parametrize(("verb", "deadline_seconds"), [("update", 2.0), ("delete", 2.0), ("upsert", 3.3)])
def test_after_a_change_of_unknown_outcome_the_feeds_of_an_activity_are_current(
    flavour: str,
    database: Database,
    redis_server: Server,
    namespace: str,
    verb: str,
    deadline_seconds: float,
) -> None:
    """The activity is read in time, but the answer to the following write is late.

    Before that, an upsert learns from another statement that the activity has other owners.
    """
    port = database.server.port
    cache = cache_settings(redis_server.redis_url("app"), namespace)
    with slow_proxy(port) as proxy:
        url = database.url("app").replace(f":{port}/", f":{proxy.port}/")
        settings = database_settings(url, deadline_seconds=deadline_seconds, pool_size=1)
        with data_access(flavour, settings, cache) as data:
            activities = data.activities
            old, new = (data.users.add(NewUser(github_id=n, username="x")).id for n in (1, 2))
            repo_id = data.repositories.add(NewRepository(github_id=1, name="o/r")).id
            made = NewActivity(user_id=old, repo_id=repo_id, type="PushEvent", timestamp=datetime.now(UTC))
            other, added = (activities.add(replace(made, github_event_id=n)) for n in (1, 2))
            write = {
                "upsert": lambda each: activities.upsert(
                    replace(made, github_event_id=each.github_event_id, user_id=new, repo_id=None)
                ),
                "update": lambda each: activities.update(replace(each, user_id=new, repo_id=None)),
                "delete": lambda each: activities.delete(each.id, each.timestamp),
            }[verb]
            # Prepare it now, so that the later call sends only the statement itself.
            write(other)
            moved = verb != "delete"

            def feeds() -> list[int]:
                pages = [activities.feed(old), activities.feed(new), activities.repository_feed(repo_id)]
                return [len(page.items) for page in pages]

            assert feeds() == [1, moved, 1]
            proxy.delay_seconds = 1.3
            with pytest.raises(OutcomeUnknown, match=verb):
                write(added)
            proxy.delay_seconds = 0.0
            assert feeds() == [0, 2 * moved, 0]


def _is_whole(data: Any) -> Callable[[], bool]:
    def holds() -> bool:
        statistics = data.pool.statistics()
        return bool(statistics["pool_size"] == statistics["pool_available"])

    return holds


@contextmanager
def _locked_table(database: Database) -> Iterator[None]:
    """Lock the users table in a superuser session named `locker`, until `_release` or the end of the block."""
    sql = "SET application_name = 'locker'; BEGIN; LOCK TABLE groundwork.users; SELECT pg_sleep(30); ROLLBACK"
    locker = Thread(target=_ignore_errors, args=[database.psql, sql], daemon=True)
    locker.start()
    wait_until(
        lambda: (
            database.psql(
                "SELECT count(*) FROM pg_locks WHERE granted AND mode = 'AccessExclusiveLock'"
                " AND relation = 'groundwork.users'::regclass"
            ).strip()
            == "1"
        )
    )
    try:
        yield
    finally:
        _release(database)
        locker.join(10)


def _release(database: Database) -> None:
    database.psql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'locker'")


def _slow_down(database: Database, when: str, seconds: float) -> None:
    """Make each insert of a user sleep, BEFORE it or AT COMMIT."""
    name = when.lower().replace(" ", "_")
    function = (
        f"CREATE FUNCTION groundwork.{name}() RETURNS trigger LANGUAGE plpgsql AS"
        f" $$ BEGIN PERFORM pg_sleep({seconds}); RETURN NEW; END $$;"
    )
    table = f"ON groundwork.users FOR EACH ROW EXECUTE FUNCTION groundwork.{name}()"
    if when == "BEFORE":
        trigger = f"CREATE TRIGGER {name} BEFORE INSERT {table}"
    else:
        deferred = table.replace("FOR EACH", "DEFERRABLE INITIALLY DEFERRED FOR EACH")
        trigger = f"CREATE CONSTRAINT TRIGGER {name} AFTER INSERT {deferred}"
    database.psql(f"{function} {trigger}")


def _sleeping(database: Database) -> int:
    return int(database.psql(f"SELECT count(*) {_SLEEPING}"))


def _terminate_sleeping(database: Database) -> None:
    database.psql(f"SELECT pg_terminate_backend(pid) {_SLEEPING}")


def _waiting(database: Database) -> int:
    return int(
        database.psql(
            "SELECT count(*) FROM pg_stat_activity WHERE usename = 'app_a' AND wait_event_type = 'Lock'"
            " AND datname = current_database()"
        )
    )


def _terminate_waiting(database: Database) -> int:
    return int(
        database.psql(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
            " WHERE usename = 'app_a' AND wait_event_type = 'Lock' AND datname = current_database()"
        )
    )


def _terminate_idle(database: Database) -> int:
    """Terminate the application's idle connections, wait until they are gone, and return their count."""
    # The pool replaces them at once, so only these processes are waited for.
    terminated = database.psql(
        "SELECT CASE WHEN pg_terminate_backend(pid) THEN pid END FROM pg_stat_activity"
        " WHERE usename = 'app_a' AND datname = current_database() AND state = 'idle'"
    ).split()
    left = f"SELECT count(*) FROM pg_stat_activity WHERE pid IN ({', '.join(terminated) or '0'})"
    wait_until(lambda: int(database.psql(left)) == 0)
    return len(terminated)


def _ignore_errors(call: Callable[..., object], *arguments: object) -> None:
    try:
        call(*arguments)
    except Exception:
        # The session is terminated on purpose.
        pass
