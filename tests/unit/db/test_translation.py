"""Translation of driver errors to groundwork's errors, with the SQLSTATE and without values."""

from __future__ import annotations

import psycopg
import psycopg_pool
from psycopg import errors as sql_errors

from db.errors import (
    ConnectionLost,
    DbError,
    DeadlineExceeded,
    InvalidInput,
    LockTimeout,
    OutcomeUnknown,
    QueryFailed,
    TransactionConflict,
    Unavailable,
)
from db.named_query import NamedQuery
from db.translation import DeadlinePassed, is_lost_connection, translate, translate_pool_error
from tests.cases import in_case

READ = NamedQuery("find_thing", "A thing.", b"SELECT 1", True, {}, "int")
WRITE = NamedQuery("add_thing", "A thing more.", b"INSERT", False, {}, None)


def test_an_error_of_a_statement() -> None:
    cases: list[tuple[psycopg.Error, type[DbError], type[DbError]]] = [
        (DeadlinePassed("x"), DeadlineExceeded, OutcomeUnknown),
        (sql_errors.AdminShutdown("x"), ConnectionLost, OutcomeUnknown),
        (sql_errors.CrashShutdown("x"), ConnectionLost, OutcomeUnknown),
        (psycopg.OperationalError("server closed the connection"), ConnectionLost, OutcomeUnknown),
        (psycopg.InterfaceError("the connection is closed"), ConnectionLost, OutcomeUnknown),
        (sql_errors.QueryCanceled("x"), DeadlineExceeded, DeadlineExceeded),
        (sql_errors.TooManyConnections("x"), Unavailable, Unavailable),
        (psycopg.DataError("x"), InvalidInput, InvalidInput),
        (sql_errors.InsufficientPrivilege("x"), QueryFailed, QueryFailed),
        (sql_errors.LockNotAvailable("x"), LockTimeout, LockTimeout),
        (sql_errors.DeadlockDetected("x"), TransactionConflict, TransactionConflict),
        (sql_errors.SerializationFailure("x"), TransactionConflict, TransactionConflict),
    ]
    for error, read, write in cases:
        with in_case(error, read, write):
            for query, expected in ((READ, read), (WRITE, write)):
                translated = translate(error, query, 1.0)
                assert type(translated) is expected
                assert translated.sqlstate == error.sqlstate


def test_an_error_of_the_pool_is_unavailable_and_not_retried() -> None:
    cases: list[psycopg.Error] = [
        psycopg_pool.PoolTimeout("x"),
        psycopg_pool.PoolClosed("x"),
        psycopg_pool.TooManyRequests("x"),
    ]
    for error in cases:
        with in_case(error):
            assert type(translate_pool_error(error, "p", 1.0)) is Unavailable
            assert not is_lost_connection(error)
