# Generated from db/_async/transaction.py by scripts/generate_sync.py; edit that, not this.
"""A transaction under way: its connection, and what the cache is told once it is committed.

It belongs to the task (or thread) that opened it, by a context variable: repositories need no argument for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar

import psycopg

from db._sync.connection import BoundedConnection
from db.deadline import Deadline
from db.errors import DbError, OutcomeUnknown, TransactionAborted, TransactionOver
from db.named_query import queries
from db.translation import translate

Effect = Callable[[], object]
_QUERIES = queries("transaction")
# How long taking a failed transaction back may take; then the connection is closed, which does it too.
_ROLLBACK_SECONDS = 1.0


class Transaction:
    """One transaction of one pool.

    `effects` holds for each write what tells the cache of it, and what makes the cache forget it where nobody
    knows whether it was committed.
    """

    def __init__(
        self,
        pool: object,
        connection: BoundedConnection,
        deadline_seconds: float,
        deadline: Deadline | None = None,
    ) -> None:
        """`deadline` is that of all its statements together; without one each has `deadline_seconds`."""
        self.connection = connection
        self.deadline = deadline
        self.effects: list[tuple[Effect, Effect]] = []
        self.is_over = False
        self.pool = pool
        # That of another pool around it.
        self.outer = _current.get()
        self._deadline_seconds = deadline_seconds

    @contextmanager
    def run(self) -> Iterator[None]:
        """Begin; this task's until the block's end; commit, or roll back where an error leaves the block."""
        self._control("begin_transaction")
        _current.set(self)
        try:
            yield
        except BaseException:
            self._roll_back()
            raise
        else:
            self._commit()
        finally:
            # For the tasks that were started in it and have outlived it.
            self.is_over = True
            _current.set(self.outer)

    @contextmanager
    def savepoint(self) -> Iterator[None]:
        """A part that can fail by itself: an error that leaves the block takes back what was done in it."""
        effects = len(self.effects)
        self._control("make_savepoint")
        try:
            yield
        except BaseException:
            del self.effects[effects:]
            # Where the connection is lost, the outer block's end tells.
            with suppress(DbError):
                self._control("roll_back_savepoint")
                self._control("release_savepoint")
            raise
        self._control("release_savepoint")

    def _control(self, name: str) -> str:
        """Send a statement of transaction control; returns the server's command tag."""
        query = _QUERIES[name]
        deadline = self.deadline or Deadline(self._deadline_seconds)
        self.connection.deadline = deadline
        try:
            cursor = self.connection.execute(query.sql, prepare=False)
        except psycopg.Error as error:
            is_commit = name == "commit_transaction"
            raise translate(error, query, deadline.seconds, in_transaction=not is_commit) from error
        return cursor.statusmessage or ""

    def _commit(self) -> None:
        try:
            tag = self._control("commit_transaction")
        except OutcomeUnknown:
            for _, forget in self.effects:
                forget()
            raise
        # So the server answers the COMMIT of a transaction with a failed statement, and with no error.
        if tag == "ROLLBACK":
            raise TransactionAborted()

    def _roll_back(self) -> None:
        if self.connection.closed:
            return
        self.connection.deadline = Deadline(_ROLLBACK_SECONDS)
        try:
            self.connection.execute(_QUERIES["roll_back_transaction"].sql, prepare=False)
        except psycopg.Error:
            self.connection.pgconn.finish()


_current: ContextVar[Transaction | None] = ContextVar("groundwork_async_transaction", default=None)

# This task's innermost transaction, of whatever pool: what a read that must be fast asks first.
innermost_transaction = _current.get


def current_transaction(pool: object) -> Transaction | None:
    """This task's transaction of `pool`. TransactionOver in a task that has outlived the one it was started in."""
    transaction = innermost_transaction()
    while transaction is not None and transaction.pool is not pool:
        transaction = transaction.outer
    if transaction is not None and transaction.is_over:
        raise TransactionOver()
    return transaction
