"""Measure two alternatives in turns, so that a change of the machine's load affects both."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from statistics import median

ROUNDS = 7
# Few enough that a busy moment of the machine affects both.
_RUN = 20
# The same for calls that take more than about 200 us.
SHORT_RUN = 4


@dataclass(frozen=True)
class Turns:
    """Seconds per call, one value per round."""

    ours: list[float]
    theirs: list[float]

    def ratios(self) -> list[float]:
        """Return our time divided by theirs: below 1 is faster."""
        return [mine / yours for mine, yours in zip(self.ours, self.theirs, strict=True)]

    def speedups(self) -> list[float]:
        """Return their time divided by ours: above 1 is faster."""
        return [1 / ratio for ratio in self.ratios()]


def take_turns(
    ours: Callable[[], object],
    theirs: Callable[[], object],
    calls: int,
    rounds: int = ROUNDS,
    run: int = _RUN,
) -> Turns:
    """Run `calls` of each in every round, `run` at a time, after one round that does not count."""
    turns, run = Turns([], []), min(calls, run)
    for number in range(rounds + 1):
        mine, yours = [], []
        for _ in range(-(-calls // run)):
            mine.append(seconds(ours, run))
            yours.append(seconds(theirs, run))
        if number:
            turns.ours.append(median(mine))
            turns.theirs.append(median(yours))
    return turns


async def take_async_turns(
    ours: Callable[[], Awaitable[object]],
    theirs: Callable[[], Awaitable[object]],
    calls: int,
    rounds: int = ROUNDS,
) -> Turns:
    """Do the same for coroutines, one after the other."""
    turns, run = Turns([], []), min(calls, _RUN)
    for number in range(rounds + 1):
        mine, yours = [], []
        for _ in range(-(-calls // run)):
            mine.append(await async_seconds(ours, run))
            yours.append(await async_seconds(theirs, run))
        if number:
            turns.ours.append(median(mine))
            turns.theirs.append(median(yours))
    return turns


def seconds(action: Callable[[], object], calls: int) -> float:
    """Seconds a call."""
    started = time.perf_counter()
    for _ in range(calls):
        action()
    return (time.perf_counter() - started) / calls


async def async_seconds(action: Callable[[], Awaitable[object]], calls: int) -> float:
    started = time.perf_counter()
    for _ in range(calls):
        await action()
    return (time.perf_counter() - started) / calls
