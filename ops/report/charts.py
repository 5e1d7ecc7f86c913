"""Select what the report plots from the samples."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ops.report.cache_reads import EntityReads
from ops.report.sampling import Sample, Sampling
from ops.report.series import (
    Bar,
    BarChart,
    Chart,
    Series,
    column,
    levels,
    rates,
    share_since_start,
    shares,
)
from ops.servers.access_metrics import MetricKey
from ops.servers.statement_text import without_literals

_MB = 1024**2
STATEMENTS_SHOWN = 10
_START = "since the start"


def time_charts(sampling: Sampling) -> list[Chart]:
    """Return all plots over time. Those of the access service are included only if it was sampled."""
    samples = sampling.samples
    times = tuple(sample.at - samples[0].at for sample in samples)
    postgres = [sample.postgres for sample in samples]
    redis = [sample.redis for sample in samples]
    hit, read = column(postgres, "blks_hit"), column(postgres, "blks_read")
    found, missed = column(redis, "keyspace_hits"), column(redis, "keyspace_misses")

    def per_second(name: str, readings: list[Mapping[str, float] | None], key: str) -> Series:
        return rates(name, times, column(readings, key))

    charts = [
        Chart(
            "postgres-hit-rate", "Postgres: buffer hit rate", "%",
            "Share of blocks found in shared buffers. Gaps mean that no blocks were read.",
            times, (shares("while sampling", hit, read), share_since_start(_START, hit, read)),
        ),
        Chart(
            "redis-hit-rate", "Redis: hit rate", "%",
            "Share of lookups that found a key. Gaps mean that there were no lookups.",
            times, (shares("while sampling", found, missed), share_since_start(_START, found, missed)),
        ),
        Chart(
            "transactions", "Postgres: transactions", "per second",
            "The sampling itself causes a few of them.",
            times,
            (
                per_second("committed", postgres, "xact_commit"),
                per_second("rolled back", postgres, "xact_rollback"),
            ),
        ),
        Chart(
            "locks", "Postgres: sessions waiting for a lock", "sessions",
            "The table of lock waits shows which session blocked which.",
            times, (Series("waiting", tuple(_waiting(sample) for sample in samples)),),
        ),
        Chart(
            "redis-memory", "Redis: memory", "MB",
            "Held is the memory the operating system has given to Redis. Much more than used means fragmentation.",
            times,
            (
                levels("used", redis, "used_memory", 1 / _MB),
                levels("held", redis, "used_memory_rss", 1 / _MB),
                levels("maxmemory", redis, "maxmemory", 1 / _MB),
            ),
        ),
        Chart(
            "evictions", "Redis: evicted and expired keys", "per second",
            "Keys are evicted when memory is full, and expire at the end of their TTL.",
            times, (per_second("evicted", redis, "evicted_keys"), per_second("expired", redis, "expired_keys")),
        ),
        Chart(
            "redis-commands", "Redis: commands", "per second",
            "", times, (per_second("commands", redis, "total_commands_processed"),),
        ),
    ]  # fmt: skip
    return charts + _replica_charts(sampling, times) + _access_charts(samples, times)


def bar_charts(sampling: Sampling) -> list[BarChart]:
    """Return all bar plots: the cache's reads, and the state of Postgres at the end of the sampling."""
    reads = sampling.cache_reads
    return [
        BarChart(
            "cache", "Applications: reads by the layer that answered", "reads", reads.source,
            ("near cache", "Redis", "database"),
            tuple(Bar(_label(each), (each.near, each.redis, each.database)) for each in reads.by_entity),
        ),
        BarChart(
            "connections", "Postgres: connections by login", "connections",
            "Connections in use at the end of the sampling, and free ones up to the login's limit.",
            ("in use", "free"),
            tuple(Bar(r["role"], (r["used"], max(r["limit"] - r["used"], 0))) for r in sampling.connections),
        ),
        BarChart(
            "statements", "Postgres: statements with the longest total time", "s",
            "Total since the last statistics reset, from pg_stat_statements. The texts are in the table below.",
            ("time",),
            tuple(
                Bar(f"#{number}", (row["total_ms"] / 1000,))
                for number, row in enumerate(slowest(sampling), 1)
            ),
        ),
    ]  # fmt: skip


def cache_hit_rates(sampling: Sampling) -> dict[str, tuple[float | None, float | None, float | None]]:
    """Return the shares of reads that the near cache, Redis, and both answered, in percent, by bar, and of all."""
    reads = sampling.cache_reads
    rows = [(_label(each), each) for each in reads.by_entity]
    if len(rows) > 1:
        rows.append(("all", reads.all))
    return {label: (each.share(each.near), each.share(each.redis), each.hit_rate) for label, each in rows}


def _label(reads: EntityReads) -> str:
    return f"{reads.job}: {reads.entity}"


def hit_rate_sampled(sampling: Sampling, key: str) -> float | None:
    """Return a chart's hit rate in percent over the whole sampling, or None without lookups."""
    of_postgres = key == "postgres-hit-rate"
    readings = [r for s in sampling.samples if (r := s.postgres if of_postgres else s.redis) is not None]
    if len(readings) < 2:
        return None
    names = ("blks_hit", "blks_read") if of_postgres else ("keyspace_hits", "keyspace_misses")
    ends = [readings[0], readings[-1]]
    return shares("", *(column(ends, name) for name in names)).values[-1]


def slowest(sampling: Sampling) -> list[dict[str, Any]]:
    """Return the statements with the longest total time, without literals and comments.

    `calls_sampled` counts their calls during the sampling.
    """
    before = {(row["queryid"], row["role"]): row["calls"] for row in sampling.statements_before}
    ordered = sorted(sampling.statements, key=lambda row: row["total_ms"], reverse=True)
    return [
        {
            **row,
            "query": without_literals(row["query"] or ""),
            "calls_sampled": max(row["calls"] - before.get((row["queryid"], row["role"]), 0), 0),
        }
        for row in ordered[:STATEMENTS_SHOWN]
    ]


def _waiting(sample: Sample) -> float | None:
    return None if sample.waits is None else float(len({row["pid"] for row in sample.waits}))


def _replica_charts(sampling: Sampling, times: tuple[float, ...]) -> list[Chart]:
    """Return the lag of the replicas. Without replicas there are no such charts."""
    samples = sampling.samples
    postgres, redis = (
        Chart(
            "postgres-lag", "Postgres: lag of the replicas", "MB",
            "WAL that a replica has not replayed yet. Gaps mean that it did not stream.", times,
            _lags([sample.postgres_lag for sample in samples], _MB),
        ),
        Chart(
            "redis-lag", "Redis: lag of the replicas", "KB",
            "What a replica has not confirmed yet. It does so once a second.", times,
            _lags([sample.redis_lag for sample in samples], 1024),
        ),
    )  # fmt: skip
    return [*([postgres] if sampling.expected_replicas else []), *([redis] if redis.series else [])]


def _lags(readings: list[Mapping[str, float] | None], unit: int) -> tuple[Series, ...]:
    names = sorted({name for reading in readings for name in reading or ()})
    return tuple(levels(name, readings, name, 1 / unit) for name in names)


def _access_charts(samples: list[Sample], times: tuple[float, ...]) -> list[Chart]:
    access = [sample.access for sample in samples]
    if not any(access):
        return []

    def gauge(name: str, metric: str, key: str = "") -> Series:
        return Series(name, tuple(None if a is None else _sum(a, metric) for a in access), key)

    return [
        Chart(
            "pool", "Access service: connection pool", "connections",
            "A larger pool would serve waiting callers at once.",
            times,
            (
                gauge("open", "groundwork_db_pool_size"),
                gauge("idle", "groundwork_db_pool_available"),
                gauge("max", "groundwork_db_pool_max", key="most"),
                gauge("callers waiting", "groundwork_db_requests_waiting"),
            ),
        ),
        Chart(
            "outbox-depth", "Access service: outbox", "entries",
            "Recorded invalidations that are not yet applied to the cache.", times,
            (gauge("depth", "groundwork_outbox_depth"),),
        ),
        Chart(
            "outbox-age", "Access service: age of the oldest outbox entry", "s",
            "The cache can serve stale values for this long.", times,
            (gauge("age", "groundwork_outbox_age_seconds"),),
        ),
    ]  # fmt: skip


def _sum(access: Mapping[MetricKey, float], metric: str) -> float | None:
    found = [value for (name, _), value in access.items() if name == metric]
    return sum(found) if found else None
