"""The servers' clocks beside this machine's: certificates, lifetimes and timestamps hang on them."""

from __future__ import annotations

from collections.abc import Callable

from ops.doctor.examination import Examination
from ops.doctor.finding import Finding, judged, level

_ADVICE = "set the clocks right (NTP) on this machine and on the servers'"


def postgres_clock(examination: Examination) -> Finding:
    """postgres-clock."""

    def ask() -> float:
        (row,) = examination.postgres.rows("SELECT extract(epoch FROM clock_timestamp())::float AS now")
        return float(row["now"])

    return _compare(examination, ask)


def redis_clock(examination: Examination) -> Finding:
    """redis-clock: by INFO, for no user may TIME."""
    return _compare(examination, lambda: int(examination.redis.info("server")["server_time_usec"]) / 1e6)


def _compare(examination: Examination, ask: Callable[[], float]) -> Finding:
    limits = examination.thresholds
    # The first answer may pay for a connection; the second is a round trip.
    ask()
    before = examination.now()
    server = ask()
    after = examination.now()
    # Within the question's own time the two cannot be told apart.
    ahead = server - (before + after) / 2
    off = max(abs(ahead) - (after - before) / 2, 0.0)
    text = (
        f"{off:.2f} s {'ahead of' if ahead > 0 else 'behind'} this machine"
        if off >= 0.01
        else "no difference"
    )
    return judged(level(off, limits.clock_warn, limits.clock_fail), text, _ADVICE)
