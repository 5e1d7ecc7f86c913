# Generated from db/_async/connection.py by scripts/generate_sync.py; edit that, not this.
"""A psycopg connection on which no operation waits past the deadline of its call.

It relies on `wait(timeout=...)` and `_WaitTimeout` of psycopg 3.3; tests in tests/unit/db check both.
"""

from __future__ import annotations

from collections import deque
from select import POLLIN, poll
from traceback import clear_frames
from typing import Any, Self, TypeVar

import psycopg
from psycopg import errors as sql_errors
from psycopg.abc import PQGen
from psycopg.rows import TupleRow

from cache.forking import connecting
from db.deadline import Deadline
from db.login import LoginAttempts
from db.session import REPAIR, is_pinned
from db.translation import DeadlinePassed

_T = TypeVar("_T")
# Limit for the pool's own work (rollback, checks), which has no caller and no deadline.
_UNATTENDED_SECONDS = 2.0
# Limit for sending a cancel request to the server after the calling task was cancelled.
_CANCEL_SECONDS = 1.0
_WAIT_INTERVAL = 0.1


class BoundedConnection(psycopg.Connection[TupleRow]):
    """A connection on which each wait ends at `deadline`. A connection whose deadline passed is closed."""

    deadline: Deadline | None = None
    _poller: poll | None = None
    _deallocations = 0
    # Gets an entry if this connection is deleted while it is open, so that its pool replaces it at once.
    doubts: deque[None] | None = None
    # The connection belongs to the parent of this process, and nothing may be sent on it.
    is_inherited = False

    def __del__(self, *arguments: Any) -> None:
        if self.doubts is not None and not self.closed:
            self.doubts.append(None)
        super().__del__(*arguments)

    @classmethod
    def connect(cls, conninfo: str = "", **options: Any) -> Self:
        """Connect as psycopg does, and release the socket of a failed attempt at once.

        The error's traceback refers to the socket. Until the error is garbage-collected, the server would keep a
        session that no client uses. The option `attempts` is the LoginAttempts to report the result to.
        """
        attempts: LoginAttempts | None = options.pop("attempts", None)
        try:
            with connecting():
                connection = super().connect(conninfo, **options)
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

    def _repair(self) -> None:
        """Set the session's settings, which a PG* variable or a pooler has changed."""
        try:
            self.execute(REPAIR)
            if not self.autocommit:
                self.commit()
        except BaseException:
            self.pgconn.finish()
            raise

    def wait(self, gen: PQGen[_T], interval: float = _WAIT_INTERVAL, timeout: float | None = None) -> _T:
        left = _UNATTENDED_SECONDS if self.deadline is None else max(self.deadline.left(), 0.0)
        bounded_by_us = timeout is None or left < timeout
        try:
            return super().wait(gen, interval, left if bounded_by_us else timeout)
        except sql_errors._WaitTimeout as error:
            if not bounded_by_us:
                raise
            # A late answer must not reach the next caller.
            self.pgconn.finish()
            raise DeadlinePassed("the call's deadline passed") from error

    def _try_cancel(self, *, timeout: float = 5.0) -> None:
        # Unlike psycopg's method, it raises: wait() then closes the connection instead of waiting 5 s more.
        self.cancel_safe(timeout=min(timeout, _CANCEL_SECONDS))

    def answers(self, deadline: Deadline) -> bool:
        """Return whether the server still answers on this connection; close the connection if not."""
        self.deadline = deadline
        try:
            self.execute("", prepare=False)
        except psycopg.Error:
            self.pgconn.finish()
        return not self.closed

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
        if self.closed:
            return False
        if self._poller is None:
            self._poller = poll()
            self._poller.register(self.pgconn.socket, POLLIN)
        return not self._poller.poll(0)
