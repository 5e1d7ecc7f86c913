"""Old idempotency keys are deleted in batches, while the outbox is processed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic
from typing import Any

import psycopg
import pytest

from db import AsyncDataAccess
from db.named_query import NamedQuery
from ops.serve import maintenance
from ops.serve.drainer import OutboxDrainer
from ops.serve.maintenance import Maintenance
from tests.conftest import Database
from tests.containers import Server
from tests.integration.data_access import cache_settings, database_settings

OLD_KEYS = 95
BATCH_SIZE = 10
GIVE_UP_SECONDS = 60.0


@pytest.fixture
def keys(database: Database, monkeypatch: pytest.MonkeyPatch) -> Database:
    """A database with old keys and two recent ones. Ten old ones have the same time."""
    monkeypatch.setattr(maintenance, "BATCH_SIZE", BATCH_SIZE)
    database.psql(
        "INSERT INTO groundwork.idempotency_keys (key, purpose, created_at) SELECT 'old ' || n, 'test',"
        f" now() - interval '2 days' + least(n, {OLD_KEYS - 10}) * interval '1 s'"
        f" FROM generate_series(1, {OLD_KEYS}) AS n"
    )
    database.psql(
        "INSERT INTO groundwork.idempotency_keys (key, purpose, created_at)"
        " VALUES ('new 1', 'test', now()), ('new 2', 'test', now() - interval '23 hours')"
    )
    return database


@pytest.fixture
def access(keys: Database, redis_server: Server, namespace: str) -> AsyncDataAccess:
    return AsyncDataAccess(
        database_settings(keys.url("app")),
        cache_settings(redis_server.redis_url("app"), namespace, near_entries=0),
    )


def left(connection: psycopg.Connection) -> list[str]:
    rows = connection.execute("SELECT key FROM groundwork.idempotency_keys ORDER BY key").fetchall()
    return [key for (key,) in rows]


async def wait_for(is_true: Callable[[], bool]) -> None:
    give_up_at = monotonic() + GIVE_UP_SECONDS
    while not is_true() and monotonic() < give_up_at:
        await asyncio.sleep(0.02)


def test_old_keys_are_deleted_in_batches_and_the_outbox_is_processed_between_them(
    keys: Database, access: AsyncDataAccess, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The number of keys, and of entries in the outbox, after each batch.
    seen: list[tuple[int, int]] = []
    fetch_one = access.pool.fetch_one

    async def run() -> list[str]:
        with psycopg.connect(keys.url("migrator"), autocommit=True) as connection:

            def waiting() -> int:
                ((number,),) = connection.execute("SELECT count(*) FROM groundwork.cache_outbox").fetchall()
                return int(number)

            async def fetch(query: NamedQuery, *arguments: Any) -> Any:
                row = await fetch_one(query, *arguments)
                if query.name == "forget_keys":
                    connection.execute(
                        "INSERT INTO groundwork.cache_outbox (entity, entity_id) VALUES ('user', 1)"
                    )
                    await wait_for(lambda: not waiting())
                    seen.append((len(left(connection)), waiting()))
                return row

            monkeypatch.setattr(access.pool, "fetch_one", fetch)
            async with access:
                drainer, running = OutboxDrainer(access), Maintenance(access)
                await drainer.start()
                await running.start()
                await wait_for(lambda: len(seen) == 10)
                await running.stop()
                await drainer.stop()
            return left(connection)

    assert asyncio.run(run()) == ["new 1", "new 2"]
    assert seen == [(OLD_KEYS + 2 - done, 0) for done in (*range(BATCH_SIZE, OLD_KEYS, BATCH_SIZE), OLD_KEYS)]


def test_a_key_that_another_transaction_holds_is_left(keys: Database, access: AsyncDataAccess) -> None:
    async def run() -> list[str]:
        with (
            psycopg.connect(keys.url("app")) as holder,
            psycopg.connect(keys.url("app"), autocommit=True) as connection,
        ):
            holder.execute("SELECT FROM groundwork.idempotency_keys WHERE key = 'old 2' FOR UPDATE")
            async with access:
                running = Maintenance(access)
                await running.start()
                await wait_for(lambda: len(left(connection)) <= 3)
                await running.stop()
            return left(connection)

    assert asyncio.run(run()) == ["new 1", "new 2", "old 2"]
