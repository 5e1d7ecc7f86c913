# Generated from db/_async/transaction.py by scripts/generate_sync.py; edit that, not this.
"""A transaction under way: its connection, and what the cache is told once it is committed.

It belongs to the task (or thread) that opened it, and to those started in it, by a context variable: repositories
need no argument for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar

import psycopg

from db._sync.connection import BoundedConnection
from db.deadline import Deadline
from db.errors import DbError, OutcomeUnknown, TransactionAborted, TransactionBusy, TransactionOver
from db.named_query import queries
from db.translation import translate

Effect = Callable[[], object]
_QUERIES = queries("transaction")
# How long taking a failed transaction back may take; then the connection is closed, which does it too.
_ROLLBACK_SECONDS = 1.0


class Block:
    """The inside of one `async with`: of a transaction, or of a savepoint in it; `outer` is the block around it.

    `effects` holds for each write in it what tells the cache of it, and what makes the cache forget it where nobody
    knows whether it was committed.
    """

    def __init__(self, transaction: Transaction, outer: Block | None) -> None:
        self.transaction = transaction
        self.outer = outer
        self.effects: list[tuple[Effect, Effect]] = []
        self.is_over = False


class Transaction:
    """One transaction of one pool."""

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
        self.pool = pool
        # The outer one may be another pool's.
        self.block = Block(self, innermost_block())
        # What a rollback to the last savepoint would take back: only who is in this block may write meanwhile.
        self.innermost = self.block
        self._deadline_seconds = deadline_seconds

    @contextmanager
    def run(self) -> Iterator[None]:
        """Begin; this task's until the block's end; commit, or roll back where an error leaves the block."""
        self._control("begin_transaction")
        _current.set(self.block)
        try:
            yield
        except BaseException:
            self._roll_back()
            raise
        else:
            self._commit()
        finally:
            # For the tasks that were started in it and have outlived it.
            self.block.is_over = True
            _current.set(self.block.outer)

    @contextmanager
    def savepoint(self) -> Iterator[None]:
        """A part that can fail by itself: an error that leaves the block takes back what was done in it."""
        around, outer = self.innermost, innermost_block()
        block = Block(self, outer)
        # Before it is made: what others send from now on would be inside.
        self.innermost = block
        try:
            self._control("make_savepoint")
            _current.set(block)
            try:
                yield
            except BaseException:
                # Where the connection is lost, the outer block's end tells.
                with suppress(DbError):
                    self._control("roll_back_savepoint")
                    self._control("release_savepoint")
                raise
            self._control("release_savepoint")
            around.effects += block.effects
        finally:
            block.is_over = True
            self.innermost = around
            _current.set(outer)

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
            for _, forget in self.block.effects:
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


_current: ContextVar[Block | None] = ContextVar("groundwork_async_transaction", default=None)

# This task's innermost block, of whatever pool's transaction: what a read that must be fast asks first.
innermost_block = _current.get


def current_block(pool: object) -> Block | None:
    """This task's block of a transaction of `pool`. TransactionOver in a task that has outlived the block."""
    block = innermost_block()
    while block is not None and block.transaction.pool is not pool:
        block = block.outer
    if block is not None and block.is_over:
        raise TransactionOver()
    return block


def current_transaction(pool: object) -> Transaction | None:
    """This task's transaction of `pool`, which it may use now.

    TransactionOver as above; TransactionBusy while another task is in a savepoint of it.
    """
    block = current_block(pool)
    if block is None:
        return None
    if block.transaction.innermost is not block:
        raise TransactionBusy()
    return block.transaction
