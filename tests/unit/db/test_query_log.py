"""One log record per query: name, duration, outcome."""

from __future__ import annotations

import logging

import pytest
from prometheus_client import REGISTRY

from db.deadline import Deadline
from db.named_query import NamedQuery
from db.query_call import QueryCall, QueryRecord
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


def test_the_time_between_the_halves_of_a_call_does_not_count(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([0.0, 1.0, 100.0, 102.0])
    monkeypatch.setattr("db.query_call.perf_counter", lambda: next(clock))
    query = NamedQuery("load_things", "", b"", is_read=False, takes={}, gives=None)
    with caplog.at_level(logging.DEBUG, logger="groundwork.db.query"):
        call = QueryCall(query, Deadline(5.0), 10.0, in_transaction=True)
        with call:
            call.halve()
        assert not caplog.records
        with call:
            pass
    (record,) = caplog.records
    assert vars(record)["duration_ms"] == 3000


def test_a_call_that_fails_in_its_first_half_is_logged_at_once(caplog: pytest.LogCaptureFixture) -> None:
    query = NamedQuery("load_things", "", b"", is_read=False, takes={}, gives=None)
    call = QueryCall(query, Deadline(5.0), 10.0, in_transaction=True)
    with pytest.raises(ZeroDivisionError), call:
        raise ZeroDivisionError
    (record,) = caplog.records
    assert vars(record)["outcome"] == "ZeroDivisionError"
