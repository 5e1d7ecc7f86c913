"""The Postgres side's Prometheus metrics: time and outcome by named query, and the pools' own statistics."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from threading import Lock
from typing import Protocol

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


class Measured(Protocol):
    """A pool as far as it is measured."""

    name: str

    def statistics(self) -> dict[str, int]: ...


class PoolStatistics(Collector):
    """Collects every open pool's statistics at the time of the scrape; pools of one name are one pool here."""

    def __init__(self) -> None:
        # By identity: every data access calls its pool the same.
        self._open: set[Measured] = set()
        # What closed pools have counted. Without it a sum would fall, and be taken for a process that began anew.
        self._closed: dict[str, Counter[str]] = {}
        self._lock = Lock()

    def add(self, pool: Measured) -> None:
        with self._lock:
            self._open.add(pool)

    def remove(self, pool: Measured) -> None:
        """The second time nothing: a pool may be closed twice."""
        with self._lock:
            if pool in self._open:
                self._open.remove(pool)
                self._closed.setdefault(pool.name, Counter()).update(pool.statistics())

    def describe(self) -> Iterator[Metric]:
        # An empty description lets the registry accept the collector without asking any pool.
        return iter(())

    def collect(self) -> Iterator[Metric]:
        with self._lock:
            current: dict[str, Counter[str]] = {}
            for pool in self._open:
                current.setdefault(pool.name, Counter()).update(pool.statistics())
            ever = {name: counted.copy() for name, counted in self._closed.items()}
        for name, values in current.items():
            ever.setdefault(name, Counter()).update(values)
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
