"""Plots as inline SVG: lines over time, and bars. The colors come from the page's style sheet."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from xml.etree.ElementTree import Element

from ops.report.markup import element
from ops.report.series import Bar, BarChart, Chart, Series, Span

WIDTH = 640
UNKNOWN = "-"
_HEIGHT = 240
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 16, 12, 38
_BAR, _GAP, _LABEL = 22, 10, 190
_MOST_POINTS = 60


def number(value: float | None) -> str:
    """Format a value with three significant digits and thousands separators, or as a dash if it is unknown."""
    if value is None:
        return UNKNOWN
    if value == 0:
        return "0"
    if abs(value) >= 1000 or float(value).is_integer():
        return f"{value:,.0f}"
    return f"{value:.{max(0, 2 - math.floor(math.log10(abs(value))))}f}"


def legend(names: Sequence[str]) -> Element:
    """Return the legend of a plot's colors."""
    entries = (
        element("li", element("span", class_=f"swatch s{index}"), name) for index, name in enumerate(names)
    )
    return element("ul", entries, class_="legend")


def line_plot(chart: Chart) -> Element:
    """Plot each series as a line with points. Unknown values are gaps."""
    highest = max((value for series in chart.series for value in series.known), default=0)
    ticks = _ticks(100 if chart.unit == "%" else highest)
    top = ticks[-1]
    until = chart.times[-1] or 1

    def x(time: float) -> float:
        return _LEFT + time / until * (WIDTH - _LEFT - _RIGHT)

    def y(value: float) -> float:
        return _HEIGHT - _BOTTOM - value / top * (_HEIGHT - _TOP - _BOTTOM)

    marks = [
        element("g", _line(series, chart, x, y), class_=f"series s{index}")
        for index, series in enumerate(chart.series)
    ]
    axis = [_time_label(time, x(time)) for time in _ticks(until) if time <= until]
    if not chart.has_data:
        marks = [_nothing(_HEIGHT)]
    return _svg(
        chart.title,
        _HEIGHT,
        [_span(span, x(span.start), x(min(span.end, until))) for span in chart.spans],
        [_grid_line(tick, y(tick)) for tick in ticks],
        axis,
        element("text", "seconds", class_="axis", x=WIDTH - _RIGHT, y=_HEIGHT - 4, text_anchor="end"),
        marks,
    )


def bar_plot(chart: BarChart) -> Element:
    """Plot each bar as a row of its parts, with the parts' values at its end."""
    height = max(len(chart.bars), 1) * (_BAR + _GAP) + 30
    ticks = _ticks(max((sum(bar.parts) for bar in chart.bars), default=0))
    # After each bar there is a place for its values: at least 70 wide, 7 for each character.
    room = WIDTH - _LABEL - max([70, *(7 * len(_values(bar)) + 12 for bar in chart.bars)])

    def x(value: float) -> float:
        return _LABEL + value / ticks[-1] * room

    lines = [
        element(
            "g",
            element("line", class_="grid", x1=_n(x(t)), x2=_n(x(t)), y1=4, y2=height - 24),
            element("text", number(t), class_="axis", x=_n(x(t)), y=height - 8, text_anchor="middle"),
        )
        for t in ticks
    ]
    bars = [
        element("g", _bar(bar, chart, 6 + index * (_BAR + _GAP), x)) for index, bar in enumerate(chart.bars)
    ]
    return _svg(chart.title, height, lines, bars or [_nothing(height)])


def _bar(bar: Bar, chart: BarChart, top: float, x: object) -> Iterable[Element]:
    assert callable(x)
    label = bar.label if len(bar.label) <= 27 else bar.label[:26] + "…"
    yield element(
        "text", label, element("title", bar.label), class_="label", x=_LABEL - 10, y=top + _BAR / 2 + 4,
        text_anchor="end",
    )  # fmt: skip
    start = 0.0
    for index, (name, value) in enumerate(zip(chart.parts, bar.parts, strict=True)):
        left, right = x(start), x(start + value)
        yield element(
            "rect", element("title", f"{bar.label}: {name} {number(value)} {chart.unit}"),
            class_=f"mark s{index}", x=_n(left), y=top, width=_n(max(right - left, 1 if value else 0)),
            height=_BAR, rx=2,
        )  # fmt: skip
        start += value
    yield element(
        "text", _values(bar), class_="value", x=_n(x(start) + 6),
        y=top + _BAR / 2 + 4,
    )  # fmt: skip


def _values(bar: Bar) -> str:
    return " / ".join(number(part) for part in bar.parts)


def _line(series: Series, chart: Chart, x: object, y: object) -> Iterable[Element]:
    assert callable(x)
    assert callable(y)
    run: list[str] = []
    every = max(1, math.ceil(len(series.values) / _MOST_POINTS))
    points: list[Element] = []
    for index, (time, value) in enumerate(zip(chart.times, series.values, strict=True)):
        if value is None:
            yield from _stroke(run)
            run = []
            continue
        run.append(f"{_n(x(time))},{_n(y(value))}")
        if index % every == 0:
            tooltip = element("title", f"{series.name}: {number(value)} {chart.unit} at {time:.1f} s")
            points.append(element("circle", tooltip, class_="mark", cx=_n(x(time)), cy=_n(y(value)), r=3))
    yield from _stroke(run)
    yield from points


def _stroke(run: Sequence[str]) -> Iterable[Element]:
    if len(run) > 1:
        yield element("polyline", class_="mark", points=" ".join(run))


def _span(span: Span, left: float, right: float) -> Element:
    """Mark a period, at least one unit wide."""
    return element(
        "g",
        element(
            "rect", element("title", span.description), class_="span", x=_n(left), y=_TOP,
            width=_n(max(right - left, 1)), height=_HEIGHT - _TOP - _BOTTOM,
        ),
        element("text", span.label, class_="axis", x=_n(left + 3), y=_TOP + 10),
    )  # fmt: skip


def _grid_line(value: float, y: float) -> Element:
    return element(
        "g",
        element("line", class_="grid", x1=_LEFT, x2=WIDTH - _RIGHT, y1=_n(y), y2=_n(y)),
        element("text", number(value), class_="axis", x=_LEFT - 8, y=_n(y + 4), text_anchor="end"),
    )


def _time_label(time: float, x: float) -> Element:
    return element(
        "text", number(time), class_="axis", x=_n(x), y=_HEIGHT - _BOTTOM + 18, text_anchor="middle"
    )


def _nothing(height: float) -> Element:
    return element("text", "no data", class_="label", x=WIDTH / 2, y=height / 2, text_anchor="middle")


def _svg(title: str, height: float, *parts: Iterable[Element] | Element) -> Element:
    return element(
        "svg",
        element("title", title),
        *parts,
        view_box=f"0 0 {WIDTH} {_n(height)}",
        role="img",
        class_="plot",
    )


def _ticks(highest: float) -> list[float]:
    """Return about four round steps from 0 to at least `highest`."""
    if highest <= 0:
        return [0.0, 1.0]
    raw = highest / 4
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= raw * 0.999)
    return [step * index for index in range(math.ceil(highest / step * 0.999) + 1)]


def _n(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
