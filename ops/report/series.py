"""Turn counters into plottable series: rates, shares and levels over time, with gaps for unknown values."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

Values = Sequence[float | None]


@dataclass(frozen=True)
class Series:
    """One line of a plot: a value for each time of its chart, or None for a gap.

    `key` is its name in JSON, if that differs from the name shown.
    """

    name: str
    values: tuple[float | None, ...]
    key: str = ""

    @property
    def known(self) -> list[float]:
        return [value for value in self.values if value is not None]


@dataclass(frozen=True)
class Span:
    """A period of a chart's times with a short label, and a description that is shown as a tooltip."""

    start: float
    end: float
    label: str
    description: str


@dataclass(frozen=True)
class Chart:
    """Several series over the same times (seconds since the first sample), in one unit. `spans` are drawn behind."""

    key: str
    title: str
    unit: str
    note: str
    times: tuple[float, ...]
    series: tuple[Series, ...]
    spans: tuple[Span, ...] = ()

    @property
    def has_data(self) -> bool:
        return any(series.known for series in self.series)


@dataclass(frozen=True)
class Bar:
    """One bar: a label, and the length of each part."""

    label: str
    parts: tuple[float, ...]


@dataclass(frozen=True)
class BarChart:
    """Bars with the same parts, in one unit."""

    key: str
    title: str
    unit: str
    note: str
    parts: tuple[str, ...]
    bars: tuple[Bar, ...]

    @property
    def has_data(self) -> bool:
        return any(sum(bar.parts) for bar in self.bars)


def levels(name: str, readings: Sequence[Mapping[str, float] | None], key: str, scale: float = 1) -> Series:
    """Return a gauge's values."""
    return Series(name, tuple(None if r is None or key not in r else r[key] * scale for r in readings))


def rates(name: str, times: Sequence[float], counts: Values) -> Series:
    """Return a counter's increase per second in each interval. Gaps follow a reset and missing counts."""
    rises = _rises(counts)
    found: list[float | None] = [None]
    for index, rise in enumerate(rises, 1):
        passed = times[index] - times[index - 1]
        found.append(None if rise is None or passed <= 0 else rise / passed)
    return Series(name, tuple(found))


def shares(name: str, parts: Values, rests: Values) -> Series:
    """Return the first counter's share of both counters' increase per interval, in percent. No increase is a gap."""
    found: list[float | None] = [None]
    for part, rest in zip(_rises(parts), _rises(rests), strict=True):
        known = part is not None and rest is not None and part + rest > 0
        found.append(100 * part / (part + rest) if known and part is not None and rest is not None else None)
    return Series(name, tuple(found))


def share_since_start(name: str, parts: Values, rests: Values) -> Series:
    """Return the first counter's share of both counters' values, in percent."""

    def share(part: float | None, rest: float | None) -> float | None:
        return None if part is None or rest is None or part + rest == 0 else 100 * part / (part + rest)

    return Series(name, tuple(share(part, rest) for part, rest in zip(parts, rests, strict=True)))


def column(readings: Sequence[Mapping[str, float] | None], key: str) -> list[float | None]:
    """Return one counter of every reading."""
    return [None if reading is None else reading.get(key) for reading in readings]


def _rises(counts: Values) -> list[float | None]:
    return [
        None if before is None or after is None or after < before else after - before
        for before, after in itertools.pairwise(counts)
    ]
