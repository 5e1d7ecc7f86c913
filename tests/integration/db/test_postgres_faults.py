"""Postgres frozen, stopped, restarted, or with another password: typed errors in bounded time."""

from __future__ import annotations

import asyncio
import random
import time
import uuid
from collections.abc import Iterator
from dataclasses import replace as with_fields
from datetime import UTC, datetime
from pathlib import Path
from threading import Thread
from typing import Any

import psycopg
import pytest
from msgspec.structs import replace

from cache.url_source import UrlSource
from db import AsyncDataAccess
from db.errors import DeadlineExceeded, InvalidSetting, OutcomeUnknown, Unavailable
from db.migrator import apply_pending, read_source
from db.models import NewActivity, NewUser
from infra.spec import roles
from tests import containers
from tests.containers import Server, frozen, wait_until
from tests.integration.data_access import answers, cache_settings, data_access, database_settings
from tests.promises import promise
from tests.scale import limit

DEADLINE_SECONDS = 1.0
BOUND_SECONDS = limit(DEADLINE_SECONDS)


@pytest.fixture(scope="module")
def sick_postgres(docker_engine: None) -> Iterator[Server]:
    """A migrated Postgres for this module only, because the tests freeze and stop it."""
    with containers.postgres_server() as server:
        apply_pending(server.database_url("migrator"), read_source())
        yield server


@pytest.fixture
def over_sick(flavour: str, sick_postgres: Server) -> Iterator[Any]:
    """A data access without a cache, so that every read goes to this Postgres."""
    settings = database_settings(
        sick_postgres.database_url("app_a"), deadline_seconds=DEADLINE_SECONDS, pool_size=2
    )
    with data_access(flavour, settings, cache_settings("redis://app:x@localhost:1/0", "none")) as data:
        yield data


@promise("every call ends by its deadline with a typed error, whatever Postgres does")
def test_a_read_from_a_frozen_server_ends_with_the_deadline(over_sick: Any, sick_postgres: Server) -> None:
    wait_until(lambda: answers(over_sick))
    with frozen(sick_postgres):
        for _ in range(4):
            started = time.monotonic()
            # The first two calls get connections that seem to work; the others get none.
            with pytest.raises((DeadlineExceeded, Unavailable)):
                over_sick.users.find(1)
            assert time.monotonic() - started < BOUND_SECONDS
    wait_until(lambda: answers(over_sick))


def test_a_write_to_a_frozen_server_raises_outcome_unknown(over_sick: Any, sick_postgres: Server) -> None:
    wait_until(lambda: answers(over_sick))
    with frozen(sick_postgres), pytest.raises(OutcomeUnknown, match="may have been committed"):
        over_sick.users.add(NewUser(github_id=random.getrandbits(40), username="x"))
    wait_until(lambda: answers(over_sick))


@promise("every call ends by its deadline with a typed error, whatever Postgres does", control=True)
def test_the_plain_driver_hangs_on_a_frozen_server(sick_postgres: Server) -> None:
    """The negative control of the deadline."""
    with psycopg.connect(sick_postgres.database_url("app_a"), autocommit=True) as connection:
        with frozen(sick_postgres):
            reader = Thread(target=connection.execute, args=["SELECT 1"], daemon=True)
            reader.start()
            reader.join(3 * DEADLINE_SECONDS)
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

    assert asyncio.run(scenario()) < limit(1.0)


def test_a_missing_server_is_unavailable_by_the_deadline(flavour: str) -> None:
    settings = database_settings(
        "postgresql://app_a:secret@localhost:1/groundwork", deadline_seconds=DEADLINE_SECONDS
    )
    with data_access(flavour, settings, cache_settings("redis://app:x@localhost:1/0", "none")) as data:
        started = time.monotonic()
        with pytest.raises(Unavailable) as caught:
            data.users.find(1)
        assert time.monotonic() - started < BOUND_SECONDS
        assert "secret" not in str(caught.value)


@promise("the pool recovers without a restart after an outage")
def test_the_pool_recovers_without_a_restart_after_an_outage(
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
        wait_until(lambda: answers(data), 15)
        # The probe reconnects without a caller.
        wait_until(lambda: data.pool.statistics()["pool_available"] >= 1, 60)


@promise("after a write with an unknown outcome, a read returns what the database holds")
@pytest.mark.parametrize("verb", ["update", "delete"])
def test_after_a_write_of_unknown_outcome_a_read_returns_the_current_row(
    flavour: str, sick_postgres: Server, redis_server: Server, namespace: str, verb: str
) -> None:
    """The frozen server executes the statement when it continues, and the writer cannot update the cache any more."""
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

        # Prepare it now, so that the later call sends only the statement itself.
        write(other)
        with frozen(sick_postgres), pytest.raises(OutcomeUnknown):
            write(user)
        sql = f"SELECT count(*) FROM groundwork.users WHERE id = {user.id} AND username = 'before'"
        wait_until(lambda: sick_postgres.psql(sql, roles.DATABASE).strip() == "0", 15)
        wait_until(lambda: answers(data), 15)
        found = data.users.find(user.id)
        assert (found and found.username) == ("after" if verb == "update" else None)


def test_after_an_activity_of_unknown_outcome_its_feed_is_current(
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
        wait_until(lambda: answers(data), 15)
        assert len(data.activities.feed(user_id).items) == 2


@promise("a rotated password is read from its file without a restart")
def test_a_rotated_password_is_used_without_a_restart(
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
