"""One log record per query: name, duration, outcome."""

from __future__ import annotations

import logging

import pytest
from prometheus_client import REGISTRY

from db.query_call import QueryRecord
from tests.promises import promise


@promise("the query log contains no parameters")
@pytest.mark.parametrize(
    ("outcome", "slow_seconds", "level"),
    [
        ("ok", 10.0, logging.DEBUG),
        ("ok", 0.0, logging.INFO),
        ("Unavailable", 10.0, logging.WARNING),
    ],
)
def test_slow_and_failed_queries_are_logged_and_others_only_at_debug_level(
    caplog: pytest.LogCaptureFixture, outcome: str, slow_seconds: float, level: int
) -> None:
    with caplog.at_level(logging.DEBUG, logger="groundwork.db.query"):
        QueryRecord("find_thing", slow_seconds).finish(outcome)
    (record,) = caplog.records
    fields = vars(record)
    assert record.levelno == level
    assert (fields["query"], fields["outcome"], fields["attempts"]) == ("find_thing", outcome, 1)
    assert fields["duration_ms"] >= 0


def test_every_call_is_counted_by_query_and_outcome() -> None:
    labels = {"query": "counted_thing", "outcome": "ok"}
    for _ in range(3):
        QueryRecord("counted_thing", 1.0).finish("ok")
    assert REGISTRY.get_sample_value("groundwork_db_query_duration_seconds_count", labels) == 3
