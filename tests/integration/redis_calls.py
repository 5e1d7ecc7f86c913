"""Count this process's calls to Redis, and check them against what an open breaker allows."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from cache.metrics import CALL_SECONDS

# The promise: at most one probe per second.
PROBE_SECONDS = 1.0
# Calls in progress when the breaker opened end within their time limit.
_SETTLE_SECONDS = 0.5


def redis_calls() -> tuple[float, float]:
    """Return the number of probes and the number of other calls so far."""
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
    """Check that the block makes no calls to Redis except the probes of these clients, whose breakers are open.

    It counts calls instead of measuring time, because on a busy machine Postgres may take longer than Redis's limit.
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
    # One probe may have started before the block.
    bound = clients * (seconds / PROBE_SECONDS + 1)
    assert probed <= bound, f"Redis was probed {probed:.0f} times in {seconds:.1f} s"
