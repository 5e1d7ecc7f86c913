"""The one place where the driver's exceptions become this package's errors."""

from __future__ import annotations

import psycopg
import psycopg_pool
from psycopg import errors as sql_errors

from db.errors import (
    ConnectionLost,
    ConstraintViolated,
    DbError,
    DeadlineExceeded,
    InvalidInput,
    OutcomeUnknown,
    QueryFailed,
    Unavailable,
)
from db.named_query import NamedQuery


class DeadlinePassed(psycopg.OperationalError):
    """A connection was given up because its call's deadline came; never leaves this package."""


# Refusals to begin with: the server answered, and did nothing.
_UNAVAILABLE_STATES = {
    "53300",  # too_many_connections
    "57P03",  # cannot_connect_now
}
# The server ended the session; what it was doing was rolled back, unless it was just committed.
_LOST_STATES = {"57P01", "57P02", "08000", "08003", "08006"}


def is_lost_connection(error: psycopg.Error) -> bool:
    """Whether the connection died under the statement, rather than the statement being refused."""
    if isinstance(error, DeadlinePassed | psycopg_pool.PoolTimeout | psycopg_pool.PoolClosed):
        return False
    if isinstance(error, psycopg_pool.TooManyRequests):
        return False
    if error.sqlstate is not None:
        return error.sqlstate in _LOST_STATES
    return isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)


def translate_pool_error(error: psycopg.Error, pool: str, seconds: float) -> DbError:
    """An error of getting a connection: nothing has been sent yet."""
    if isinstance(error, psycopg_pool.PoolClosed):
        return Unavailable(f"pool {pool} is closed; open the data access before using it")
    if isinstance(error, psycopg_pool.TooManyRequests):
        return Unavailable(f"pool {pool} is full and its queue too; raise the pool's size or slow down")
    return Unavailable(
        f"no connection to Postgres from pool {pool} within {seconds:.1f} s;"
        " is the server up, and the pool large enough?",
        sqlstate=error.sqlstate,
    )


def translate(
    error: psycopg.Error, query: NamedQuery, seconds: float, *, in_transaction: bool = False
) -> DbError:
    """An error of a statement that was sent, or about to be. One in a transaction is not yet committed."""
    state = error.sqlstate
    is_harmless = query.is_read or in_transaction
    if isinstance(error, DeadlinePassed):
        if is_harmless:
            return DeadlineExceeded(f"query {query.name}: no answer within {seconds:.1f} s")
        return OutcomeUnknown(f"query {query.name}: no answer within {seconds:.1f} s, it may have been done")
    if isinstance(error, sql_errors.QueryCanceled):
        # statement_timeout, or an operator's pg_cancel_backend: the server did answer, and rolled back.
        return DeadlineExceeded(f"query {query.name}: cancelled by the server", sqlstate=state)
    if state in _UNAVAILABLE_STATES:
        return Unavailable(f"query {query.name}: {_reason(error)}", sqlstate=state)
    if is_lost_connection(error):
        if is_harmless:
            how = "with its transaction" if in_transaction else "twice"
            return ConnectionLost(f"query {query.name}: the connection was lost {how}", sqlstate=state)
        return OutcomeUnknown(
            f"query {query.name}: the connection was lost, it may have been done", sqlstate=state
        )
    if isinstance(error, psycopg.IntegrityError):
        return ConstraintViolated(query.name, error.diag.constraint_name, _reason(error), sqlstate=state)
    if isinstance(error, psycopg.DataError) and state is None:
        return InvalidInput(query.name, "a value has no form that Postgres takes")
    return QueryFailed(query.name, _reason(error), sqlstate=state)


def _reason(error: psycopg.Error) -> str:
    """The server's primary message: its detail and context may quote values."""
    return error.diag.message_primary or type(error).__name__
