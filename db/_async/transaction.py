"""An open transaction: its connection, and the cache updates to run after COMMIT.

A context variable holds the transaction, so that repositories need no argument for it. It belongs to the task (or
thread) that opened it and to the tasks started in it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from contextvars import ContextVar

import psycopg
from psycopg.pq import TransactionStatus

from cache.scope import Scope, innermost
from cache.synchronization import AsyncTurn, async_completed
from db._async.connection import AsyncBoundedConnection
from db._async.driver_pool import Lease
from db.deadline import Deadline, chosen_deadline, nearer
from db.errors import (
    ConnectionLost,
    DbError,
    OutcomeUnknown,
    TransactionAborted,
    TransactionBusy,
    TransactionOver,
)
from db.isolation import DEFAULT, Isolation
from db.named_query import queries
from db.translation import DeadlinePassed, translate

Effect = Callable[[], Awaitable[object]]
_QUERIES = queries("transaction")
# Limit for ROLLBACK. After it the connection is closed, which rolls back too.
_ROLLBACK_SECONDS = 1.0
_ABANDONED = (
    "a generator that yields inside transaction() was left early and closed by another task, so all writes inside were"
    " rolled back; close it with contextlib.aclosing"
)


class AsyncBlock(Scope):
    """The body of one `async with`, for a transaction or for a savepoint in it. `outer` is the enclosing block.

    `effects` holds two callbacks for each write: one updates the cache after COMMIT, the other invalidates the entry
    if the outcome of COMMIT is unknown.
    """

    def __init__(self, transaction: AsyncTransaction, outer: AsyncBlock | None) -> None:
        super().__init__(outer)
        self.transaction = transaction
        self.effects: list[tuple[Effect, Effect]] = []
        self.has_written = False
        self.is_undone = False
        # The server has answered that it has undone the block.
        self.is_rolled_back = False
        # It is not known what of the block the server has executed, so the block cannot be kept.
        self.is_doubtful = False
        # The number of the transaction's blocks around this one, which is part of the savepoint's name.
        self.depth = 0
        # The savepoint of the last nested block is still open on the server, although the block has ended.
        self.has_open_savepoint = False

    def undo(self) -> None:
        """Refuse further calls of the block, and those that wait for the connection: it will be rolled back."""
        self.is_over = self.is_undone = True


class AsyncTransaction:
    """One transaction of one pool."""

    def __init__(
        self,
        pool: object,
        lease: Lease,
        deadline_seconds: float,
        deadline: Deadline | None = None,
        isolation: Isolation = DEFAULT,
    ) -> None:
        """`deadline` covers all statements together; without it, each has `deadline_seconds`."""
        self._lease = lease
        self.isolation = isolation
        self.deadline = deadline
        self.pool = pool
        # The outer block may be of another pool.
        self.block = AsyncBlock(self, innermost_block())
        # The block of the last savepoint. Only its task may write, because a rollback to the savepoint undoes all
        # writes that follow it.
        self.innermost = self.block
        # Run after COMMIT or ROLLBACK.
        self.repairs: list[Effect] = []
        self._deadline_seconds = deadline_seconds
        # Each task waits for its turn before it sets the connection's deadline, and no longer than its own deadline.
        self._turn = AsyncTurn()

    @property
    def connection(self) -> AsyncBoundedConnection:
        """The transaction's connection. Raises TransactionOver if it is back in the pool, where others may use it."""
        try:
            return self._lease[0]
        except IndexError:
            raise TransactionOver() from None

    async def begin_call(self, name: str, deadline: Deadline) -> AsyncBoundedConnection:
        """Wait until no other task uses the connection, and return it for query `name`, until `end_call`.

        Raises DeadlineExceeded if the deadline passes first, and TransactionOver if the caller's block ends first.
        """
        block = current_block(self.pool)
        await self._take_turn(name, deadline)
        try:
            if block is None or block.is_over:
                raise TransactionOver()
            connection = self._open_connection()
        except BaseException:
            self._turn.release()
            raise
        connection.deadline = deadline
        return connection

    async def _take_turn(self, name: str, deadline: Deadline) -> None:
        if not await self._turn.take(deadline.left()):
            raise deadline.passed_while_waiting(name)

    def end_call(self) -> None:
        """Let the next task use the connection."""
        self._turn.release()

    def wrote(self) -> None:
        """Note that a write of this task has succeeded. Raises TransactionOver if it is being rolled back."""
        block = self._block()
        if block is None or block.is_undone or self.block.is_undone:
            raise TransactionOver(
                "the transaction() was rolled back while a write ran in it; nothing was changed"
            )
        block.has_written = True

    def doubt(self) -> None:
        """Note that a write of this task was interrupted, and may have been executed. Its block will be undone."""
        block = self._block()
        if block is not None:
            block.is_doubtful = True

    def _block(self) -> AsyncBlock | None:
        """Return this task's innermost block of this transaction."""
        block = innermost_block()
        while block is not None and block.transaction is not self:
            block = block.outer
        return block

    def _open_connection(self) -> AsyncBoundedConnection:
        """Return the connection. Raises TransactionOver if nothing may be sent on it any more."""
        if self.block.is_over or self.connection.is_inherited:
            raise TransactionOver()
        return self.connection

    @asynccontextmanager
    async def run(self) -> AsyncIterator[None]:
        """Begin the transaction, run the block in it, and commit; roll back if an exception leaves the block."""
        # Ended twice, because a signal handler may raise inside the first `finally`.
        try:
            try:
                begin = _QUERIES["begin_transaction"].sql
                await self._control("begin_transaction", begin + self.isolation.clause)
                self.block.enter(_current)
                yield
            except BaseException:
                await self._roll_back()
                raise
            else:
                await self._commit()
            finally:
                self._end(self.block)
        finally:
            self._end(self.block)
            for repair in self.repairs:
                await repair()

    @asynccontextmanager
    async def savepoint(self) -> AsyncIterator[None]:
        """Run the block in a savepoint: an exception that leaves it undoes only this block.

        The end of the block sends nothing, so that no exception can arrive between its end on the server and its end
        here. The savepoint stays open until the next one of its depth, or until the block around it ends.
        """
        around = self.innermost
        block = AsyncBlock(self, innermost_block())
        block.depth = around.depth + 1
        is_made = False
        try:
            # Ended twice, because a signal handler may raise inside the first `finally`.
            try:
                try:
                    # Set before SAVEPOINT is sent, because another task's statement could already run inside it.
                    self.innermost = block
                    self._next_deadline().require("make_savepoint")
                    await self._make_savepoint(block, around)
                    is_made = True
                    try:
                        block.enter(_current)
                        yield
                        self._require_whole(block)
                        await self._end_savepoint(block)
                    except BaseException:
                        # If the connection is lost, the end of the outer block reports it.
                        with suppress(DbError):
                            await self._undo(block)
                        raise
                    finally:
                        around.has_open_savepoint = True
                    around.effects += block.effects
                    around.has_written |= block.has_written
                finally:
                    self._end(block, around)
            finally:
                self._end(block, around)
        except BaseException:
            # The server has not said that it has undone the block, but its caller takes it for undone.
            if is_made and not block.is_rolled_back:
                around.is_doubtful = True
            raise

    async def _make_savepoint(self, block: AsyncBlock, around: AsyncBlock) -> None:
        """Create the block's savepoint, and release that of the block before it in the same round trip."""
        sql = self._savepoint("make_savepoint", block)
        if around.has_open_savepoint:
            sql = self._savepoint("release_savepoint", block) + b"; " + sql
        # Not true any more, also after an error. Then there may be two of the same name, and the later one counts.
        around.has_open_savepoint = False
        await self._control("make_savepoint", sql)

    @staticmethod
    def _savepoint(name: str, block: AsyncBlock) -> bytes:
        """Return the statement with the name of the block's savepoint, which differs from those around it."""
        return b"%s_%d" % (_QUERIES[name].sql, block.depth)

    def _require_whole(self, block: AsyncBlock) -> None:
        """Raise TransactionAborted if a statement failed or was interrupted, and the block caught the error."""
        if block.is_doubtful or self.connection.pgconn.transaction_status == TransactionStatus.INERROR:
            raise TransactionAborted()

    async def _end_savepoint(self, block: AsyncBlock) -> None:
        """Wait until no other task uses the connection, and check that the block can be kept. Sends nothing."""
        if self.connection.is_inherited:
            raise TransactionOver()
        deadline, query = self._next_deadline(), _QUERIES["release_savepoint"]
        is_taken = await self._turn.take(deadline.left())
        try:
            connection = self._open_connection()
            if not is_taken or deadline.left() <= 0:
                # The caller's time is over. Closing the connection rolls everything back.
                await connection.discard()
                raise translate(DeadlinePassed(), query, deadline.seconds, in_transaction=True)
            if connection.closed:
                raise ConnectionLost(f"query {query.name}: the connection was lost with its transaction")
            self._require_whole(block)
        finally:
            if is_taken:
                self._turn.release()

    async def _undo(self, block: AsyncBlock) -> None:
        """Roll back to the block's savepoint, however often this task is cancelled."""
        block.undo()
        await async_completed(self._roll_back_to, block)

    async def _roll_back_to(self, block: AsyncBlock) -> None:
        # Also if the deadline has passed, because the transaction continues.
        sql = self._savepoint("roll_back_savepoint", block)
        await self._control("roll_back_savepoint", sql, least=_ROLLBACK_SECONDS)
        block.is_rolled_back = True

    def _end(self, block: AsyncBlock, around: AsyncBlock | None = None) -> None:
        """End a block, for tasks that were started in it too, and leave it if this task is in it. Idempotent."""
        block.is_over = True
        if around is not None and self.innermost is block:
            self.innermost = around
        current = innermost_block()
        while current is not None and current is not block:
            current = current.outer
        if current is not None:
            _current.set(block.outer)

    def _next_deadline(self) -> Deadline:
        return nearer(self.deadline or Deadline(self._deadline_seconds), chosen_deadline())

    async def _control(self, name: str, instead: bytes | None = None, least: float = 0.0) -> None:
        """Send a transaction control statement, or `instead` in place of it, when no other task uses the connection.

        With `least`, it is sent even if the deadline has passed, and gets at least that many seconds.
        """
        if self.connection.is_inherited:
            raise TransactionOver()
        deadline = self._next_deadline()
        # With `least` there is no limit, because the calls of other tasks have deadlines.
        if not await self._turn.take(None if least else deadline.left()):
            raise deadline.passed_while_waiting(name)
        try:
            self._open_connection()
            if deadline.left() < least:
                deadline = Deadline(least)
            await self._send(name, deadline, instead)
        finally:
            self._turn.release()

    async def _send(self, name: str, deadline: Deadline, instead: bytes | None = None) -> str:
        """Send a transaction control statement, and return the server's command tag. The caller has the turn."""
        query, connection = _QUERIES[name], self.connection
        connection.deadline = deadline
        # A cancelled SAVEPOINT would abort the block around it.
        connection.is_finishing = name == "make_savepoint"
        try:
            cursor = await connection.execute(query.sql if instead is None else instead, prepare=False)
        except psycopg.Error as error:
            is_commit = name == "commit_transaction" and instead is None
            raise translate(error, query, deadline.seconds, in_transaction=not is_commit) from error
        finally:
            connection.is_finishing = False
        return cursor.statusmessage or ""

    async def _commit(self) -> None:
        """Send COMMIT, unless it is already known that nothing can be committed. Then the outcome is known too."""
        if self.connection.closed:
            # A statement lost the connection or passed its deadline, and the block caught the error.
            raise TransactionAborted()
        deadline = self._next_deadline()
        try:
            deadline.require("commit_transaction")
            await self._take_turn("commit_transaction", deadline)
        except BaseException:
            await self._roll_back()
            raise
        try:
            await self._commit_in_turn(deadline)
        finally:
            # The block ends before a task that waits for its turn continues. It then gets TransactionOver.
            self._turn.release()

    async def _commit_in_turn(self, deadline: Deadline) -> None:
        connection = self._open_connection()
        if connection.closed:
            # The statement of another task has lost it meanwhile.
            raise TransactionAborted()
        if self.block.is_doubtful:
            await self._roll_back_in_turn()
            raise TransactionAborted()
        if not connection.is_quiet():
            try:
                # The server has ended the session, or has sent a notice.
                await self._send("commit_transaction", deadline, b"")
            except DbError:
                await self._roll_back_in_turn()
                raise
        try:
            tag = await self._send("commit_transaction", deadline)
        except OutcomeUnknown:
            for _, invalidate in self.block.effects:
                await invalidate()
            raise
        # After a failed statement, the server answers COMMIT with this tag and no error.
        if tag == "ROLLBACK":
            raise TransactionAborted()

    async def _roll_back(self) -> None:
        self.block.undo()
        if self.connection.closed or self.connection.is_inherited:
            return
        # Calls that wait for the connection send nothing more, so this waits for one statement at most.
        await self._turn.take(None)
        try:
            await self._roll_back_in_turn()
        finally:
            self._turn.release()

    async def _roll_back_in_turn(self) -> None:
        if self.connection.closed:
            return
        self.connection.deadline = Deadline(_ROLLBACK_SECONDS)
        try:
            await self.connection.execute(_QUERIES["roll_back_transaction"].sql, prepare=False)
        except psycopg.Error:
            await self.connection.discard()


_current: ContextVar[AsyncBlock | None] = ContextVar("groundwork_async_transaction", default=None)

# Return this task's innermost block, of any pool. Reads from the near cache call only this, because it is fast.
innermost_block = _current.get


def current_block(pool: object) -> AsyncBlock | None:
    """Return this task's innermost block of `pool`, or None.

    Raises TransactionOver if the task was started in that block and the block has ended. If the task has entered the
    block itself, and the block was ended elsewhere, it has left the block. Then TransactionOver is raised once, if
    writes were undone.
    """
    left, block = innermost_block(), innermost(_current)
    while left is not None and left is not block:
        if left.is_undone and left.has_written:
            raise TransactionOver(_ABANDONED)
        left = left.outer
    while block is not None and block.transaction.pool is not pool:
        block = block.outer
    if block is not None and (block.is_over or block.transaction.connection.is_inherited):
        raise TransactionOver()
    return block


def current_transaction(pool: object) -> AsyncTransaction | None:
    """Return this task's transaction of `pool`, or None.

    Raises TransactionOver if the task's block has ended, and TransactionBusy while a savepoint is open inside that
    block.
    """
    block = current_block(pool)
    if block is None:
        return None
    if block.transaction.innermost is not block:
        raise TransactionBusy()
    return block.transaction
