# Generated from db/_async/transaction.py by scripts/generate_sync.py; edit that, not this.
"""A transaction under way: its connection, and what the cache is told once it is committed.

It belongs to the task (or thread) that opened it, by a context variable: repositories need no argument for it.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field

from db._sync.connection import BoundedConnection
from db.errors import TransactionOver

Effect = Callable[[], object]


@dataclass(eq=False)
class Transaction:
    """One transaction of one pool. `outer` is that of another pool around it."""

    pool: object
    connection: BoundedConnection
    outer: Transaction | None
    # For each write: what tells the cache of it, and what makes the cache forget it where COMMIT is in doubt.
    effects: list[tuple[Effect, Effect]] = field(default_factory=list)
    is_over: bool = False


_current: ContextVar[Transaction | None] = ContextVar("groundwork_async_transaction", default=None)


def current_transaction(pool: object) -> Transaction | None:
    """This task's transaction of `pool`. TransactionOver in a task that has outlived the one it was started in."""
    transaction = _current.get()
    while transaction is not None and transaction.pool is not pool:
        transaction = transaction.outer
    if transaction is not None and transaction.is_over:
        raise TransactionOver()
    return transaction


def enter_transaction(pool: object, connection: BoundedConnection) -> Transaction:
    """Make a transaction that has begun this task's own."""
    transaction = Transaction(pool, connection, _current.get())
    _current.set(transaction)
    return transaction


def leave_transaction(transaction: Transaction) -> None:
    """End it, for this task and for those that were started in it."""
    transaction.is_over = True
    _current.set(transaction.outer)
