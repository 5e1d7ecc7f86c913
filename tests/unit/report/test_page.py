"""The page shows what is unusual first, and folds plots without data."""

from __future__ import annotations

import re
from typing import Any

from ops.report.charts import slowest
from ops.report.page import render
from ops.report.sampling import REDIS_FIELDS, Sample, Sampling
from tests.promises import promise

STATEMENT = {
    "queryid": 1, "role": "app", "query": "CREATE USER ann PASSWORD 'hunter2' /* hunter2 */", "calls": 1,
    "total_ms": 1.0, "mean_ms": 1.0, "max_ms": 1.0, "rows": 0, "hit": 0, "read": 0,
}  # fmt: skip
COUNTERS = {"blks_hit": 0.0, "blks_read": 0.0, "xact_commit": 0.0, "xact_rollback": 0.0}
WAIT = {
    "pid": 1, "usename": "app", "query": "LOCK TABLE users", "seconds": 2.0, "what": "users",
    "holder_pid": 2, "holder": "app", "holder_state": "active", "holder_query": "SELECT 1",
}  # fmt: skip


def sampled(*, hit: float = 0, read: float = 0, waits: Any = (), redis: bool = True) -> str:
    """Render a report with these rises between its two samples."""
    info = dict.fromkeys(REDIS_FIELDS, 0.0)
    samples = [
        Sample(
            100.0 + index, COUNTERS | {"blks_hit": hit * index, "blks_read": read * index}, waits, info, None
        )
        if redis
        else Sample(100.0 + index, COUNTERS, waits, None, None)
        for index in range(2)
    ]
    return render(Sampling("dev", 1.0, samples, connections=[{"role": "app", "used": 1, "limit": 10}]))


def sections(page: str) -> list[str]:
    return re.findall(r'<section id="([^"]*)"', page)


def test_the_tables_have_min_mean_and_max() -> None:
    assert "<th>min</th>" in re.sub(r' class="[^"]*"', "", sampled())
    assert "least" not in sampled()


def test_without_anything_unusual_the_page_says_so() -> None:
    page = sampled(hit=9_900, read=100)
    assert "Nothing unusual was found." in page
    assert sections(page)[:2] == ["unusual", "postgres-hit-rate"]


def test_lock_waits_and_their_table_come_first() -> None:
    page = sampled(hit=9_900, read=100, waits=[WAIT])
    assert sections(page)[:3] == ["unusual", "locks", "lock-waits"]
    assert 'href="#locks"' in page


def test_a_low_hit_rate_is_unusual_from_a_thousand_lookups_on() -> None:
    assert "50.0 % of 2,000" in sampled(hit=1000, read=1000)
    assert "Nothing unusual was found." in sampled(hit=10, read=10)


def test_a_login_near_its_limit_is_unusual() -> None:
    full = Sampling("dev", 1.0, [Sample(100.0, None, None, None, None)] * 2)
    full.connections = [{"role": "app", "used": 9, "limit": 10}]
    assert sections(render(full))[1] == "connections"


def replicated(*lags: dict[str, float] | None, expected: int = 2) -> str:
    """Render a report of a stack with replicas, with these readings of their lag in bytes."""
    samples = [
        Sample(100.0 + n, COUNTERS, (), None, None, lag, {"10.0.0.41:6379": 2048.0})
        for n, lag in enumerate(lags)
    ]
    return render(Sampling("dev", 1.0, samples, expected_replicas=expected))


def test_the_lag_of_each_replica_is_plotted_only_with_replicas() -> None:
    page = replicated({"postgres-2": 0, "postgres-3": 1024**2}, {"postgres-2": 0, "postgres-3": 0})
    assert {"postgres-lag", "redis-lag"} <= set(sections(page))
    assert "Nothing unusual was found." in page
    assert ">postgres-3<" in page
    assert not {"postgres-lag", "redis-lag"} & set(sections(sampled()))


def test_a_late_or_missing_replica_is_unusual() -> None:
    late = {"postgres-2": 600.0 * 1024**2, "postgres-3": 0}
    assert "up to 600 MB" in replicated(late, late)
    page = replicated(late | {"postgres-2": 0}, {"postgres-3": 0})
    assert "1 of 2 replicas streamed" in page
    assert sections(page)[1] == "postgres-lag"
    # A primary that did not answer is a gap, not a missing replica.
    assert "replicas streamed" not in replicated({"postgres-2": 0, "postgres-3": 0}, None)


def test_plots_without_data_are_folded_at_the_end() -> None:
    page = sampled(redis=False)
    before, _, folded = page.partition('<details class="empty">')
    assert "redis-memory" in sections(folded)
    assert "redis-memory" not in sections(before)
    assert "transactions" in sections(before)


@promise("doctor and the report show no literal and no comment of a statement")
def test_a_statement_is_shown_without_literals_and_comments() -> None:
    """pg_stat_statements keeps the literals of DDL."""
    sampling = Sampling("dev", 1.0, [Sample(100.0, None, None, None, None)], statements=[STATEMENT])
    page = render(sampling)
    assert "CREATE USER ann PASSWORD ?" in page
    assert "hunter2" not in page
    assert [row["query"] for row in slowest(sampling)] == ["CREATE USER ann PASSWORD ?"]
