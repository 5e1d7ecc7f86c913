"""The Redis side's Prometheus metrics, by entity and layer."""

from __future__ import annotations

from functools import cache

from prometheus_client import Counter, Gauge, Histogram

_BUCKETS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)

HITS = Counter(
    "groundwork_cache_hits", "Reads answered by a layer; `negative` ones knew of an absence.",
    ("entity", "layer", "kind"),
)  # fmt: skip
MISSES = Counter("groundwork_cache_misses", "Reads a layer had no answer for.", ("entity", "layer"))
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


BREAKER_OPEN = Gauge("groundwork_cache_breaker_open", "1 while Redis is left alone after a failure.")
NEAR_ENTRIES = Gauge("groundwork_cache_near_entries", "Entries in the near cache of this process.")
NEAR_BYTES = Gauge("groundwork_cache_near_bytes", "Bytes that the near cache's entries take.")
