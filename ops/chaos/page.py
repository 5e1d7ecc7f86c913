"""The report of a run as one HTML page, with the faults in the plot of what the load saw."""

from __future__ import annotations

from datetime import UTC, datetime
from xml.etree.ElementTree import Element

from ops.chaos.document import seconds
from ops.chaos.outcome import Bucket, Run
from ops.report.html_page import data_table, html_page, tiles, time_section
from ops.report.markup import element
from ops.report.plots import UNKNOWN, number
from ops.report.series import Chart, Series, Span

_TEXTUAL = ("fault", "server", "note", "error", "reason")


def render(run: Run, *, strict: bool) -> str:
    """Return the page's text."""
    began = datetime.fromtimestamp(run.started_at, UTC)
    stopped = ", stopped early" if run.was_stopped else ""
    summary = (
        f"{began:%Y-%m-%d %H:%M:%S} UTC, {run.seconds:.0f} s, seed {run.seed}, load {run.load_name}{stopped}"
    )
    return html_page(
        f"groundwork chaos: stack {run.stack}",
        element("p", summary, class_="quiet"),
        _broken(run, strict),
        _tiles(run),
        *([] if run.load is None else [time_section(chart) for chart in _charts(run)]),
        _faults(run),
        _errors(run),
    )


def _broken(run: Run, strict: bool) -> Element | None:
    found = [*run.broken_promises(strict=strict), *run.unfinished(), *run.failed_faults()]
    if not found:
        return None
    return element(
        "div",
        element("b", "Not every promise held"),
        (element("p", each) for each in found),
        class_="warning",
    )


def _tiles(run: Run) -> Element:
    values = [(number(len(run.faults)), "faults")]
    if run.load is not None:
        gaps = [gap for each in run.faults if (gap := run.gap(each)) is not None]
        values += [
            (number(len(run.load.writes)), "acknowledged writes"),
            (number(run.load.lost_count), "of them lost"),
            (number(run.load.reads), "reads"),
            (number(run.load.stale), "of them stale"),
            (seconds(max(gaps, default=None)), "longest time without a write"),
        ]
    return tiles(values)


def _charts(run: Run) -> list[Chart]:
    assert run.load is not None
    buckets = [run.load.buckets.get(second, Bucket()) for second in range(int(run.seconds))]
    times = tuple(float(second) for second in range(len(buckets)))
    spans = tuple(
        Span(each.began, each.ended, f"{index}", f"#{index}: {each.step.fault} {each.server}")
        for index, each in enumerate(run.faults, 1)
    )

    def chart(key: str, title: str, note: str, *names: str) -> Chart:
        series = (Series(name, tuple(float(getattr(each, name)) for each in buckets)) for name in names)
        return Chart(key, title, "per second", note, times, tuple(series), spans)

    return [
        chart(
            "writes",
            "Acknowledged writes and errors",
            "The numbered periods are the faults of the table below.",
            "writes",
            "errors",
        ),
        chart("reads", "Answered reads", "Without Redis, reads come from Postgres.", "reads"),
    ]


def _faults(run: Run) -> Element:
    headings = ["", "fault", "server", "at, s", "for, s", "recovery, s", "write gap, s", "note"]
    rows: list[list[str | Element]] = [
        [
            f"#{index}",
            each.step.fault,
            each.server,
            number(round(each.began)),
            number(round(each.ended - each.began, 1)),
            number(each.recovery_seconds),
            number(run.gap(each)),
            each.problem or each.note,
        ]
        for index, each in enumerate(run.faults, 1)
    ]
    rows += [
        [UNKNOWN, step.fault, step.target, number(step.at), UNKNOWN, UNKNOWN, UNKNOWN, f"skipped: {reason}"]
        for step, reason in run.skipped
    ]
    return element("section", element("h2", "Faults"), data_table(headings, rows, _TEXTUAL), id="faults")


def _errors(run: Run) -> Element | None:
    if run.load is None:
        return None
    rows = [[name, number(count)] for name, count in run.load.errors_by_type().items()]
    content = (
        data_table(["error", "calls"], rows) if rows else element("p", "No call failed.", class_="quiet")
    )
    return element("section", element("h2", "Errors of the load's calls"), content, id="errors")
