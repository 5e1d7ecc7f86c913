"""Render a run's findings as text and as JSON."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any, NamedTuple

from ops.doctor.check_result import CheckResult, CheckStatus, worst
from ops.doctor.runner import Result, exit_code
from ops.printable import printable

_COLOURS = {
    CheckStatus.OK: "green",
    CheckStatus.WARN: "yellow",
    CheckStatus.FAIL: "red",
    CheckStatus.SKIPPED: "bright_black",
}
_DETAILS_SHOWN = 5


def as_json(stack: str, results: Sequence[Result]) -> dict[str, Any]:
    """Return the findings as JSON. `status` is the worst check's, `exit_code` the command's."""
    return {
        "stack": stack,
        "status": worst([finding.status for _, finding in results]).value,
        "exit_code": int(exit_code(results)),
        "checks": [
            {
                "name": check.name,
                "status": finding.status.value,
                "finding": finding.text,
                "advice": finding.advice or None,
                "details": list(finding.details),
            }
            for check, finding in results
        ],
    }


class Line(NamedTuple):
    """A line of text, and the status with its colour before it."""

    text: str
    label: str = ""
    colour: str | None = None


def as_lines(stack: str, results: Sequence[Result], width: int) -> Iterator[Line]:
    """Yield one line per check, with details and advice below if it is not ok. `width` is in columns."""
    column = max(len(check.name) for check, _ in results) + 2
    for check, finding in _without_the_lost(results):
        indent = " " * (8 + column)
        first, *others = _wrapped(finding.text, width, indent) or [""]
        label = f"{finding.status.value:<8}"
        yield Line(f"{check.name:<{column}}{first.strip()}", label, _COLOURS[finding.status])
        lines = others
        if finding.status in (CheckStatus.WARN, CheckStatus.FAIL):
            shown = finding.details[:_DETAILS_SHOWN]
            for detail in shown:
                lines += _wrapped(detail, width, indent + "  ", "- ")
            if more := len(finding.details) - len(shown):
                lines.append(f"{indent}  - and {more} more (use --json to see all)")
        if finding.advice:
            lines += _wrapped(finding.advice, width, indent, "-> ")
        yield from map(Line, lines)
    counts = Counter(finding.status for _, finding in results)
    summary = ", ".join(f"{counts[status]} {status.value}" for status in CheckStatus if counts[status])
    yield Line("")
    yield Line(f"stack {stack!r}: {summary}")


def _without_the_lost(results: Sequence[Result]) -> Iterator[Result]:
    """Merge three or more consecutive checks that were skipped for the same reason into one line with their names."""
    for (status, text), group in groupby(results, key=lambda result: (result[1].status, result[1].text)):
        same = list(group)
        if status is not CheckStatus.SKIPPED or len(same) < 3:
            yield from same
            continue
        names = ", ".join(check.name for check, _ in same)
        yield (
            replace(same[0][0], name=f"{len(same)} checks"),
            CheckResult(CheckStatus.SKIPPED, f"{text}: {names}"),
        )


def _wrapped(text: str, width: int, indent: str, mark: str = "") -> list[str]:
    return textwrap.wrap(
        printable(text),
        width=max(width, len(indent) + 40),
        initial_indent=indent + mark,
        subsequent_indent=indent + " " * len(mark),
        break_on_hyphens=False,
    )
