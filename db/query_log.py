"""One structured record a query: its name, duration and outcome, never its parameters."""

from __future__ import annotations

import logging
from functools import cache
from time import perf_counter

from db.metrics import QUERY_SECONDS

_logger = logging.getLogger("groundwork.db.query")

# Of named queries and their outcomes there are few; finding each one's histogram takes longer than observing.
_seconds_of = cache(QUERY_SECONDS.labels)


class QueryRecord:
    """Times one call of a named query, retry included; `finish` writes it down."""

    __slots__ = ("_query", "_slow_seconds", "_started", "attempts")

    def __init__(self, query: str, slow_seconds: float) -> None:
        self._query = query
        self._slow_seconds = slow_seconds
        self._started = perf_counter()
        self.attempts = 1

    def finish(self, outcome: str, sqlstate: str | None = None) -> None:
        """Log and count it. `outcome` is `ok` or the error's class; only slow and failed calls are news."""
        seconds = perf_counter() - self._started
        _seconds_of(self._query, outcome).observe(seconds)
        if outcome != "ok":
            level = logging.WARNING
        elif seconds >= self._slow_seconds:
            level = logging.INFO
        else:
            level = logging.DEBUG
        if _logger.isEnabledFor(level):
            fields: dict[str, object] = {
                "query": self._query,
                "duration_ms": round(seconds * 1000, 3),
                "outcome": outcome,
                "attempts": self.attempts,
            }
            if sqlstate is not None:
                fields["sqlstate"] = sqlstate
            _logger.log(level, "query %s: %s", self._query, outcome, extra=fields)
