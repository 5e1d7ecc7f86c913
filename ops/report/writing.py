"""The report's file and its JSON: whole or not at all, and for its owner's eyes."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

from ops.errors import Exit, OpsError
from ops.report.charts import bar_charts, slowest, time_charts
from ops.report.sampling import Sampling


def check_target(path: Path) -> None:
    """OpsError (2) where no file can be written: said before an hour of sampling, not after."""
    if path.is_dir():
        raise OpsError(f"{path} is a folder; name a file", Exit.USAGE)
    if not path.parent.is_dir():
        raise OpsError(f"{path.parent} is no folder; make it first", Exit.USAGE)
    if not os.access(path.parent, os.W_OK):
        raise OpsError(f"{path.parent} is not yours to write into", Exit.USAGE)


def write(path: Path, text: str) -> None:
    """Put the text in place of the file in one step, mode 0600: statements are in it."""
    handle, draft = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        Path(draft).replace(path)
    except OSError as error:
        Path(draft).unlink(missing_ok=True)
        raise OpsError(f"{path} cannot be written: {error.strerror}") from error


def as_json(sampling: Sampling, path: Path | None) -> dict[str, Any]:
    """Everything the page shows, as numbers."""
    return {
        "stack": sampling.stack,
        "html": None if path is None else str(path),
        "samples": len(sampling.samples),
        "interval_seconds": sampling.interval_seconds,
        "started_at": sampling.samples[0].at,
        "was_stopped": sampling.was_stopped,
        "unreached": sampling.unreached,
        "series": {
            chart.key: {
                "unit": chart.unit,
                "seconds": list(chart.times),
                "values": {series.name: list(series.values) for series in chart.series},
            }
            for chart in time_charts(sampling)
        },
        "parts": {
            chart.key: {
                "unit": chart.unit,
                "values": {bar.label: dict(zip(chart.parts, bar.parts, strict=True)) for bar in chart.bars},
            }
            for chart in bar_charts(sampling)
        },
        "statements": slowest(sampling),
    }
