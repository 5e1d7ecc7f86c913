"""Maintenance runs once a day by the wall clock, also on a machine that sleeps."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

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
        self._jumps = list(jumps)
        self._is_over = asyncio.Event()
        self.pool = self

    async def sleep(self, seconds: float) -> None:
        if not self._jumps:
            self._is_over.set()
            await asyncio.Event().wait()
        self.now += seconds + self._jumps.pop(0)

    async def fetch_all(self, *_: Any) -> list[Any]:
        # A run calls two queries.
        if self.runs[-1:] != [self.now]:
            self.runs.append(self.now)
        return []

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
