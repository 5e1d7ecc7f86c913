"""The report's data as JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ops.report.charts import bar_charts, cache_hit_rates, slowest, time_charts
from ops.report.sampling import Sampling


def document(sampling: Sampling, path: Path | None) -> dict[str, Any]:
    """Return everything that the page shows, as numbers."""
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
                "values": {series.key or series.name: list(series.values) for series in chart.series},
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
        "cache": {
            "source": sampling.cache_reads.source,
            "hit_rates": {
                label: dict(zip(("near cache", "Redis", "both"), rates, strict=True))
                for label, rates in cache_hit_rates(sampling).items()
            },
        },
        "statements": slowest(sampling),
    }
