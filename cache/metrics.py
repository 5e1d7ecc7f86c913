"""Prometheus metrics of the cache, by entity and layer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import NamedTuple, Protocol
from weakref import WeakSet

from prometheus_client import REGISTRY, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

_BUCKETS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)

HITS = Counter(
    "groundwork_cache_hits", "Reads answered by a layer. `negative`: by a cached absence.",
    ("entity", "layer", "kind"),
)  # fmt: skip
MISSES = Counter("groundwork_cache_misses", "Reads that a layer could not answer.", ("entity", "layer"))
READ_ERRORS = Counter(
    "groundwork_cache_read_errors", "Reads that Redis could not answer because it failed or the breaker is open.",
    ("entity",),
)  # fmt: skip
# Not a layer among hits and misses, because a hit rate is the share of reads that the database does not serve.
DATABASE_READS = Counter(
    "groundwork_cache_database_reads", "Records read from the database: found, absent, or error.",
    ("entity", "outcome"),
)  # fmt: skip
ERRORS = Counter("groundwork_cache_errors", "Calls to Redis that failed, by operation.", ("operation",))
FILLS = Counter(
    "groundwork_cache_fills", "Fills: stored, refused (lease gone or newer value), failed, unencodable, too_large.",
    ("entity", "outcome"),
)  # fmt: skip
LEASE_WAITS = Counter(
    "groundwork_cache_lease_waits", "Misses that waited for the lease holder's fill.", ("entity",)
)
COALESCED = Counter(
    "groundwork_cache_coalesced", "Misses that shared the read of another caller.", ("entity",)
)
STALE_SERVES = Counter(
    "groundwork_cache_stale_serves", "Hits served from an entry that is being refreshed ahead of its expiry.",
    ("entity",),
)  # fmt: skip
REFRESHES = Counter(
    "groundwork_cache_refreshes",
    "Refreshes ahead of expiry: stored, refused (the entry was invalidated), elsewhere (by another caller), or failed.",
    ("entity", "outcome"),
)
INVALIDATIONS = Counter(
    "groundwork_cache_invalidations",
    "Invalidations: updated (the new value is stored), dropped, absent, newer, or failed (left to the outbox).",
    ("entity", "outcome"),
)
CALL_SECONDS = Histogram(
    "groundwork_cache_call_duration_seconds", "Time of a call to Redis.", ("operation",), buckets=_BUCKETS
)


@cache
def call_seconds(operation: str) -> Histogram:
    """Return the histogram of one operation. Cached, because finding it by label takes longer than observing."""
    return CALL_SECONDS.labels(operation)


class DatabaseReads:
    """Counts the reads of one entity from the database, after a miss in Redis."""

    def __init__(self, entity: str) -> None:
        self._found, self._absent, self._errors = (
            DATABASE_READS.labels(entity, outcome) for outcome in ("found", "absent", "error")
        )

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Count an exception that leaves the block."""
        try:
            yield
        except Exception:
            self._errors.inc()
            raise

    def found(self, found: int, asked: int) -> None:
        self._found.inc(found)
        self._absent.inc(asked - found)


class ClientState(NamedTuple):
    """Whether the breaker is open, and the number of entries and bytes in the near cache."""

    is_breaker_open: bool
    near_entries: int
    near_bytes: int


class MeasuredClient(Protocol):
    """What the metrics read from a cache client."""

    def state(self) -> ClientState: ...


class ClientStates(Collector):
    """Collects the state of this process's open clients at scrape time."""

    def __init__(self) -> None:
        # Weak, so that a client that is dropped without closing is deleted.
        self._open: WeakSet[MeasuredClient] = WeakSet()

    def add(self, client: MeasuredClient) -> None:
        self._open.add(client)

    def remove(self, client: MeasuredClient) -> None:
        """Remove a client. Idempotent, because a client may be closed twice."""
        self._open.discard(client)

    def collect(self) -> Iterator[Metric]:
        # Copying a set is one atomic operation.
        states = [client.state() for client in self._open.copy()]
        yield GaugeMetricFamily(
            "groundwork_cache_breaker_open",
            "1 while the breaker of a client in this process is open after a failure of Redis.",
            value=int(any(state.is_breaker_open for state in states)),
        )
        yield GaugeMetricFamily(
            "groundwork_cache_near_entries",
            "Entries in the near caches of this process.",
            value=sum(state.near_entries for state in states),
        )
        yield GaugeMetricFamily(
            "groundwork_cache_near_bytes",
            "Size of the entries in the near caches of this process, in bytes.",
            value=sum(state.near_bytes for state in states),
        )


CLIENTS = ClientStates()
REGISTRY.register(CLIENTS)
