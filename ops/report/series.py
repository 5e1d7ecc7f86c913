"""From counters to what a plot shows: rates, shares and levels over time, with gaps where nothing is known."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

Values = Sequence[float | None]


@dataclass(frozen=True)
class Series:
    """One line of a plot: a value for each time of its chart, None for a gap."""

    name: str
    values: tuple[float | None, ...]

    @property
    def known(self) -> list[float]:
        return [value for value in self.values if value is not None]


@dataclass(frozen=True)
class Chart:
    """Series over the same times (seconds since the first sample), in one unit."""

    key: str
    title: str
    unit: str
    note: str
    times: tuple[float, ...]
    series: tuple[Series, ...]


@dataclass(frozen=True)
class Bar:
    """One bar: a label, and the length of each of its parts."""

    label: str
    parts: tuple[float, ...]


@dataclass(frozen=True)
class BarChart:
    """Bars of the same parts, in one unit."""

    key: str
    title: str
    unit: str
    note: str
    parts: tuple[str, ...]
    bars: tuple[Bar, ...]


def levels(name: str, readings: Sequence[Mapping[str, float] | None], key: str, scale: float = 1) -> Series:
    """A gauge as it was read."""
    return Series(name, tuple(None if r is None or key not in r else r[key] * scale for r in readings))


def rates(name: str, times: Sequence[float], counts: Values) -> Series:
    """The rise of a counter a second, told at the end of each interval; a gap after a reset or without a count."""
    rises = _rises(counts)
    found: list[float | None] = [None]
    for index, rise in enumerate(rises, 1):
        passed = times[index] - times[index - 1]
        found.append(None if rise is None or passed <= 0 else rise / passed)
    return Series(name, tuple(found))


def shares(name: str, parts: Values, rests: Values) -> Series:
    """In percent: how much of what two counters rose by in an interval the first one's rise was; a gap for none."""
    found: list[float | None] = [None]
    for part, rest in zip(_rises(parts), _rises(rests), strict=True):
        known = part is not None and rest is not None and part + rest > 0
        found.append(100 * part / (part + rest) if known and part is not None and rest is not None else None)
    return Series(name, tuple(found))


def share_since_start(name: str, parts: Values, rests: Values) -> Series:
    """In percent, by the counters as they stand: what it was since they began."""

    def share(part: float | None, rest: float | None) -> float | None:
        return None if part is None or rest is None or part + rest == 0 else 100 * part / (part + rest)

    return Series(name, tuple(share(part, rest) for part, rest in zip(parts, rests, strict=True)))


def column(readings: Sequence[Mapping[str, float] | None], key: str) -> list[float | None]:
    """One counter out of every reading."""
    return [None if reading is None else reading.get(key) for reading in readings]


def _rises(counts: Values) -> list[float | None]:
    return [
        None if before is None or after is None or after < before else after - before
        for before, after in itertools.pairwise(counts)
    ]
