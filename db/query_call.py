"""One call of a named query: timed, written down, and the driver's errors turned into ours."""

from __future__ import annotations

from types import TracebackType
from typing import Self

import psycopg

from db.deadline import Deadline
from db.named_query import NamedQuery
from db.query_log import QueryRecord
from db.translation import translate


class QueryCall:
    """A context: what is done in it is the call. A class, for a generator costs a good part of a short query."""

    __slots__ = ("_in_transaction", "_query", "_record", "_seconds")

    def __init__(
        self, query: NamedQuery, deadline: Deadline, slow_seconds: float, *, in_transaction: bool
    ) -> None:
        self._query = query
        self._seconds = deadline.seconds
        self._in_transaction = in_transaction
        self._record = QueryRecord(query.name, slow_seconds)

    def repeated(self) -> None:
        """It is sent a second time."""
        self._record.attempts = 2

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None:
            self._record.finish("ok")
        elif isinstance(error, psycopg.Error):
            translated = translate(error, self._query, self._seconds, in_transaction=self._in_transaction)
            self._record.finish(type(translated).__name__, translated.sqlstate)
            raise translated from error
        else:
            self._record.finish(type(error).__name__)
