# Generated from db/_async/connection.py by scripts/generate_sync.py; edit that, not this.
"""A psycopg connection on which no operation waits past the deadline of its call.

It relies on private names of psycopg 3.3: `wait(timeout=...)`, `waiting.wait`, `_WaitTimeout`, `copy_end`, and
`_tx` and `_last_query` of a cursor. Tests in tests/unit/db check them.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Mapping
from functools import partial
from select import POLLIN, poll
from time import monotonic
from traceback import clear_frames
from typing import Any, Self, TypeVar

import psycopg
from psycopg import errors as sql_errors
from psycopg import waiting
from psycopg.abc import PQGen
from psycopg.adapt import Transformer
from psycopg.copy import LibpqWriter
from psycopg.generators import copy_end
from psycopg.pq import ConnStatus, TransactionStatus
from psycopg.pq.abc import PGresult
from psycopg.rows import BaseRowFactory, TupleRow

from cache.forking import connecting
from cache.synchronization import completed
from db.deadline import Deadline
from db.hosts import Attempt, Hosts, merged
from db.login import LoginAttempts
from db.named_query import NamedQuery
from db.rows import BEGINNING
from db.session import REPAIR, is_pinned
from db.translation import DeadlinePassed, NotReplicated, ServerDemoted, note_unreplicated, unreadable

_T = TypeVar("_T")
# Limit for the pool's own work (rollback, checks), which has no caller and no deadline.
_UNATTENDED_SECONDS = 2.0
# Limit for sending a cancel request to the server after the calling task was cancelled.
_CANCEL_SECONDS = 1.0
# Limit for the answer to the statement of a cancelled task. After it the connection is closed.
_CANCELLED_SECONDS = 2.0
_WAIT_INTERVAL = 0.1
# psycopg's limit of prepared statements on a connection.
_MAX_TRANSFORMERS = 100
_logger = logging.getLogger("groundwork.db.pool")


class BoundedConnection(psycopg.Connection[TupleRow]):
    """A connection on which each wait ends at `deadline`. A connection whose deadline passed is closed."""

    deadline: Deadline | None = None
    _poller: poll | None = None
    _deallocations = 0
    # Gets an entry if this connection is deleted while it is open, so that its pool replaces it at once.
    doubts: deque[None] | None = None
    # Learns from the errors of this connection whether it leads to the primary.
    hosts: Hosts | None = None
    # The connection belongs to the parent of this process, and nothing may be sent on it.
    is_inherited = False
    # What the server of a connection to a replica has replayed at least, and when it last answered (monotonic).
    replayed = BEGINNING
    replayed_at = -1.0
    # The answer to a COPY whose rows were sent, until the answer is read.
    unanswered: CopyAnswer | None = None
    # If its task is cancelled, let the server finish the statement instead of cancelling it.
    is_finishing = False

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        # What psycopg has found out about the types of each query, by the query's text.
        self._transformers: dict[bytes, Any] = {}
        # Not empty if a commit was answered although its wait for a replica was cancelled.
        self._unreplicated: deque[None] = deque()
        # Not a method, because a connection that refers to itself is not deleted when its caller loses it.
        self.add_notice_handler(partial(note_unreplicated, self._unreplicated))

    def __del__(self, *arguments: Any) -> None:
        if self.doubts is not None and not self.closed:
            self.doubts.append(None)
        super().__del__(*arguments)

    @classmethod
    def connect(cls, conninfo: str = "", **options: Any) -> Self:
        """Connect as psycopg does, and release the socket of a failed attempt at once.

        The error's traceback refers to the socket. Until the error is garbage-collected, the server would keep a
        session that no client uses. The option `attempts` is the LoginAttempts to report the result to. `hosts` decides
        in which order to try the servers of `conninfo`.
        """
        attempts: LoginAttempts | None = options.pop("attempts", None)
        hosts: Hosts = options.pop("hosts", None) or Hosts()
        try:
            connection = cls._connect(hosts, conninfo, options)
            if not is_pinned(connection.pgconn):
                connection._repair()
        except BaseException as error:
            clear_frames(error.__traceback__)
            if attempts is not None and isinstance(error, psycopg.Error):
                attempts.failed(error)
            raise
        if attempts is not None:
            attempts.succeeded()
        return connection

    @classmethod
    def _connect(cls, hosts: Hosts, conninfo: str, options: dict[str, Any]) -> Self:
        """Return a connection to the first server that accepts one. Each has the whole `connect_timeout`."""
        failures: list[tuple[Attempt, psycopg.Error]] = []
        for attempt in hosts.attempts(conninfo):
            try:
                with connecting():
                    connection = super().connect(attempt.conninfo, **options)
            except psycopg.Error as error:
                clear_frames(error.__traceback__)
                hosts.failed(attempt, error)
                failures.append((attempt, error))
            else:
                hosts.connected(attempt)
                return connection
        raise merged(failures)

    def _repair(self) -> None:
        """Set the session's settings, which a PG* variable or a pooler has changed."""
        try:
            self.execute(REPAIR)
            if not self.autocommit:
                self.commit()
        except BaseException:
            self.pgconn.finish()
            raise

    def send_copy(self, sql: bytes, rows: bytes) -> CopyAnswer:
        """Send a COPY with its rows, and return while the server stores them.

        The connection can be used at once: the next operation reads the answer first. If the COPY failed, that
        operation fails too, because the transaction is aborted.
        """
        answer = CopyAnswer(self)
        with self.cursor() as cursor:
            with cursor.copy(sql, writer=_CopyWriter(cursor, answer)) as copy:
                copy.write(rows)
        return answer

    def wait(self, gen: PQGen[_T], interval: float = _WAIT_INTERVAL, timeout: float | None = None) -> _T:
        if self.unanswered is not None:
            self.unanswered.read()
        deadline = self.deadline
        left = _UNATTENDED_SECONDS if deadline is None else deadline.ends_at - monotonic()
        if left < 0.0:
            left = 0.0
        bounded_by_us = timeout is None or left < timeout
        seconds = left if bounded_by_us else timeout
        try:
            # Not psycopg's method: a task that is cancelled twice would close the connection.
            result = waiting.wait(gen, self.pgconn.socket, interval=interval, timeout=seconds)
        except sql_errors._WaitTimeout as error:
            if not bounded_by_us:
                raise
            # A late answer must not reach the next caller.
            self.pgconn.finish()
            if self.hosts is not None:
                self.hosts.is_silent = True
            raise DeadlinePassed("the call's deadline passed") from error
        except BaseException as error:
            self._unreplicated.clear()
            if isinstance(error, psycopg.Error):
                if self._is_demoted(error):
                    self.pgconn.finish()
                    raise ServerDemoted("the server is a replica now") from error
            elif self.pgconn.transaction_status == TransactionStatus.ACTIVE:
                if isinstance(error, Exception | GeneratorExit):
                    # Of a signal handler, or the event loop has ended.
                    self.pgconn.finish()
                else:
                    completed(self._end_statement, gen)
            raise
        if self._unreplicated:
            self._unreplicated.clear()
            raise NotReplicated("the wait for a replica was cancelled")
        return result

    def _is_demoted(self, error: psycopg.Error) -> bool:
        created_at = getattr(self, "_created_at", 0.0)
        return self.hosts is not None and self.hosts.leads_to_replica(self.pgconn, created_at, error)

    def _end_statement(self, gen: PQGen[Any]) -> None:
        """Read the answer to a statement whose task was cancelled, or close the connection."""
        try:
            if not self.is_finishing:
                self._try_cancel()
            waiting.wait(gen, self.pgconn.socket, interval=_WAIT_INTERVAL, timeout=_CANCELLED_SECONDS)
        except psycopg.Error:
            # The answer, most often that the statement was cancelled. Otherwise there is none.
            if self.pgconn.transaction_status == TransactionStatus.ACTIVE:
                self.pgconn.finish()
        except BaseException:
            self.pgconn.finish()
            raise

    def _try_cancel(self, *, timeout: float = 5.0) -> None:
        # Unlike psycopg's method, it raises: the connection is then closed without waiting for the answer.
        self.cancel_safe(timeout=min(timeout, _CANCEL_SECONDS))

    def fetch(
        self, query: NamedQuery, parameters: Mapping[str, Any], row_factory: BaseRowFactory[_T]
    ) -> list[_T]:
        """Execute a query and return all rows of its result."""
        # A new cursor finds out how to convert each parameter and column, which takes a third of a short query's time.
        # The Transformer is removed meanwhile, so that an interrupted call does not leave it half changed.
        transformer = self._transformers.pop(query.sql, None)
        if transformer is None:
            # Made from the adapters, because a Transformer made from a cursor refers to the connection. A connection
            # that refers to itself is not deleted when its caller loses it. Encoding and time zone are psycopg's
            # defaults, which are those of the session.
            transformer = Transformer(self.adapters)
        cursor = psycopg.Cursor(self, row_factory=row_factory)
        cursor._tx, cursor._last_query = transformer, query.sql
        if self.pgconn.transaction_status != TransactionStatus.IDLE:
            # The repair below is not possible inside a transaction, and unprepared statements do not need it.
            cursor.execute(query.sql, parameters, prepare=False)
        else:
            try:
                cursor.execute(query.sql, parameters, prepare=True)
            except (sql_errors.FeatureNotSupported, sql_errors.InvalidSqlStatementName):
                # 0A000: a migration changed the result type of a prepared statement. 26000: the server does not know
                # the statement. Either would fail on this connection every time. Nothing was executed, so writes may
                # be sent again too.
                _logger.info("prepared statements are out of date; preparing them again")
                self.deallocate_all()
                cursor.execute(query.sql, parameters, prepare=True)
        try:
            rows = [] if query.gives is None else cursor.fetchall()
        except (psycopg.Error, ValueError, ArithmeticError, RecursionError) as error:
            # The answer is here already, so only converting it has failed. The last three are those of JSON.
            raise unreadable(error, query, [column.name for column in cursor.description or ()]) from error
        # Otherwise the Transformer would keep the result in memory.
        transformer.set_pgresult(None)
        if len(self._transformers) < _MAX_TRANSFORMERS:
            self._transformers[query.sql] = transformer
        return rows

    def answers(self, deadline: Deadline) -> bool:
        """Return whether the server still answers on this connection; close the connection if not."""
        self.deadline = deadline
        try:
            self.execute("", prepare=False)
        except psycopg.Error:
            self.pgconn.finish()
        return not self.closed

    def discard(self) -> None:
        """Close the connection once no task of the transaction waits for an answer.

        psycopg reads freed memory if a connection is closed during a statement.
        """
        with self.lock:
            self.pgconn.finish()

    def deallocate_all(self) -> None:
        """Drop every prepared statement, on the server and in psycopg's cache.

        psycopg clears its cache only for a statement whose text it has not seen on this connection, so each call sends
        a different text.
        """
        self._deallocations += 1
        self.execute(f"DEALLOCATE ALL -- {self._deallocations}".encode(), prepare=False)

    def is_quiet(self) -> bool:
        """Return whether no data has arrived since the last answer, without a round trip.

        Data on an idle connection usually means that the server has closed it or is shutting down.
        """
        # Faster than `closed`. Every call does this check.
        if self.pgconn.status == ConnStatus.BAD:
            return False
        if self._poller is None:
            self._poller = poll()
            self._poller.register(self.pgconn.socket, POLLIN)
        return not self._poller.poll(0)


class CopyAnswer:
    """The server's answer to a COPY, which says whether the rows are stored."""

    def __init__(self, connection: BoundedConnection) -> None:
        self._connection = connection
        self.error: psycopg.Error | None = None

    def start(self) -> None:
        """Tell the server that all rows were sent."""
        pgconn = self._connection.pgconn
        self._end = copy_end(pgconn, None)
        self._connection.unanswered = self
        # The generator first gives the message to libpq, which sends it at once if the socket has room for it.
        self._first = next(self._end)

    def read(self) -> None:
        """Wait for the answer, and keep its error. Idempotent."""
        if self._connection.unanswered is self:
            self._connection.unanswered = None
            try:
                self._connection.wait(self._rest())
            except psycopg.Error as error:
                self.error = error

    def end(self) -> None:
        """Wait for the answer, and raise its error."""
        with self._connection.lock:
            self.read()
        if self.error is not None:
            raise self.error

    def _rest(self) -> PQGen[PGresult]:
        """Continue the generator that `start` has started."""
        wanted = self._first
        try:
            while True:
                wanted = self._end.send((yield wanted))
        except StopIteration as end:
            result: PGresult = end.value
            return result


class _CopyWriter(LibpqWriter):
    """Sends the rows of a COPY, and does not wait for the answer."""

    def __init__(self, cursor: psycopg.Cursor[Any], answer: CopyAnswer) -> None:
        super().__init__(cursor)
        self._answer = answer

    def finish(self, exc: BaseException | None = None) -> None:
        if exc is None:
            self._answer.start()
        else:
            super().finish(exc)
