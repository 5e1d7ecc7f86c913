"""The Postgres side's Prometheus metrics: time and outcome by named query, and the pools' own statistics."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from threading import Lock

from prometheus_client import REGISTRY, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

# From a local index lookup (0.2 ms) to the deadline.
_BUCKETS = (0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)

QUERY_SECONDS = Histogram(
    "groundwork_db_query_duration_seconds",
    "Time from call to answer of a named query, waiting for a connection included.",
    ("query", "outcome"),
    buckets=_BUCKETS,
)
_GAUGES = {
    "pool_size": "Connections the pool holds or is making.",
    "pool_available": "Connections idle in the pool.",
    "pool_max": "Connections the pool may hold.",
    "requests_waiting": "Callers waiting for a connection.",
}
_COUNTERS = {
    "requests_num": ("requests", "Connections asked for."),
    "requests_queued": ("requests_queued", "Connections asked for that had to be waited for."),
    "requests_errors": ("requests_errors", "Connections asked for in vain."),
    "connections_num": ("connection_attempts", "Connections attempted to the server."),
    "connections_errors": ("connection_errors", "Connections that could not be made."),
    "connections_lost": ("connections_lost", "Connections found broken in the pool."),
    "returns_bad": ("returns_bad", "Connections given back broken."),
}


class PoolStatistics(Collector):
    """Collects every open pool's statistics at the time of the scrape."""

    def __init__(self) -> None:
        self._pools: dict[str, Callable[[], dict[str, int]]] = {}
        self._lock = Lock()

    def add(self, name: str, statistics: Callable[[], dict[str, int]]) -> None:
        with self._lock:
            self._pools[name] = statistics

    def remove(self, name: str) -> None:
        with self._lock:
            self._pools.pop(name, None)

    def describe(self) -> Iterator[Metric]:
        # An empty description lets the registry accept the collector without asking any pool.
        return iter(())

    def collect(self) -> Iterator[Metric]:
        with self._lock:
            current = {name: statistics() for name, statistics in self._pools.items()}
        for key, help_text in _GAUGES.items():
            gauge = GaugeMetricFamily(f"groundwork_db_{key}", help_text, labels=["pool"])
            for name, values in current.items():
                gauge.add_metric([name], values.get(key, 0))
            yield gauge
        for key, (metric, help_text) in _COUNTERS.items():
            counter = CounterMetricFamily(f"groundwork_db_pool_{metric}", help_text, labels=["pool"])
            for name, values in current.items():
                counter.add_metric([name], values.get(key, 0))
            yield counter


POOLS = PoolStatistics()
REGISTRY.register(POOLS)
