"""Postgres frozen, restarting, out of connections, migrated underneath: typed errors, in bounded time."""

from __future__ import annotations

import asyncio
import random
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace as with_fields
from datetime import UTC, datetime
from pathlib import Path
from threading import Thread
from typing import Any

import psycopg
import pytest
from msgspec.structs import replace
from psycopg import errors as sql_errors

from cache.url_source import UrlSource
from db import AsyncDataAccess
from db.errors import DbError, DeadlineExceeded, InvalidSetting, OutcomeUnknown, Unavailable
from db.migrator import apply_pending, read_source
from db.models import NewActivity, NewUser
from infra.spec import roles
from tests import containers
from tests.conftest import Database
from tests.containers import Server, frozen, wait_until
from tests.integration.data_access import cache_settings, data_access, database_settings

DEADLINE_SECONDS = 1.0
BOUND_SECONDS = 3 * DEADLINE_SECONDS


@pytest.fixture(scope="module")
def sick_postgres(docker_engine: None) -> Iterator[Server]:
    """A migrated Postgres of this module's own, for it is frozen and stopped."""
    with containers.postgres_server() as server:
        apply_pending(server.database_url("migrator"), read_source())
        yield server


@pytest.fixture
def over_sick(flavour: str, sick_postgres: Server) -> Iterator[Any]:
    """A data access on the sick server, without a cache: every read is Postgres's."""
    settings = database_settings(
        sick_postgres.database_url("app_a"), deadline_seconds=DEADLINE_SECONDS, pool_size=2
    )
    with data_access(flavour, settings, cache_settings("redis://app:x@localhost:1/0", "none")) as data:
        yield data


def test_a_read_from_a_frozen_server_ends_with_the_deadline(over_sick: Any, sick_postgres: Server) -> None:
    over_sick.users.find(1)
    with frozen(sick_postgres):
        for _ in range(4):
            started = time.monotonic()
            # The first two calls hold connections that looked well, the others find none.
            with pytest.raises((DeadlineExceeded, Unavailable)):
                over_sick.users.find(1)
            assert time.monotonic() - started < BOUND_SECONDS
    wait_until(lambda: _answers(over_sick), 15)


def test_a_write_to_a_frozen_server_says_that_its_outcome_is_unknown(
    over_sick: Any, sick_postgres: Server
) -> None:
    over_sick.users.find(1)
    with frozen(sick_postgres), pytest.raises(OutcomeUnknown, match="may have been done"):
        over_sick.users.add(NewUser(github_id=random.getrandbits(40), username="x"))
    wait_until(lambda: _answers(over_sick), 15)


def test_the_plain_driver_hangs_on_a_frozen_server(sick_postgres: Server) -> None:
    """The negative control of the deadline."""
    with psycopg.connect(sick_postgres.database_url("app_a"), autocommit=True) as connection:
        with frozen(sick_postgres):
            reader = Thread(target=connection.execute, args=["SELECT 1"], daemon=True)
            reader.start()
            reader.join(BOUND_SECONDS)
            hung = reader.is_alive()
        reader.join(10)
    assert hung


def test_a_cancelled_call_on_a_frozen_server_ends_soon(sick_postgres: Server) -> None:
    async def scenario() -> float:
        settings = database_settings(sick_postgres.database_url("app_a"), deadline_seconds=30)
        async with AsyncDataAccess(settings, cache_settings("redis://app:x@localhost:1/0", "none")) as data:
            await data.users.find(1)
            with frozen(sick_postgres):
                call = asyncio.create_task(data.users.find(1))
                await asyncio.sleep(0.2)
                started = time.monotonic()
                call.cancel()
                await asyncio.wait([call])
                assert call.cancelled()
                return time.monotonic() - started

    assert asyncio.run(scenario()) < 3 * 1.0


def test_nobody_listening_is_unavailable_by_the_deadline(flavour: str) -> None:
    settings = database_settings(
        "postgresql://app_a:secret@localhost:1/groundwork", deadline_seconds=DEADLINE_SECONDS
    )
    with data_access(flavour, settings, cache_settings("redis://app:x@localhost:1/0", "none")) as data:
        started = time.monotonic()
        with pytest.raises(Unavailable) as caught:
            data.users.find(1)
        assert time.monotonic() - started < BOUND_SECONDS
        assert "secret" not in str(caught.value)


def test_the_pool_comes_back_by_itself_after_an_outage(
    flavour: str, sick_postgres: Server, tmp_path: Path
) -> None:
    """The port changes with the restart, so this also shows that the file is read for every connection."""
    file = tmp_path / "database_url"
    file.write_text(sick_postgres.database_url("app_a"))
    settings = with_fields(
        database_settings("", deadline_seconds=DEADLINE_SECONDS),
        url=UrlSource("DATABASE_URL", InvalidSetting, file=file),
    )
    with data_access(flavour, settings, cache_settings("redis://app:x@localhost:1/0", "none")) as data:
        data.users.find(1)
        sick_postgres.restart()
        file.write_text(sick_postgres.database_url("app_a"))
        wait_until(lambda: _answers(data), 15)
        # No caller was needed for this: the probe had its connection back.
        wait_until(lambda: data.pool.statistics()["pool_available"] >= 1, 5)


def test_an_idle_connection_that_the_server_closed_costs_no_error(data: Any, database: Database) -> None:
    for _ in range(3):
        data.users.find(1)
        database.psql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE usename = 'app_a' AND datname = current_database()"
        )
        data.users.list()
    wait_until(_is_whole(data), 10)


def test_a_read_that_loses_its_connection_is_asked_again(data: Any, database: Database) -> None:
    user = data.users.add(NewUser(github_id=1, username="x"))
    with _locked_table(database), ThreadPoolExecutor(1) as thread:
        reading = thread.submit(data.users.get, user.id)
        wait_until(lambda: _terminate_waiting(database) == 1)
        # The second attempt waits for the lock too; letting go of it lets the read through.
        wait_until(lambda: _waiting(database) == 1)
        _release(database)
        assert reading.result(10) == user
    wait_until(_is_whole(data), 10)


def test_a_write_that_loses_its_connection_is_not_repeated(data: Any, database: Database) -> None:
    with _locked_table(database), ThreadPoolExecutor(1) as thread:
        writing = thread.submit(data.users.add, NewUser(github_id=1, username="x"))
        wait_until(lambda: _terminate_waiting(database) == 1)
        with pytest.raises(OutcomeUnknown) as caught:
            writing.result(10)
        assert caught.value.sqlstate == "57P01"
    wait_until(_is_whole(data), 10)


def test_a_write_under_a_key_that_loses_its_connection_is_repeated_and_done_once(
    data: Any, database: Database
) -> None:
    """Its control is the test above: without a key nobody knows."""
    with _locked_table(database), ThreadPoolExecutor(1) as thread:
        new = NewUser(github_id=1, username="x")
        writing = thread.submit(data.users.add, new, idempotency_key="k")
        wait_until(lambda: _terminate_waiting(database) == 1)
        wait_until(lambda: _waiting(database) == 1)
        _release(database)
        user = writing.result(10)
    assert user.row_version == 1
    assert data.users.add(new, idempotency_key="k") == user
    wait_until(_is_whole(data), 10)


def test_a_write_under_a_key_whose_repetition_finds_no_server_is_of_unknown_outcome(
    open_data: Any, database: Database
) -> None:
    """That nothing was done is true of the second attempt alone: the first one's COMMIT was under way."""
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


def test_all_statements_of_a_write_under_a_key_have_one_deadline(open_data: Any, database: Database) -> None:
    """Each of them is in time, and all together are not."""
    data = open_data(deadline_seconds=2.0)
    data.users.find(1)
    _slow_down(database, "BEFORE", 1.2)
    _slow_down(database, "AT COMMIT", 1.2)
    started = time.monotonic()
    with pytest.raises((DeadlineExceeded, OutcomeUnknown)):
        data.users.add(NewUser(github_id=1, username="x"), idempotency_key="k")
    assert time.monotonic() - started < 3 * 2.0
    # Without a key there is one statement, and its COMMIT is part of it.
    wait_until(_is_whole(data), 10)


@pytest.mark.parametrize("verb", ["update", "delete"])
def test_after_a_write_of_unknown_outcome_a_read_gives_what_stands(
    flavour: str, sick_postgres: Server, redis_server: Server, namespace: str, verb: str
) -> None:
    """The frozen server has the statement and does it once it goes on; nobody is left to tell the cache."""
    settings = database_settings(
        sick_postgres.database_url("app_a"), deadline_seconds=DEADLINE_SECONDS, pool_size=1
    )
    cache = cache_settings(redis_server.redis_url("app"), namespace, near_entries=0)
    with data_access(flavour, settings, cache) as data:
        other, user = (
            data.users.get(data.users.add(NewUser(github_id=random.getrandbits(40), username="before")).id)
            for _ in range(2)
        )

        def write(record: Any) -> None:
            if verb == "update":
                data.users.update(replace(record, username="after"))
            else:
                data.users.delete(record.id)

        # Prepared now: what comes later is the statement itself.
        write(other)
        with frozen(sick_postgres), pytest.raises(OutcomeUnknown):
            write(user)
        sql = f"SELECT count(*) FROM groundwork.users WHERE id = {user.id} AND username = 'before'"
        wait_until(lambda: sick_postgres.psql(sql, roles.DATABASE).strip() == "0", 15)
        wait_until(lambda: _answers(data), 15)
        found = data.users.find(user.id)
        assert (found and found.username) == ("after" if verb == "update" else None)


def test_after_an_activity_of_unknown_outcome_its_feed_gives_what_stands(
    flavour: str, sick_postgres: Server, redis_server: Server, namespace: str
) -> None:
    settings = database_settings(
        sick_postgres.database_url("app_a"), deadline_seconds=DEADLINE_SECONDS, pool_size=1
    )
    with data_access(flavour, settings, cache_settings(redis_server.redis_url("app"), namespace)) as data:
        user_id = data.users.add(NewUser(github_id=random.getrandbits(40), username="x")).id
        made = NewActivity(user_id=user_id, type="PushEvent", timestamp=datetime.now(UTC))
        data.activities.make_partitions(made.timestamp, made.timestamp)
        data.activities.add(made)
        assert len(data.activities.feed(user_id).items) == 1
        with frozen(sick_postgres), pytest.raises(OutcomeUnknown):
            data.activities.add(made)
        sql = f"SELECT count(*) FROM groundwork.activities WHERE user_id = {user_id}"
        wait_until(lambda: sick_postgres.psql(sql, roles.DATABASE).strip() == "2", 15)
        wait_until(lambda: _answers(data), 15)
        assert len(data.activities.feed(user_id).items) == 2


def test_a_statement_that_takes_too_long_is_ended(open_data: Any, database: Database) -> None:
    data = open_data(deadline_seconds=DEADLINE_SECONDS)
    data.users.find(1)
    with _locked_table(database):
        started = time.monotonic()
        with pytest.raises((DeadlineExceeded, Unavailable)):
            data.users.find(2)
        assert time.monotonic() - started < BOUND_SECONDS
    wait_until(_is_whole(data), 10)


def test_callers_that_find_no_connection_give_up_by_their_deadline(
    open_data: Any, database: Database
) -> None:
    data = open_data(deadline_seconds=DEADLINE_SECONDS, pool_size=1)
    data.users.find(1)
    with _locked_table(database), ThreadPoolExecutor(4) as threads:
        started = time.monotonic()
        calls = [threads.submit(data.users.find, 100 + n) for n in range(4)]
        errors = [call.exception() for call in calls]
        assert time.monotonic() - started < BOUND_SECONDS
    assert all(isinstance(error, DeadlineExceeded | Unavailable) for error in errors)
    wait_until(_is_whole(data), 10)


def test_a_migration_under_prepared_statements_gives_no_error(data: Any, database: Database) -> None:
    user = data.users.add(NewUser(github_id=1, username="x"))
    for type_name in ("varchar(200)", "text", "varchar(100)"):
        for _ in range(3):
            assert data.users.list().items[0].id == user.id
        database.psql(f"ALTER TABLE groundwork.users ALTER COLUMN username TYPE {type_name}")
    assert data.users.update(data.users.get(user.id)).row_version == 2


def test_the_plain_driver_fails_after_a_migration(connect: Callable[..., Any], database: Database) -> None:
    """The negative control of the test above: 0A000, for as long as the connection lives."""
    connection = connect("app")
    query = "SELECT username FROM users"
    connection.execute(query, prepare=True)
    database.psql("ALTER TABLE groundwork.users ALTER COLUMN username TYPE varchar(200)")
    for _ in range(3):
        with pytest.raises(sql_errors.FeatureNotSupported):
            connection.execute(query, prepare=True)


def test_a_rotated_password_is_taken_up_without_a_restart(
    flavour: str, sick_postgres: Server, tmp_path: Path
) -> None:
    file = tmp_path / "database_url"
    old = sick_postgres.database_url("app_b")
    file.write_text(old)
    settings = with_fields(
        database_settings("", deadline_seconds=5),
        url=UrlSource("DATABASE_URL", InvalidSetting, file=file),
    )
    with data_access(flavour, settings, cache_settings("redis://app:x@localhost:1/0", "none")) as data:
        data.users.find(2**40)
        rotated = uuid.uuid4().hex
        verifier = roles.scram_verifier(rotated, b"0123456789abcdef")
        sick_postgres.psql(f"ALTER ROLE app_b PASSWORD '{verifier}'")
        file.write_text(old.replace(sick_postgres.passwords["app_b"], rotated))
        sick_postgres.passwords["app_b"] = rotated
        data.pool.drain()
        sick_postgres.psql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app_b'")
        assert data.users.find(2**40) is None


def test_cancelled_tasks_leave_no_answer_to_the_wrong_caller(
    database: Database, redis_server: Server
) -> None:
    async def scenario() -> tuple[int, dict[str, int]]:
        access = AsyncDataAccess(
            database_settings(database.url("app"), pool_size=4),
            cache_settings(redis_server.redis_url("app"), "cancelled"),
        )
        async with access as data:
            users = [await data.users.add(NewUser(github_id=n, username=f"u{n}")) for n in range(1, 21)]
            wrong = 0
            for _ in range(10):
                tasks = [asyncio.create_task(data.users.get(user.id)) for user in users]
                await asyncio.sleep(random.uniform(0, 0.02))
                for task in random.sample(tasks, 10):
                    task.cancel()
                for task, user in zip(tasks, users, strict=True):
                    try:
                        wrong += await task != user
                    except asyncio.CancelledError:
                        pass
                await data.users.cached.drop([(user.id, None) for user in users])
            await asyncio.sleep(0.5)
            return wrong, data.pool.statistics()

    wrong, statistics = asyncio.run(scenario())
    assert wrong == 0
    assert statistics["pool_size"] == statistics["pool_available"]


def _answers(data: Any) -> bool:
    try:
        data.users.find(1)
    except DbError:
        return False
    return True


def _is_whole(data: Any) -> Callable[[], bool]:
    def holds() -> bool:
        statistics = data.pool.statistics()
        return bool(statistics["pool_size"] == statistics["pool_available"])

    return holds


@contextmanager
def _locked_table(database: Database) -> Iterator[None]:
    """The users table locked by the superuser, in a session named `locker`, until the end or `_release`."""
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
    """Have each insert of a user sleep: BEFORE it, or AT COMMIT."""
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


_SLEEPING = (
    " FROM pg_stat_activity"
    " WHERE usename = 'app_a' AND wait_event = 'PgSleep' AND query LIKE 'COMMIT%' AND datname = current_database()"
)


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


def _ignore_errors(call: Callable[..., object], *arguments: object) -> None:
    try:
        call(*arguments)
    except Exception:
        # The session is terminated on purpose.
        pass
