"""The servers' clocks compared with this machine's. Certificates, TTLs and timestamps depend on them."""

from __future__ import annotations

from collections.abc import Callable

from ops.doctor.check_result import CheckResult, judged, level
from ops.doctor.examination import Examination

_ADVICE = "synchronize the clocks of this machine and of the servers' hosts (NTP)"


def postgres_clock(examination: Examination) -> CheckResult:
    """postgres-clock: compare Postgres's clock with this machine's."""

    def ask() -> float:
        (row,) = examination.postgres.rows("SELECT extract(epoch FROM clock_timestamp())::float AS now")
        return float(row["now"])

    return _compare(examination, ask)


def redis_clock(examination: Examination) -> CheckResult:
    """redis-clock: compare Redis's clock with this machine's. Uses INFO, because no user may call TIME."""
    return _compare(examination, lambda: int(examination.redis.info("server")["server_time_usec"]) / 1e6)


def _compare(examination: Examination, ask: Callable[[], float]) -> CheckResult:
    limits = examination.thresholds
    # The first query may open the connection; the second takes only a round trip.
    ask()
    before = examination.now()
    server = ask()
    after = examination.now()
    # A difference within the query's own duration cannot be detected.
    ahead = server - (before + after) / 2
    off = max(abs(ahead) - (after - before) / 2, 0.0)
    text = (
        f"{off:.2f} s {'ahead of' if ahead > 0 else 'behind'} this machine"
        if off >= 0.01
        else "no difference"
    )
    return judged(level(off, limits.clock_warn, limits.clock_fail), text, _ADVICE)
