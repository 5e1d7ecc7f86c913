"""Prometheus metrics of the data access: durations and outcomes of named queries, and pool statistics."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Protocol
from weakref import WeakMethod

from prometheus_client import REGISTRY, Histogram
from prometheus_client import Counter as CounterMetric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from cache.forking import Exclusion

# From a local index lookup (0.2 ms) to more than the default deadline (8 s).
_BUCKETS = (0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)

QUERY_SECONDS = Histogram(
    "groundwork_db_query_duration_seconds",
    "Time from call to answer of a named query, including the wait for a connection.",
    ("query", "outcome"),
    buckets=_BUCKETS,
)
REPLICA_READS = CounterMetric(
    "groundwork_db_replica_reads_total",
    "Reads in a reading() block, by whether a replica has answered, or why the primary has.",
    ("outcome",),
)
_GAUGES = {
    "pool_size": "Connections in the pool, including those being opened.",
    "pool_available": "Idle connections in the pool.",
    "pool_max": "Maximum size of the pool.",
    "requests_waiting": "Callers waiting for a connection.",
}
_COUNTERS = {
    "requests_num": ("requests", "Requests for a connection."),
    "requests_queued": ("requests_queued", "Requests for a connection that had to wait."),
    "requests_errors": ("requests_errors", "Requests for a connection that failed."),
    "connections_num": ("connection_attempts", "Attempts to connect to the server."),
    "connections_errors": ("connection_errors", "Failed attempts to connect to the server."),
    "connections_lost": ("connections_lost", "Connections found broken in the pool."),
    "returns_bad": ("returns_bad", "Connections returned to the pool in a broken state."),
}


class MeasuredPool(Protocol):
    """The part of a pool that the metrics read."""

    name: str

    def statistics(self) -> dict[str, int]: ...


class WeaklyMeasured:
    """A pool's statistics for the metrics. Does not keep the pool alive. `statistics` is a method of the pool."""

    def __init__(self, name: str, statistics: Callable[[], dict[str, int]]) -> None:
        self.name = name
        self._statistics = WeakMethod(statistics)

    def statistics(self) -> dict[str, int]:
        statistics = self._statistics()
        return {} if statistics is None else statistics()


class PoolStatistics(Collector):
    """Collects the statistics of every open pool at scrape time. Pools of the same name are added up."""

    def __init__(self) -> None:
        # By identity, because every data access gives its pool the same name.
        self._open: set[MeasuredPool] = set()
        # The counts of closed pools. Without them a sum would decrease, which Prometheus takes for a restart.
        self._closed: dict[str, Counter[str]] = {}
        self._exclusively = Exclusion()

    def add(self, pool: MeasuredPool) -> None:
        self._exclusively(self._open.add, pool)

    def remove(self, pool: MeasuredPool) -> None:
        """Remove a pool. Idempotent, because a pool may be closed twice."""
        self._exclusively(self._remove, pool)

    def _remove(self, pool: MeasuredPool) -> None:
        if pool in self._open:
            self._open.remove(pool)
            self._closed.setdefault(pool.name, Counter()).update(pool.statistics())

    def describe(self) -> Iterator[Metric]:
        # With an empty description the registry does not call collect() on registration.
        return iter(())

    def _count(self) -> tuple[dict[str, Counter[str]], dict[str, Counter[str]]]:
        """Return the statistics by pool name: of open pools, and of all that ever were open."""
        current: dict[str, Counter[str]] = {}
        for pool in self._open:
            current.setdefault(pool.name, Counter()).update(pool.statistics())
        ever = {name: counted.copy() for name, counted in self._closed.items()}
        for name, values in current.items():
            ever.setdefault(name, Counter()).update(values)
        return current, ever

    def collect(self) -> Iterator[Metric]:
        current, ever = self._exclusively(self._count)
        for key, help_text in _GAUGES.items():
            gauge = GaugeMetricFamily(f"groundwork_db_{key}", help_text, labels=["pool"])
            for name, values in current.items():
                gauge.add_metric([name], values[key])
            yield gauge
        for key, (metric, help_text) in _COUNTERS.items():
            counter = CounterMetricFamily(f"groundwork_db_pool_{metric}", help_text, labels=["pool"])
            for name, values in ever.items():
                counter.add_metric([name], values[key])
            yield counter


POOLS = PoolStatistics()
REGISTRY.register(POOLS)
