"""A backlog that takes longer than the drainer's limits: the metrics follow it, and it does not count as hanging."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from time import monotonic
from typing import Any, NamedTuple
from urllib.parse import quote

import psycopg
import pytest
from prometheus_client import REGISTRY

from cache.login_token import LoginTokens
from db import AsyncDataAccess
from db._async.outbox import AsyncOutbox
from db._async.pool import AsyncPool
from db.errors import DeadlineExceeded, Unavailable
from db.migrator.ledger import SCHEMA_CHANGED_CHANNEL
from ops.serve import drainer
from ops.serve.drainer import OutboxDrainer
from tests.conftest import Database
from tests.containers import Server
from tests.integration.data_access import cache_settings, database_settings
from tests.promises import promise

BACKLOG = 400
BATCH_SIZE = 10
# Forty batches take twice the time after which a sweep counts as hanging.
BATCH_SECONDS = 0.1
OVERDUE_SECONDS = 2.0
MEASURE_SECONDS = 0.2
GIVE_UP_SECONDS = 60.0


class Seen(NamedTuple):
    """The metrics at one moment. `left` is the actual number of entries, to compare with `depth`."""

    left: int
    depth: float
    drained: float
    last_sweep: float
    problem: str | None


class SlowCache:
    """An empty cache whose calls are slow."""

    async def drop(self, written: Iterable[tuple[int, int | None]]) -> bool:
        await asyncio.sleep(BATCH_SECONDS)
        return True


@pytest.fixture
def watch_backlog(
    database: Database, redis_server: Server, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., list[Seen]]:
    """Run a drainer until a backlog is processed. The arguments replace attributes of its outbox."""
    monkeypatch.setattr(drainer, "_OVERDUE_SECONDS", OVERDUE_SECONDS)
    monkeypatch.setattr(drainer, "_MEASURE_SECONDS", MEASURE_SECONDS)
    database.psql(
        "INSERT INTO groundwork.cache_outbox (entity, entity_id)"
        f" SELECT 'user', n FROM generate_series(1, {BACKLOG}) AS n"
    )

    async def run(**changes: Any) -> list[Seen]:
        access = AsyncDataAccess(
            database_settings(database.url("app")),
            cache_settings(redis_server.redis_url("app"), namespace, near_entries=0),
        )
        access.outbox = AsyncOutbox(access.pool, {"user": SlowCache()})
        for name, value in ({"BATCH_SIZE": BATCH_SIZE} | changes).items():
            monkeypatch.setattr(access.outbox, name, value)
        # `psql` in the container would take longer than a batch.
        with psycopg.connect(database.url("app"), autocommit=True) as connection:
            async with access:
                it = OutboxDrainer(access)
                seen = [await _look(connection, it)]
                await it.start()
                give_up_at = monotonic() + GIVE_UP_SECONDS
                while seen[-1].left and monotonic() < give_up_at:
                    await asyncio.sleep(0.05)
                    seen.append(await _look(connection, it))
                await it.stop()
        return seen

    return lambda **changes: asyncio.run(run(**changes))


async def _look(connection: psycopg.Connection, it: OutboxDrainer) -> Seen:
    figures = [_figure("depth"), _figure("drained_total"), _figure("last_sweep_timestamp_seconds")]
    problem = it.problem()
    rows = await asyncio.to_thread(connection.execute, "SELECT count(*) FROM cache_outbox")
    ((left,),) = rows.fetchall()
    return Seen(left, *figures, problem)


def _figure(name: str) -> float:
    value = REGISTRY.get_sample_value(f"groundwork_outbox_{name}")
    assert value is not None
    return value


@promise("the outbox metrics are updated while a backlog is drained")
def test_the_metrics_follow_a_backlog_while_it_is_drained(watch_backlog: Any) -> None:
    seen = watch_backlog()
    under_way = [each for each in seen if 0 < each.left < BACKLOG]
    assert seen[-1].left == 0
    # It was measured during the drain, and not only before and after.
    assert len({each.depth for each in under_way if 0 < each.depth < BACKLOG}) > 3
    assert len({each.drained for each in under_way}) > 3
    assert len({each.last_sweep for each in under_way}) > 3


def test_a_drain_longer_than_the_limit_does_not_count_as_hanging(watch_backlog: Any) -> None:
    started = monotonic()
    seen = watch_backlog()
    assert monotonic() - started > OVERDUE_SECONDS
    assert {each.problem for each in seen} == {None}


def test_a_hanging_batch_is_reported(watch_backlog: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The negative control: without progress the sweep counts as hanging."""

    async def hang(_self: Any, _written: Any) -> bool:
        await asyncio.sleep(2 * OVERDUE_SECONDS)
        return True

    monkeypatch.setattr(SlowCache, "drop", hang)
    seen = watch_backlog(BATCH_SIZE=BACKLOG)
    assert any("the sweep hangs" in str(each.problem) for each in seen)


def test_an_outbox_that_cannot_be_measured_in_time_is_emptied(
    watch_backlog: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def measure() -> tuple[int, float]:
        # It takes so long that the next measurement is due at once.
        await asyncio.sleep(2 * MEASURE_SECONDS)
        raise DeadlineExceeded("measure_outbox took too long")

    seen = watch_backlog(measure=measure)
    assert seen[-1].left == 0
    assert [record.message for record in caplog.records if "not measured" in record.message] == [
        "the outbox is not measured: measure_outbox took too long"
    ]


class FailingCache:
    """A cache whose Redis cannot be reached."""

    async def drop(self, written: Iterable[tuple[int, int | None]]) -> bool:
        return False


def test_the_part_of_a_batch_that_was_invalidated_is_deleted(database: Database) -> None:
    database.psql(
        "INSERT INTO groundwork.cache_outbox (entity, entity_id)"
        " VALUES ('user', 1), ('organization', 1), ('user', 2), ('repository', 1)"
    )

    async def drain() -> list[float]:
        ages: list[float] = []
        pool = AsyncPool(database_settings(database.url("app")))
        await pool.open()
        outbox = AsyncOutbox(pool, {"user": SlowCache(), "organization": FailingCache()})
        with pytest.raises(Unavailable, match="stay in the outbox"):
            await outbox.drain_batch(ages.append)
        await pool.close()
        return ages

    # `repository` is processed too, although it comes after the entity that fails.
    assert len(asyncio.run(drain())) == 3
    left = database.psql("SELECT entity FROM groundwork.cache_outbox ORDER BY entity")
    assert left.split() == ["organization"]


@promise("the lag of the outbox is measured from the time at which an entry became visible")
@pytest.mark.parametrize("was_running", [True, False])
def test_the_lag_of_a_long_transaction_is_counted_from_its_commit(
    database: Database, redis_server: Server, namespace: str, was_running: bool
) -> None:
    """The negative control is a drainer that has just started, which cannot know when an old entry became visible."""
    hour_old = (
        "INSERT INTO groundwork.cache_outbox (entity, entity_id, created_at)"
        " VALUES ('user', 1, now() - interval '1 hour'); NOTIFY cache_outbox"
    )

    async def run() -> float:
        access = AsyncDataAccess(
            database_settings(database.url("app")),
            cache_settings(redis_server.redis_url("app"), namespace, near_entries=0),
        )
        before, swept = _figure("lag_seconds_sum"), _figure("last_sweep_timestamp_seconds")
        async with access:
            it = OutboxDrainer(access)
            if was_running:
                await it.start()
                await _until(lambda: _figure("last_sweep_timestamp_seconds") > swept)
            drained = _figure("drained_total")
            await asyncio.to_thread(database.psql, hour_old)
            if not was_running:
                await it.start()
            await _until(lambda: _figure("drained_total") > drained)
            await it.stop()
        return _figure("lag_seconds_sum") - before

    lag = asyncio.run(run())
    assert (lag < 600) is was_running


def test_the_drainer_listens_with_tokens_of_several_servers(
    database: Database, redis_server: Server, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    password = database.server.passwords["app_a"]
    # Each server has a token of its own. Nothing listens on the first one's port.
    port = str(database.server.port)
    tokens = LoginTokens(lambda _host, its_port, _user: password if its_port == port else "of another server")
    url = database.url("app").replace(f":{quote(password)}@localhost:", "@localhost:1,localhost:")
    listening = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'app_a' AND query LIKE 'LISTEN%'"

    async def run() -> None:
        access = AsyncDataAccess(
            database_settings(url, tokens=tokens),
            cache_settings(redis_server.redis_url("app"), namespace, near_entries=0),
        )
        notified = asyncio.Event()

        async def drain() -> None:
            notified.set()

        monkeypatch.setattr(access.pool, "drain", drain)
        async with access:
            it = OutboxDrainer(access)
            await it.start()
            give_up_at = monotonic() + GIVE_UP_SECONDS
            while (await asyncio.to_thread(database.psql, listening)).strip() != "1":
                assert monotonic() < give_up_at
            await asyncio.to_thread(database.psql, f"NOTIFY {SCHEMA_CHANGED_CHANNEL}")
            await _until(notified.is_set)
            await it.stop()

    asyncio.run(run())


async def _until(holds: Callable[[], bool]) -> None:
    give_up_at = monotonic() + GIVE_UP_SECONDS
    while not holds():
        assert monotonic() < give_up_at
        await asyncio.sleep(0.02)
