"""A transaction under way: its connection, and what the cache is told once it is committed.

It belongs to the task (or thread) that opened it, by a context variable: repositories need no argument for it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass, field

from db._async.connection import AsyncBoundedConnection
from db.errors import TransactionOver

Effect = Callable[[], Awaitable[object]]


@dataclass(eq=False)
class AsyncTransaction:
    """One transaction of one pool. `outer` is that of another pool around it."""

    pool: object
    connection: AsyncBoundedConnection
    outer: AsyncTransaction | None
    # For each write: what tells the cache of it, and what makes the cache forget it where COMMIT is in doubt.
    effects: list[tuple[Effect, Effect]] = field(default_factory=list)
    is_over: bool = False


_current: ContextVar[AsyncTransaction | None] = ContextVar("groundwork_async_transaction", default=None)


def current_transaction(pool: object) -> AsyncTransaction | None:
    """This task's transaction of `pool`. TransactionOver in a task that has outlived the one it was started in."""
    transaction = _current.get()
    while transaction is not None and transaction.pool is not pool:
        transaction = transaction.outer
    if transaction is not None and transaction.is_over:
        raise TransactionOver()
    return transaction


def enter_transaction(pool: object, connection: AsyncBoundedConnection) -> AsyncTransaction:
    """Make a transaction that has begun this task's own."""
    transaction = AsyncTransaction(pool, connection, _current.get())
    _current.set(transaction)
    return transaction


def leave_transaction(transaction: AsyncTransaction) -> None:
    """End it, for this task and for those that were started in it."""
    transaction.is_over = True
    _current.set(transaction.outer)
