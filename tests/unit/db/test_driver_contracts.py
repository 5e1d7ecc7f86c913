"""Undocumented behaviour of the drivers on which the code depends. An upgrade that changes it fails here."""

from __future__ import annotations

import inspect

import psycopg
import pytest
import redis.asyncio.connection
import redis.connection
from psycopg import errors as sql_errors

from db._async.connection import AsyncBoundedConnection
from db._sync.connection import BoundedConnection


@pytest.mark.parametrize("driver", [psycopg.Connection, psycopg.AsyncConnection])
def test_wait_takes_a_timeout_and_raises_its_own_error(driver: type[object]) -> None:
    parameters = inspect.signature(driver.wait).parameters  # type: ignore[attr-defined]
    assert list(parameters) == ["self", "gen", "interval", "timeout"]
    assert issubclass(sql_errors._WaitTimeout, psycopg.OperationalError)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [(BoundedConnection, psycopg.Connection), (AsyncBoundedConnection, psycopg.AsyncConnection)],
)
def test_cancelling_a_call_uses_the_overridden_cancel(ours: type[object], theirs: type[object]) -> None:
    assert "_try_cancel(timeout=" in inspect.getsource(theirs.wait)  # type: ignore[attr-defined]
    assert "_try_cancel" in vars(ours)


def test_redis_py_uses_the_tls_context_of_the_overridden_method() -> None:
    sync, coroutine = redis.connection.SSLConnection, redis.asyncio.connection.SSLConnection
    assert "create_default_context" in inspect.getsource(sync._wrap_socket_with_ssl)
    assert "self.ssl_context.get()" in inspect.getsource(coroutine._connection_arguments)
