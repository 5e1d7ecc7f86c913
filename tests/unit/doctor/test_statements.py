"""Statements of other sessions are shown without literals, which may be secrets."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from ops.doctor import sessions
from ops.doctor.check_result import CheckResult
from ops.doctor.thresholds import Thresholds
from tests.promises import promise

STATEMENT = "ALTER ROLE app PASSWORD 'hunter2' -- hunter2"
WAIT = {
    "pid": 1, "usename": "app", "query": STATEMENT, "seconds": 3600.0, "what": "users",
    "holder_pid": 2, "holder": "app", "holder_state": "active", "holder_application": "", "holder_query": STATEMENT,
}  # fmt: skip
# The holder has ended meanwhile.
GONE = WAIT | {"holder_query": None}
TRANSACTION = {
    "pid": 1, "usename": "app", "state": "active", "application_name": "", "query": STATEMENT, "seconds": 7200.0,
    "usage": 0.9,
}  # fmt: skip


@promise("doctor and the report show no literal and no comment of a statement")
@pytest.mark.parametrize(
    ("check", "row", "shown"),
    [
        (sessions.locks, WAIT, 2),
        (sessions.locks, GONE, 1),
        (sessions.long_transactions, TRANSACTION, 1),
        (sessions.notify_queue, TRANSACTION, 1),
    ],
)
def test_a_finding_shows_statements_without_literals_and_comments(
    check: Any, row: dict[str, Any], shown: int
) -> None:
    examination = SimpleNamespace(
        postgres=SimpleNamespace(rows=lambda _: [row]),
        thresholds=Thresholds(),
    )
    found: CheckResult = check(examination)
    (line,) = found.details
    assert line.count("ALTER ROLE app PASSWORD ?") == shown
    assert "hunter2" not in line
