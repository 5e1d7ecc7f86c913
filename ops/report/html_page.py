"""A self-contained HTML page: no scripts, images or external fonts."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from xml.etree.ElementTree import Element

from ops.report.markup import Child, document, element
from ops.report.plots import legend, line_plot, number
from ops.report.series import BarChart, Chart

_STYLE = Path(__file__).with_name("page.css")
# Nothing is loaded and no script runs, even if the page should contain a script by mistake.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def html_page(title: str, *content: Child | Iterable[Child]) -> str:
    """Return the text of a page with this title, which is also its first heading."""
    return document(
        element(
            "html",
            element(
                "head",
                element("meta", charset="utf-8"),
                element("meta", http_equiv="Content-Security-Policy", content=_POLICY),
                element("meta", name="viewport", content="width=device-width, initial-scale=1"),
                element("title", title),
                element("style", _STYLE.read_text(encoding="utf-8")),
            ),
            element("body", element("h1", title), *content),
            lang="en",
        )
    )


def data_table(
    headings: Sequence[str], rows: Iterable[Sequence[str | Element]], textual: Collection[str] = ()
) -> Element:
    """Create a table of numbers. The first column, and those with a heading in `textual`, are text."""
    kinds = ["name" if i == 0 or text in textual else "" for i, text in enumerate(headings)]
    head = element(
        "tr", (element("th", text, class_=kind) for text, kind in zip(headings, kinds, strict=True))
    )
    body = (
        element(
            "tr",
            (element("td", cell, class_=_kind(cell, kind)) for cell, kind in zip(row, kinds, strict=True)),
        )
        for row in rows
    )
    return element("div", element("table", element("thead", head), element("tbody", body)), class_="table")


def tiles(values: Iterable[tuple[str, str]]) -> Element:
    """Create a row of tiles, each with a value and its name."""
    return element("ul", (element("li", element("b", value), name) for value, name in values), class_="tiles")


def time_section(chart: Chart) -> Element:
    """Create a section with a plot over time, its summary, and all values."""
    rows = []
    for series in chart.series:
        known = series.known
        mean = sum(known) / len(known) if known else None
        summary = (min(known, default=None), mean, max(known, default=None), known[-1] if known else None)
        rows.append([series.name, *map(number, summary)])
    table = data_table([chart.unit, "min", "mean", "max", "last"], rows)
    values = [
        [f"{time:.1f}", *(number(series.values[index]) for series in chart.series)]
        for index, time in enumerate(chart.times)
    ]
    every = element(
        "details",
        element("summary", "all values"),
        data_table(["seconds", *(series.name for series in chart.series)], values),
    )
    return chart_section(chart, [series.name for series in chart.series], line_plot(chart), [table, every])


def chart_section(
    chart: Chart | BarChart, names: Sequence[str], plot: Element, tables: Sequence[Element]
) -> Element:
    """Create a section with a plot, its legend, and its tables."""
    return element(
        "section",
        element("h2", chart.title, " ", element("span", chart.unit, class_="unit")),
        element("p", chart.note, class_="quiet") if chart.note else None,
        element(
            "div",
            element("figure", legend(names), plot),
            element("div", *tables),
            class_="pair",
        ),
        id=chart.key,
    )


def _kind(cell: str | Element, kind: str) -> str:
    return "text" if isinstance(cell, Element) else kind
