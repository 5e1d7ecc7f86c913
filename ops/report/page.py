"""The report as one self-contained HTML page: no scripts, images or external fonts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from xml.etree.ElementTree import Element

from ops.report.charts import bar_charts, cache_hit_rates, hit_rate_sampled, slowest, time_charts
from ops.report.html_page import chart_section, data_table, html_page, tiles, time_section
from ops.report.markup import element
from ops.report.plots import UNKNOWN, bar_plot, number
from ops.report.sampling import Sampling
from ops.report.series import BarChart, Chart
from ops.report.unusual import unusual

_ROWS_SHOWN = 30
_TEXT_SHOWN = 700
_TEXTUAL = ("role", "statement", "holder's statement", "waited for", "waiting", "holder")


def render(sampling: Sampling) -> str:
    """Return the page's text."""
    charts, bars = time_charts(sampling), bar_charts(sampling)
    found = unusual(sampling, charts, bars)
    title = f"groundwork report: stack {sampling.stack}"
    return html_page(
        title,
        element("p", _span(sampling), class_="quiet"),
        _unreached(sampling),
        _tiles(sampling, charts, bars),
        _attention(charts, bars, found),
        *_sections(sampling, charts, bars, found),
    )


def _span(sampling: Sampling) -> str:
    first, last = (datetime.fromtimestamp(sampling.samples[i].at, UTC) for i in (0, -1))
    stopped = ", stopped early" if sampling.was_stopped else ""
    return (
        f"{first:%Y-%m-%d %H:%M:%S} to {last:%H:%M:%S} UTC, {len(sampling.samples)} samples,"
        f" one every {sampling.interval_seconds:g} s{stopped}"
    )


def _unreached(sampling: Sampling) -> Element | None:
    if not sampling.unreached:
        return None
    lines = (element("p", f"{server}: {reason}") for server, reason in sampling.unreached.items())
    return element("div", element("b", "Some servers did not answer all queries"), lines, class_="warning")


def _tiles(sampling: Sampling, charts: Sequence[Chart], bars: Sequence[BarChart]) -> Element:
    by_key = {chart.key: chart for chart in charts}
    values: list[tuple[str, str]] = []
    for key, name in (("postgres-hit-rate", "buffer hit rate"), ("redis-hit-rate", "Redis hit rate")):
        during, since = hit_rate_sampled(sampling, key), by_key[key].series[1]
        share = during if during is not None else since.known[-1] if since.known else None
        values.append(
            (
                UNKNOWN if share is None else f"{share:.1f} %",
                name if during is not None else f"{name}, {since.name}",
            )
        )
    if (share := sampling.cache_reads.all.hit_rate) is not None:
        values.append((f"{share:.1f} %", "cache hit rate of the applications"))
    (waiting,) = by_key["locks"].series
    evicted = by_key["evictions"].series[0].known
    values.append((number(max(waiting.known, default=None)), "sessions waiting for a lock (max)"))
    values.append((number(sum(evicted) / len(evicted) if evicted else None), "evictions per second (mean)"))
    used = sum(bar.parts[0] for chart in bars if chart.key == "connections" for bar in chart.bars)
    values.append((number(used), "Postgres connections"))
    if "pool" in by_key:
        callers = by_key["pool"].series[-1].known
        values.append((number(max(callers, default=None)), "callers waiting for the pool (max)"))
    return tiles(values)


def _attention(charts: Sequence[Chart], bars: Sequence[BarChart], found: Mapping[str, str]) -> Element:
    """List what is unusual, with links to the plots."""
    titles = {chart.key: chart.title for chart in charts} | {chart.key: chart.title for chart in bars}
    lines = [
        element("li", element("a", titles[key], href=f"#{key}"), f": {reason}")
        for key, reason in found.items()
    ]
    content = element("ul", lines) if lines else element("p", "Nothing unusual was found.", class_="quiet")
    return element("section", element("h2", "Unusual"), content, id="unusual")


def _sections(
    sampling: Sampling, charts: Sequence[Chart], bars: Sequence[BarChart], found: Mapping[str, str]
) -> list[Element]:
    """Return all sections: those with something unusual first, those without data last and folded."""
    waits = _longest_waits(sampling)
    statements = [chart for chart in bars if chart.key == "statements"]
    hit_rates = [(chart.key, chart.has_data, time_section(chart)) for chart in charts[:2]]
    # Reads that are not known are not folded, because the section says why.
    cache = [("cache", bars[0].has_data or not sampling.cache_reads.is_known, _cache(sampling, bars[0]))]
    ordered: list[tuple[str, bool, Element]] = [
        *(cache + hit_rates if bars[0].has_data else hit_rates + cache),
        *((chart.key, chart.has_data, _of_parts(chart)) for chart in bars[1:] if chart not in statements),
        *((chart.key, chart.has_data, time_section(chart)) for chart in charts[2:]),
        ("locks" if waits else "lock-waits", bool(waits), _lock_waits(waits)),
        *((chart.key, chart.has_data, _of_parts(chart)) for chart in statements),
        ("statement-texts", bool(sampling.statements), _statements(sampling)),
    ]
    with_data = [(key, section) for key, has_data, section in ordered if has_data]
    empty = [section for _, has_data, section in ordered if not has_data]
    # The table of lock waits has the key of its plot, so that both are shown together if they are unusual.
    with_data.sort(key=lambda each: each[0] not in found)
    sections = [section for _, section in with_data]
    if empty:
        sections.append(
            element(
                "details", element("summary", f"sections without data ({len(empty)})"), empty, class_="empty"
            )
        )
    return sections


def _of_parts(chart: BarChart) -> Element:
    rows = [[bar.label, *map(number, bar.parts)] for bar in chart.bars]
    table = data_table([chart.unit, *chart.parts], rows)
    return chart_section(chart, chart.parts, bar_plot(chart), [table])


def _cache(sampling: Sampling, chart: BarChart) -> Element:
    rows = [[label, *map(number, rates)] for label, rates in cache_hit_rates(sampling).items()]
    table = data_table(["hit rate, %", "near cache", "Redis", "both"], rows)
    return chart_section(chart, chart.parts, bar_plot(chart), [table])


def _longest_waits(sampling: Sampling) -> list[Mapping[str, Any]]:
    """Return each pair of waiting session and lock holder once, at its longest wait."""
    longest: dict[tuple[Any, Any], Mapping[str, Any]] = {}
    for sample in sampling.samples:
        for row in sample.waits or ():
            pair = (row["pid"], row["holder_pid"])
            if pair not in longest or row["seconds"] > longest[pair]["seconds"]:
                longest[pair] = row
    return sorted(longest.values(), key=lambda row: -row["seconds"])[:_ROWS_SHOWN]


def _lock_waits(rows: Sequence[Mapping[str, Any]]) -> Element:
    content: Element = element("p", "No session waited.", class_="quiet")
    if rows:
        content = data_table(
            ["seconds", "waited for", "waiting", "statement", "holder", "holder's statement"],
            [
                [
                    number(row["seconds"]),
                    str(row["what"]),
                    f"{row['usename']}, process {row['pid']}",
                    _code(row["query"]),
                    f"{row['holder']}, process {row['holder_pid']}, {row['holder_state']}",
                    _code(row["holder_query"]),
                ]
                for row in rows
            ],
            _TEXTUAL,
        )
    return element("section", element("h2", "Postgres: lock waits"), content, id="lock-waits")


def _statements(sampling: Sampling) -> Element:
    headings = [
        "",
        "total, s",
        "mean, ms",
        "max, ms",
        "calls",
        "calls while sampling",
        "rows",
        "role",
        "statement",
    ]
    rows: list[list[str | Element]] = [
        [
            f"#{index}",
            number(row["total_ms"] / 1000),
            number(row["mean_ms"]),
            number(row["max_ms"]),
            number(row["calls"]),
            number(row["calls_sampled"]),
            number(row["rows"]),
            str(row["role"]),
            _code(row["query"]),
        ]
        for index, row in enumerate(slowest(sampling), 1)
    ]
    return element(
        "section",
        element("h2", "Postgres: the statements"),
        data_table(headings, rows, _TEXTUAL),
        id="statement-texts",
    )


def _code(text: str) -> Element:
    shown = text if len(text) <= _TEXT_SHOWN else f"{text[:_TEXT_SHOWN]} ..."
    return element("code", shown)
