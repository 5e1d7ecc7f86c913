"""The number of calls to Redis that have failed in this process, from its metrics."""

from __future__ import annotations

from cache.metrics import ERRORS


def cache_errors() -> float:
    return sum(
        sample.value
        for metric in ERRORS.collect()
        for sample in metric.samples
        if sample.name.endswith("_total")
    )
