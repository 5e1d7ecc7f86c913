"""The Redis side's Prometheus metrics, by entity and layer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from threading import Lock
from typing import TYPE_CHECKING, Protocol

from prometheus_client import REGISTRY, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from cache.breaker import Breaker
    from cache.near import NearCache

_BUCKETS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)

HITS = Counter(
    "groundwork_cache_hits", "Reads answered by a layer; `negative` ones knew of an absence.",
    ("entity", "layer", "kind"),
)  # fmt: skip
MISSES = Counter("groundwork_cache_misses", "Reads a layer had no answer for.", ("entity", "layer"))
READ_ERRORS = Counter(
    "groundwork_cache_read_errors", "Reads that Redis could not answer, for it failed or is left alone.",
    ("entity",),
)  # fmt: skip
# No layer of its own among hits and misses: a hit rate is what the database is spared.
DATABASE_READS = Counter(
    "groundwork_cache_database_reads", "Records that the database was asked for: found, absent, or error.",
    ("entity", "outcome"),
)  # fmt: skip
ERRORS = Counter("groundwork_cache_errors", "Calls to Redis that failed, by operation.", ("operation",))
FILLS = Counter(
    "groundwork_cache_fills", "Fills after a miss: stored, or refused since the lease was gone.",
    ("entity", "outcome"),
)  # fmt: skip
LEASE_WAITS = Counter("groundwork_cache_lease_waits", "Misses that waited for another's fill.", ("entity",))
COALESCED = Counter("groundwork_cache_coalesced", "Misses that shared another caller's read.", ("entity",))
STALE_SERVES = Counter(
    "groundwork_cache_stale_serves", "Hits that were due for a refresh, answered meanwhile from the old entry.",
    ("entity",),
)  # fmt: skip
REFRESHES = Counter(
    "groundwork_cache_refreshes",
    "Refreshes ahead: stored, refused since the entry was invalidated, elsewhere (another does it), or failed.",
    ("entity", "outcome"),
)
INVALIDATIONS = Counter(
    "groundwork_cache_invalidations",
    "Invalidations: updated (the new value stands), dropped, or failed (left to the outbox).",
    ("entity", "outcome"),
)
CALL_SECONDS = Histogram(
    "groundwork_cache_call_duration_seconds", "Time of a call to Redis.", ("operation",), buckets=_BUCKETS
)


@cache
def call_seconds(operation: str) -> Histogram:
    """CALL_SECONDS of one operation; finding it by its label takes longer than observing."""
    return CALL_SECONDS.labels(operation)


class DatabaseReads:
    """What the last layer answered, for one entity: the database, asked for what Redis has not."""

    def __init__(self, entity: str) -> None:
        self._found, self._absent, self._errors = (
            DATABASE_READS.labels(entity, outcome) for outcome in ("found", "absent", "error")
        )

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Counts an error that leaves the block."""
        try:
            yield
        except Exception:
            self._errors.inc()
            raise

    def found(self, found: int, asked: int) -> None:
        self._found.inc(found)
        self._absent.inc(asked - found)


class Measured(Protocol):
    """A client of Redis as far as it is measured."""

    @property
    def breaker(self) -> Breaker: ...

    @property
    def near(self) -> NearCache | None: ...


class ClientStates(Collector):
    """What the open clients of this process are at, at the time of the scrape."""

    def __init__(self) -> None:
        self._open: set[Measured] = set()
        self._lock = Lock()

    def add(self, client: Measured) -> None:
        with self._lock:
            self._open.add(client)

    def remove(self, client: Measured) -> None:
        """The second time nothing: a client may be closed twice."""
        with self._lock:
            self._open.discard(client)

    def collect(self) -> Iterator[Metric]:
        with self._lock:
            is_open = any(client.breaker.is_open for client in self._open)
            sizes = [client.near.size() for client in self._open if client.near is not None]
        yield GaugeMetricFamily(
            "groundwork_cache_breaker_open",
            "1 while a client of this process leaves Redis alone after a failure.",
            value=int(is_open),
        )
        yield GaugeMetricFamily(
            "groundwork_cache_near_entries",
            "Entries in the near caches of this process.",
            value=sum(entries for entries, _ in sizes),
        )
        yield GaugeMetricFamily(
            "groundwork_cache_near_bytes",
            "Bytes that the near caches' entries take.",
            value=sum(taken for _, taken in sizes),
        )


CLIENTS = ClientStates()
REGISTRY.register(CLIENTS)
