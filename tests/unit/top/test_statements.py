"""Counters of pg_stat_statements become rates over the last seconds, and texts lose their literals."""

from __future__ import annotations

from typing import Any

import pytest

from ops.servers.statement_text import without_literals
from ops.top import statements
from ops.top.statements import Counters, StatementSampler, rates
from tests.cases import in_case
from tests.promises import promise

KEY = (10, 7, True)


@promise("top shows no literal and no comment of a statement")
def test_a_statement_is_shown_without_literals_and_comments() -> None:
    cases: list[tuple[str, str]] = [
        ("SELECT * FROM users WHERE email = 'ann@example.org'", "SELECT * FROM users WHERE email = ?"),
        ("ALTER ROLE x PASSWORD E'it\\'s'", "ALTER ROLE x PASSWORD ?"),
        ("DO $body$ secret $body$", "DO ?"),
        ("SELECT $1, 12.5, x'ff' -- secret", "SELECT $1, ?, x?"),
        ('SELECT /* token=secret */ "Name",\n  1e5', 'SELECT "Name", ?'),
        # pg_stat_activity cuts a statement in the middle of a literal.
        ("INSERT INTO users VALUES ('secr", "INSERT INTO users VALUES (?"),
        ("SELECT /* secr", "SELECT ?"),
        ("DO $body$ secr", "DO ?"),
    ]
    for query, shown in cases:
        with in_case(query, shown):
            assert without_literals(query) == shown


def test_rates_are_differences_and_the_most_load_comes_first() -> None:
    before = {KEY: Counters(10, 100.0, 10, 0, 0), (10, 8, True): Counters(5, 5.0, 5, 0, 0)}
    after = {
        KEY: Counters(20, 600.0, 30, 90, 10),
        (10, 8, True): Counters(5, 5.0, 5, 0, 0),
        (10, 9, True): Counters(2, 1000.0, 0, 0, 0),
    }
    slow, quick = rates(before, after, 2.0)
    assert (slow["queryid"], slow["load"], slow["mean_ms"]) == (9, 0.5, 500.0)
    assert (quick["queryid"], quick["load"], quick["calls_per_second"]) == (7, 0.25, 5.0)
    assert (quick["rows_per_second"], quick["buffer_hit_rate"]) == (10.0, 90.0)


def test_a_statement_that_was_evicted_is_counted_from_zero() -> None:
    (found,) = rates({KEY: Counters(100, 900.0, 0, 0, 0)}, {KEY: Counters(4, 8.0, 0, 0, 0)}, 2.0)
    assert (found["calls_per_second"], found["mean_ms"]) == (2.0, 2.0)


class _Server:
    """pg_stat_statements with one statement, and a clock. `texts` counts how often texts are read."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls, self.reset, self.now, self.texts = 0, "r1", 0.0, 0
        monkeypatch.setattr(statements.time, "monotonic", lambda: self.now)

    def rows(self, query: str, **_: object) -> list[dict[str, Any]]:
        if "stats_reset" in query:
            return [{"stats_reset": self.reset}]
        if "showtext" in query:
            names = ("rows", "shared_blks_hit", "shared_blks_read")
            key = {"userid": KEY[0], "queryid": KEY[1], "toplevel": KEY[2]}
            return [
                key | {"calls": self.calls, "total_exec_time": 1.0 * self.calls} | dict.fromkeys(names, 0)
            ]
        self.texts += 1
        return [{"queryid": KEY[1], "userid": KEY[0], "login": "app_a", "query": "SELECT 1"}]


def test_a_reset_or_a_restart_between_two_readings_gives_no_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    server = _Server(monkeypatch)
    sampler = StatementSampler(server.rows)
    found = []
    # The reset and the restart come with the third and the fifth reading.
    for epoch, reset in (("e1", "r1"), ("e1", "r1"), ("e1", "r2"), ("e1", "r2"), ("e2", "r2"), ("e2", "r2")):
        server.now, server.calls, server.reset = server.now + 1, server.calls + 10, reset
        found.append(sampler.read(epoch))
    assert [rows and rows[0]["calls_per_second"] for rows in found] == [None, 10.0, None, 10.0, None, 10.0]
    assert server.texts == 1


def test_rates_are_means_over_the_window(monkeypatch: pytest.MonkeyPatch) -> None:
    server = _Server(monkeypatch)
    sampler = StatementSampler(server.rows)
    for _ in range(30):
        server.now, server.calls = server.now + 1, server.calls + 10
        sampler.read("e")
    assert sampler.seconds == statements.WINDOW_SECONDS
    # With an interval longer than the window, two readings are compared.
    server.now += 60
    assert sampler.read("e") == []
    assert sampler.seconds == 60
