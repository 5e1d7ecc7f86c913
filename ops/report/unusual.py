"""What is unusual in a report, so that the page can show it first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ops.doctor.thresholds import Thresholds
from ops.report.charts import hit_rate_sampled
from ops.report.plots import number
from ops.report.sampling import Sampling
from ops.report.series import BarChart, Chart, column

_LIMITS = Thresholds()
# A hit rate over fewer lookups says little.
_LOOKUPS = 1000
# The monitoring alerts on an older outbox too (infra/monitoring/rules/data-access.yml).
_OUTBOX_SECONDS = 30


def unusual(sampling: Sampling, charts: Sequence[Chart], bars: Sequence[BarChart]) -> dict[str, str]:
    """Return the keys of charts whose values call for attention, each with the reason in a few words."""
    return dict([*_hit_rates(sampling), *_over_time(charts), *_replicas(sampling), *_connections(bars)])


def _hit_rates(sampling: Sampling) -> Iterator[tuple[str, str]]:
    postgres = [sample.postgres for sample in sampling.samples if sample.postgres is not None]
    redis = [sample.redis for sample in sampling.samples if sample.redis is not None]
    for key, readings, counters, least in (
        ("postgres-hit-rate", postgres, ("blks_hit", "blks_read"), _LIMITS.postgres_hit_rate_warn),
        ("redis-hit-rate", redis, ("keyspace_hits", "keyspace_misses"), _LIMITS.redis_hit_rate_warn),
    ):
        rate = hit_rate_sampled(sampling, key)
        if rate is None:
            continue
        counts = [column(readings, name) for name in counters]
        lookups = sum((values[-1] or 0) - (values[0] or 0) for values in counts)
        if lookups >= _LOOKUPS and rate < 100 * least:
            yield key, f"{rate:.1f} % of {number(lookups)}"
    reads = sampling.cache_reads.all
    if reads.count >= _LOOKUPS and (rate := reads.hit_rate or 0) < 100 * _LIMITS.redis_hit_rate_warn:
        yield "cache", f"{rate:.1f} % of {number(reads.count)}"


def _over_time(charts: Sequence[Chart]) -> Iterator[tuple[str, str]]:
    for chart in charts:
        highest = {series.name: max(series.known, default=0) for series in chart.series}
        if chart.key == "locks" and highest["waiting"]:
            yield chart.key, f"up to {number(highest['waiting'])} at once"
        if chart.key == "evictions" and highest["evicted"]:
            yield chart.key, f"up to {number(highest['evicted'])} evictions per second"
        if chart.key == "redis-memory" and highest["used"]:
            wasted = highest["held"] - highest["used"]
            matters = _LIMITS.fragmentation_share_of_maxmemory * (highest["maxmemory"] or 400)
            if highest["held"] >= _LIMITS.fragmentation_ratio_warn * highest["used"] and wasted >= matters:
                yield chart.key, f"{number(wasted)} MB are held but not used"
        if chart.key == "pool" and highest["callers waiting"]:
            yield chart.key, f"up to {number(highest['callers waiting'])} callers waited for a connection"
        if chart.key == "postgres-lag" and max(highest.values(), default=0) >= _LIMITS.replica_lag_mb_warn:
            yield chart.key, f"up to {number(max(highest.values()))} MB"
        if chart.key == "outbox-age" and highest["age"] > _OUTBOX_SECONDS:
            yield chart.key, f"up to {number(highest['age'])} s"


def _replicas(sampling: Sampling) -> Iterator[tuple[str, str]]:
    streaming = [len(sample.postgres_lag) for sample in sampling.samples if sample.postgres_lag is not None]
    if streaming and min(streaming) < sampling.expected_replicas:
        yield "postgres-lag", f"{min(streaming)} of {sampling.expected_replicas} replicas streamed"


def _connections(bars: Sequence[BarChart]) -> Iterator[tuple[str, str]]:
    for chart in bars:
        if chart.key == "connections":
            full = [
                f"{bar.label} uses {number(bar.parts[0])} of {number(sum(bar.parts))}"
                for bar in chart.bars
                if bar.parts[0] >= _LIMITS.connections_warn * sum(bar.parts) > 0
            ]
            if full:
                yield chart.key, ", ".join(full)
