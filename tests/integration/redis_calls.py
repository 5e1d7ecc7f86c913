"""What this process asks of Redis, by its own count of calls; held against what an open breaker allows."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from cache.metrics import CALL_SECONDS

# The promise: at most one probe a second.
PROBE_SECONDS = 1.0
# Calls that were under way when the first one found Redis ill end within their time limit.
_SETTLE_SECONDS = 0.5


def redis_calls() -> tuple[float, float]:
    """Probes so far, and calls besides."""
    counts = {
        sample.labels["operation"]: sample.value
        for metric in CALL_SECONDS.collect()
        for sample in metric.samples
        if sample.name.endswith("_count")
    }
    probes = counts.pop("ping", 0.0)
    return probes, sum(counts.values())


@contextmanager
def left_alone(clients: int = 1) -> Iterator[None]:
    """What is done inside asks nothing of Redis: these clients have found it ill, and only their probes go there.

    Counted, not timed: Redis's time limit is within what Postgres may take on a busy machine.
    """
    time.sleep(_SETTLE_SECONDS)
    probes_before, others_before = redis_calls()
    started = time.monotonic()
    yield
    seconds = time.monotonic() - started
    probes, others = redis_calls()
    asked = others - others_before
    assert asked == 0, f"Redis was asked {asked:.0f} times besides the probes"
    probed = probes - probes_before
    # One may have begun before and ended inside.
    bound = clients * (seconds / PROBE_SECONDS + 1)
    assert probed <= bound, f"Redis was probed {probed:.0f} times in {seconds:.1f} s"
