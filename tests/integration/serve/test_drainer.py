"""A backlog that takes longer than the drainer's limits: the metrics follow it, and it does not count as hanging."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from time import monotonic
from typing import Any, NamedTuple

import pytest
from prometheus_client import REGISTRY

from db import AsyncDataAccess
from db._async.outbox import AsyncOutbox
from db.errors import DeadlineExceeded
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
        async with access:
            it = OutboxDrainer(access)
            seen = [await _look(database, it)]
            await it.start()
            give_up_at = monotonic() + GIVE_UP_SECONDS
            while seen[-1].left and monotonic() < give_up_at:
                await asyncio.sleep(0.05)
                seen.append(await _look(database, it))
            await it.stop()
        return seen

    return lambda **changes: asyncio.run(run(**changes))


async def _look(database: Database, it: OutboxDrainer) -> Seen:
    figures = [_figure("depth"), _figure("drained_total"), _figure("last_sweep_timestamp_seconds")]
    problem = it.problem()
    left = await asyncio.to_thread(database.psql, "SELECT count(*) FROM groundwork.cache_outbox")
    return Seen(int(left), *figures, problem)


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
