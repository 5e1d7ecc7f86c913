"""Translate the driver's exceptions to the errors of this package."""

from __future__ import annotations

from collections import deque

import psycopg
import psycopg_pool
from psycopg import errors as sql_errors
from psycopg.errors import Diagnostic

from db.deadline import shown
from db.errors import (
    ConnectionLost,
    ConstraintViolated,
    DbError,
    DeadlineExceeded,
    InvalidInput,
    InvalidRow,
    LockTimeout,
    OutcomeUnknown,
    QueryFailed,
    TransactionConflict,
    Unavailable,
)
from db.login import Refusal, unavailable
from db.named_query import NamedQuery


class DeadlinePassed(psycopg.OperationalError):
    """A connection was closed because its call's deadline passed. Never leaves this package."""


class NotReplicated(psycopg.OperationalError):
    """A commit was answered although its wait for a replica was cancelled. Never leaves this package."""


class ServerDemoted(psycopg.OperationalError):
    """A replica refused a write. Nothing was changed. Never leaves this package."""

    sqlstate = "25006"


def note_unreplicated(noted: deque[None], notice: Diagnostic) -> None:
    """Add to `noted` if a notice says that the wait of a commit for a replica was cancelled.

    The server answers such a commit as any other. Only this warning says that no replica may have it.
    """
    if (notice.message_primary or "").startswith("canceling wait for synchronous replication"):
        noted.append(None)


# The server refused to start work: nothing was done.
_UNAVAILABLE_STATES = {
    "53300",  # too_many_connections
    "57P03",  # cannot_connect_now
}
# The server ended the session. Its statement was rolled back, unless it had just been committed.
_LOST_STATES = {"57P01", "57P02", "08000", "08003", "08006"}
# The server ended the session by one of its timeouts, and did not execute the statement that was sent. A timeout does
# not interrupt COMMIT.
_TIMED_OUT_STATES = {
    "25P03",  # idle_in_transaction_session_timeout
    "25P04",  # transaction_timeout
    "57P05",  # idle_session_timeout
}
_CONFLICT_STATES = {
    "40001",  # serialization_failure
    "40P01",  # deadlock_detected
}
_LOCK_STATE = "55P03"  # lock_not_available


def is_lost_connection(error: psycopg.Error) -> bool:
    """Return whether the connection was lost, in contrast to a statement that the server rejected."""
    if isinstance(error, DeadlinePassed | NotReplicated | psycopg_pool.PoolTimeout | psycopg_pool.PoolClosed):
        return False
    if isinstance(error, psycopg_pool.TooManyRequests):
        return False
    if error.sqlstate is not None:
        return error.sqlstate in _LOST_STATES or error.sqlstate in _TIMED_OUT_STATES
    return isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)


def translate_pool_error(
    error: psycopg.Error, pool: str, seconds: float, refusal: Refusal | None = None
) -> DbError:
    """Translate an error of getting a connection: nothing was sent. `refusal` is that of the last attempt, if any."""
    if isinstance(error, psycopg_pool.PoolClosed):
        return Unavailable(f"pool {pool} is closed; open the data access before using it")
    if isinstance(error, psycopg_pool.TooManyRequests):
        return Unavailable(
            f"pool {pool} and its wait queue are full; raise GROUNDWORK_POOL_SIZE or send fewer calls"
        )
    if refusal is not None:
        return unavailable(pool, refusal, f" within {shown(seconds)}")
    return Unavailable(
        f"no connection to Postgres from pool {pool} within {shown(seconds)}: all are in use, or none has answered yet;"
        " raise GROUNDWORK_POOL_SIZE or send fewer calls",
        sqlstate=error.sqlstate,
    )


def translate(
    error: psycopg.Error, query: NamedQuery, seconds: float, *, in_transaction: bool = False
) -> DbError:
    """Translate an error of a statement that was sent or was about to be.

    Without a commit (`in_transaction`), a lost answer cannot mean that a write was done.
    """
    state = error.sqlstate
    is_harmless = query.is_read or in_transaction
    if isinstance(error, DeadlinePassed):
        if is_harmless:
            return DeadlineExceeded(f"query {query.name}: no answer within {shown(seconds)}")
        return OutcomeUnknown(
            f"query {query.name}: no answer within {shown(seconds)}; it may have been committed"
        )
    if isinstance(error, NotReplicated):
        return OutcomeUnknown(
            f"query {query.name}: committed, but its wait for a replica was cancelled; a failover may lose it"
        )
    if isinstance(error, ServerDemoted):
        return ConnectionLost(
            f"query {query.name}: the server is no longer the primary; nothing was changed", sqlstate=state
        )
    if isinstance(error, sql_errors.QueryCanceled):
        # By statement_timeout or pg_cancel_backend: the server has answered and rolled back.
        return DeadlineExceeded(f"query {query.name}: cancelled by the server", sqlstate=state)
    if state in _UNAVAILABLE_STATES:
        return Unavailable(f"query {query.name}: {_reason(error)}", sqlstate=state)
    if is_lost_connection(error):
        if state in _TIMED_OUT_STATES:
            return ConnectionLost(
                f"query {query.name}: the server ended the session before it ({_reason(error)}); nothing was changed",
                sqlstate=state,
            )
        if is_harmless:
            how = "with its transaction" if in_transaction else "twice"
            return ConnectionLost(f"query {query.name}: the connection was lost {how}", sqlstate=state)
        return OutcomeUnknown(
            f"query {query.name}: the connection was lost; it may have been committed", sqlstate=state
        )
    if isinstance(error, psycopg.IntegrityError):
        return ConstraintViolated(query.name, error.diag.constraint_name, _reason(error), sqlstate=state)
    if isinstance(error, psycopg.DataError) and state is None:
        # Of the parameters. An error of a result's values is translated by `unreadable`.
        return InvalidInput(query.name, "a value cannot be converted for Postgres")
    if state == _LOCK_STATE:
        return LockTimeout(query.name, _reason(error), sqlstate=state)
    kind = TransactionConflict if state in _CONFLICT_STATES else QueryFailed
    return kind(query.name, _reason(error), sqlstate=state)


def unreadable(error: Exception, query: NamedQuery, columns: list[str]) -> InvalidRow:
    """Translate an error of converting the answer to a statement. The message has no value of the answer."""
    if not columns:
        return InvalidRow(query.name, "it returned no columns; write `-- gives: nothing`")
    return InvalidRow(
        query.name,
        f"a value in its columns ({', '.join(columns)}) cannot be represented in Python ({type(error).__name__}),"
        " such as a date before year 1 or after 9999, or infinity; cast the column to text",
    )


def _reason(error: psycopg.Error) -> str:
    """Return only the server's primary message, because detail and context may quote values."""
    return error.diag.message_primary or type(error).__name__
