"""A backlog longer than the drainer's own limits: its figures follow, it is not taken for one that hangs."""

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

BACKLOG = 400
BATCH_SIZE = 10
# Forty batches of this are twice what may pass in silence.
BATCH_SECONDS = 0.1
OVERDUE_SECONDS = 2.0
MEASURE_SECONDS = 0.2
GIVE_UP_SECONDS = 60.0


class Seen(NamedTuple):
    """What there is to see from outside at one moment; `left` is the truth about `depth`."""

    left: int
    depth: float
    drained: float
    last_sweep: float
    problem: str | None


class SlowCache:
    """Holds nothing, and takes its time to say so."""

    async def drop(self, written: Iterable[tuple[int, int | None]]) -> bool:
        await asyncio.sleep(BATCH_SECONDS)
        return True


@pytest.fixture
def watch_backlog(
    database: Database, redis_server: Server, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., list[Seen]]:
    """Runs a drainer over a backlog until that is gone; the arguments replace attributes of its outbox."""
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
            it.start()
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


def test_the_figures_follow_a_backlog_while_it_is_drained(watch_backlog: Any) -> None:
    seen = watch_backlog()
    under_way = [each for each in seen if 0 < each.left < BACKLOG]
    assert seen[-1].left == 0
    # Measured before, between and after, not only at both ends.
    assert len({each.depth for each in under_way if 0 < each.depth < BACKLOG}) > 3
    assert len({each.drained for each in under_way}) > 3
    assert len({each.last_sweep for each in under_way}) > 3


def test_a_drain_that_takes_longer_than_the_limit_is_not_one_that_hangs(watch_backlog: Any) -> None:
    started = monotonic()
    seen = watch_backlog()
    assert monotonic() - started > OVERDUE_SECONDS
    assert {each.problem for each in seen} == {None}


def test_a_batch_that_hangs_is_told(watch_backlog: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The negative control: progress is what counts as life."""

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
        # Due again as soon as it has failed.
        await asyncio.sleep(2 * MEASURE_SECONDS)
        raise DeadlineExceeded("measure_outbox took too long")

    seen = watch_backlog(measure=measure)
    assert seen[-1].left == 0
    assert [record.message for record in caplog.records if "not measured" in record.message] == [
        "the outbox is not measured: measure_outbox took too long"
    ]
