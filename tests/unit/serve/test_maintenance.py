"""Maintenance runs once a day by the wall clock, also on a machine that sleeps. Its tasks fail separately."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from prometheus_client import REGISTRY

from db.errors import DbError, DeadlineExceeded
from db.rows import ForgottenKeys
from ops.serve import maintenance
from tests.cases import in_case

HOUR = 3600.0
DAY = 24 * HOUR


class Machine:
    """A machine on which a pause takes no time. The wall clock jumps by each of `jumps` during one pause."""

    def __init__(self, *jumps: float) -> None:
        self.now = 0.0
        # The times at which maintenance ran.
        self.runs: list[float] = []
        # The error of each task that fails.
        self.failing: dict[str, DbError] = {}
        self._jumps = list(jumps)
        self._is_over = asyncio.Event()
        self.pool = self

    async def sleep(self, seconds: float) -> None:
        if not self._jumps:
            self._is_over.set()
            await asyncio.Event().wait()
        self.now += seconds + self._jumps.pop(0)

    async def fetch_all(self, *_: Any) -> list[Any]:
        self._run("partitions")
        return []

    async def fetch_one(self, *_: Any) -> ForgottenKeys:
        self._run("idempotency_keys")
        return ForgottenKeys(0, None)

    def _run(self, task: str) -> None:
        # A run calls two queries.
        if self.runs[-1:] != [self.now]:
            self.runs.append(self.now)
        if task in self.failing:
            raise self.failing[task]

    async def maintain(self) -> list[float]:
        """Run maintenance until the last jump, and return when it ran."""
        running = maintenance.Maintenance(self)  # type: ignore[arg-type]
        await running.start()
        await asyncio.wait_for(self._is_over.wait(), 10)
        await running.stop()
        return self.runs


def test_maintenance_runs_once_a_day_by_the_wall_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    cases: list[tuple[str, list[float], list[float]]] = [
        ("awake for two days", [0.0] * 288, [0, DAY, 2 * DAY]),
        ("suspended for two nights", [0, 20 * HOUR, 20 * HOUR], [0, 40 * HOUR + 3 * 600]),
        ("clock set back by a year", [-365 * DAY, 0], [0, 600 - 365 * DAY]),
    ]
    for name, jumps, expected in cases:
        with in_case(name), monkeypatch.context() as patched:
            machine = Machine(*jumps)
            patched.setattr(maintenance, "time", lambda machine=machine: machine.now)
            patched.setattr(asyncio, "sleep", machine.sleep)
            assert asyncio.run(machine.maintain()) == expected


@pytest.mark.parametrize("task", ["partitions", "idempotency_keys"])
def test_a_task_that_fails_does_not_stop_the_other_one(
    task: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "groundwork.serve.maintenance")
    machine = Machine(0.0, 0.0)
    # The metric is 0 before the first success.
    machine.now = DAY
    for each in ("partitions", "idempotency_keys"):
        maintenance.LAST_SUCCESS.labels(each).set(0)
    machine.failing = {task: DeadlineExceeded("no answer within 8 s")}
    monkeypatch.setattr(maintenance, "time", lambda: machine.now)
    monkeypatch.setattr(asyncio, "sleep", machine.sleep)
    assert asyncio.run(machine.maintain()) == [DAY, DAY + 10, DAY + 20]
    succeeded = {each: _last_success(each) for each in ("partitions", "idempotency_keys")}
    assert succeeded == {"partitions": DAY, "idempotency_keys": DAY, task: 0}
    messages = [record.getMessage() for record in caplog.records]
    failure = {
        "partitions": "partitions of activities are not created",
        "idempotency_keys": "old idempotency keys are not deleted",
    }
    success = {
        "partitions": "old idempotency keys are deleted",
        "idempotency_keys": "partitions of activities are there",
    }
    assert sorted(messages) == sorted([f"{failure[task]}: no answer within 8 s; trying again", success[task]])


def test_without_upkeep_old_idempotency_keys_are_deleted(monkeypatch: pytest.MonkeyPatch) -> None:
    maintenance.LAST_SUCCESS.labels("idempotency_keys").set(0)
    machine = Machine(0.0)
    # A call of the upkeep would fail the task, which would then run again.
    machine.failing = {"partitions": DeadlineExceeded("no answer within 8 s")}
    machine.now = DAY
    monkeypatch.setattr(maintenance, "UPKEEP", ())
    monkeypatch.setattr(maintenance, "time", lambda: machine.now)
    monkeypatch.setattr(asyncio, "sleep", machine.sleep)
    assert asyncio.run(machine.maintain()) == [DAY]
    assert _last_success("idempotency_keys") == DAY


def _last_success(task: str) -> float | None:
    return REGISTRY.get_sample_value("groundwork_maintenance_last_success_timestamp_seconds", {"task": task})
