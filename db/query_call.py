"""One call of a named query: time it, log it, and translate the driver's errors.

The log has one structured record per call, with name, duration and outcome, never the parameters.
"""

from __future__ import annotations

import logging
from functools import cache
from time import perf_counter
from types import TracebackType
from typing import Self

import psycopg

from db.deadline import Deadline
from db.metrics import QUERY_SECONDS
from db.named_query import NamedQuery
from db.translation import translate

_logger = logging.getLogger("groundwork.db.query")

# Cached because finding a histogram by its labels takes longer than observing. There are few labels.
_seconds_of = cache(QUERY_SECONDS.labels)


class QueryRecord:
    """Times one call of a named query, including its retry, until `finish`."""

    __slots__ = ("_paused", "_query", "_slow_seconds", "_started", "attempts")

    def __init__(self, query: str, slow_seconds: float) -> None:
        self._query = query
        self._slow_seconds = slow_seconds
        self._started = perf_counter()
        self.attempts = 1

    def pause(self) -> None:
        """Stop the clock until `resume`."""
        self._paused = perf_counter()

    def resume(self) -> None:
        """Continue after `pause`."""
        self._started += perf_counter() - self._paused

    def finish(self, outcome: str, sqlstate: str | None = None) -> None:
        """Log and observe the call. `outcome` is `ok` or the name of the error's class.

        Failed calls are logged as WARNING, slow ones as INFO, others as DEBUG.
        """
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


class QueryCall(QueryRecord):
    """Context manager around one call of a query, or around each of the two halves of a call.

    It is a class because a generator takes a large part of a short query's time.
    """

    __slots__ = ("_in_transaction", "_is_half", "_named", "_seconds")

    def __init__(
        self, query: NamedQuery, deadline: Deadline, slow_seconds: float, *, in_transaction: bool
    ) -> None:
        super().__init__(query.name, slow_seconds)
        self._named = query
        self._seconds = deadline.seconds
        self._in_transaction = in_transaction
        self._is_half = False

    def halve(self) -> None:
        """Make this block the first half of the call. The next block of this object is the second half.

        The time between them does not count, and an error in the first half ends the call.
        """
        self._is_half = True

    def repeated(self) -> None:
        """Record that the query is sent a second time."""
        self.attempts = 2

    def __enter__(self) -> Self:
        if self._is_half:
            self._is_half = False
            self.resume()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None and self._is_half:
            self.pause()
        elif error is None:
            self.finish("ok")
        elif isinstance(error, psycopg.Error):
            translated = translate(error, self._named, self._seconds, in_transaction=self._in_transaction)
            self.finish(type(translated).__name__, translated.sqlstate)
            raise translated from error
        else:
            self.finish(type(error).__name__)
