"""A psycopg connection on which nothing waits past its call's deadline.

It leans on `wait(timeout=...)` and `_WaitTimeout` of psycopg 3.3; tests/unit/db guards both.
"""

from __future__ import annotations

from select import POLLIN, poll
from traceback import clear_frames
from typing import Any, Self, TypeVar

import psycopg
from psycopg import errors as sql_errors
from psycopg.abc import PQGen
from psycopg.rows import TupleRow

from db.deadline import Deadline
from db.translation import DeadlinePassed

_T = TypeVar("_T")
# For what the pool does by itself: rollback and checks while no caller's deadline is set.
_UNATTENDED_SECONDS = 2.0
# How long a cancelled call may take to tell the server so.
_CANCEL_SECONDS = 1.0
_WAIT_INTERVAL = 0.1


class AsyncBoundedConnection(psycopg.AsyncConnection[TupleRow]):
    """A connection whose every wait ends by `deadline`; one that ran into it is closed."""

    deadline: Deadline | None = None
    _poller: poll | None = None

    @classmethod
    async def connect(cls, conninfo: str = "", **options: Any) -> Self:
        """As psycopg's, and an attempt that came to nothing is closed at once.

        Its error keeps the socket, and itself, by a frame of its traceback: until that garbage is collected, or for
        as long as a log keeps the error, the server would hold a session that is nobody's.
        """
        try:
            return await super().connect(conninfo, **options)
        except BaseException as error:
            clear_frames(error.__traceback__)
            raise

    async def wait(
        self, gen: PQGen[_T], interval: float = _WAIT_INTERVAL, timeout: float | None = None
    ) -> _T:
        left = _UNATTENDED_SECONDS if self.deadline is None else max(self.deadline.left(), 0.0)
        bounded_by_us = timeout is None or left < timeout
        try:
            return await super().wait(gen, interval, left if bounded_by_us else timeout)
        except sql_errors._WaitTimeout as error:
            if not bounded_by_us:
                raise
            # The answer may still come, and must not reach the next caller.
            self.pgconn.finish()
            raise DeadlinePassed("the call's deadline passed") from error

    async def _try_cancel(self, *, timeout: float = 5.0) -> None:
        # Unlike the base's, it raises: wait() then closes the connection instead of waiting 5 s more.
        await self.cancel_safe(timeout=min(timeout, _CANCEL_SECONDS))

    async def answers(self, deadline: Deadline) -> bool:
        """Whether the server still answers on this connection; it is closed where it does not."""
        self.deadline = deadline
        try:
            await self.execute("", prepare=False)
        except psycopg.Error:
            self.pgconn.finish()
        return not self.closed

    def is_quiet(self) -> bool:
        """Whether nothing has come since its last answer, told without a round trip.

        What comes on an idle connection is its end, or the server's word that it is ending; seldom a notice.
        """
        if self.closed:
            return False
        if self._poller is None:
            self._poller = poll()
            self._poller.register(self.pgconn.socket, POLLIN)
        return not self._poller.poll(0)
