"""How many calls to Redis have failed in this process, by its own metrics."""

from __future__ import annotations

from cache.metrics import ERRORS


def cache_errors() -> float:
    return sum(
        sample.value
        for metric in ERRORS.collect()
        for sample in metric.samples
        if sample.name.endswith("_total")
    )
