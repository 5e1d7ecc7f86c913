"""Undocumented behaviour of the drivers on which the code depends. An upgrade that changes it fails here."""

from __future__ import annotations

import inspect
import re
from typing import Any

import psycopg
import psycopg_pool.pool
import psycopg_pool.pool_async
import psycopg_pool.sched_async
import pytest
import redis.asyncio.connection
import redis.connection
from psycopg import errors as sql_errors
from psycopg.generators import copy_end

from db._async.connection import AsyncBoundedConnection
from db._sync.connection import BoundedConnection


@pytest.mark.parametrize("driver", [psycopg.Connection, psycopg.AsyncConnection])
def test_wait_takes_a_timeout_and_raises_its_own_error(driver: type[object]) -> None:
    parameters = inspect.signature(driver.wait).parameters  # type: ignore[attr-defined]
    assert list(parameters) == ["self", "gen", "interval", "timeout"]
    assert issubclass(sql_errors._WaitTimeout, psycopg.OperationalError)


def test_wait_does_what_we_do_instead_of_it() -> None:
    """Until a task is cancelled. Then psycopg continues the same generator, as we do."""
    for driver, function in ((psycopg.Connection, "wait"), (psycopg.AsyncConnection, "wait_async")):
        source = inspect.getsource(driver.wait)
        call = f"waiting.{function}(gen, self.pgconn.socket, interval=interval, timeout="
        assert re.sub(r"\s+", " ", source).replace("( ", "(").count(call) == 2


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [(BoundedConnection, psycopg.Connection), (AsyncBoundedConnection, psycopg.AsyncConnection)],
)
def test_cancelling_a_call_uses_the_overridden_cancel(ours: type[object], theirs: type[object]) -> None:
    assert "_try_cancel(timeout=" in inspect.getsource(theirs.wait)  # type: ignore[attr-defined]
    assert "_try_cancel" in vars(ours)


def test_the_first_step_of_ending_a_copy_sends_the_end() -> None:
    assert list(inspect.signature(copy_end).parameters) == ["pgconn", "error"]
    source = inspect.getsource(copy_end)
    assert source.index("put_copy_end(error)") < source.index("yield")


def test_redis_py_uses_the_tls_context_of_the_overridden_method() -> None:
    sync, coroutine = redis.connection.SSLConnection, redis.asyncio.connection.SSLConnection
    assert "create_default_context" in inspect.getsource(sync._wrap_socket_with_ssl)
    assert "self.ssl_context.get()" in inspect.getsource(coroutine._connection_arguments)


@pytest.mark.parametrize("module", [psycopg_pool.pool, psycopg_pool.pool_async])
def test_psycopg_pool_has_the_names_that_our_pool_uses(module: Any) -> None:
    """For replacing lost connections, for the end of an event loop, and for forked children."""
    pool = module.ConnectionPool if module is psycopg_pool.pool else module.AsyncConnectionPool
    assert next(iter(inspect.signature(module.AddConnection).parameters)) == "pool"
    assert issubclass(module.StopWorker, module.MaintenanceTask)
    assert list(inspect.signature(pool.worker).parameters) == ["q"]
    assert list(inspect.signature(pool.schedule_task).parameters) == ["self", "task", "delay"]
    assert "self._sched.run" in inspect.getsource(pool._start_workers)
    assert "self._start_workers()" in inspect.getsource(pool._open)
    assert "self._nconns -= 1" in inspect.getsource(pool._add_connection)


def test_callers_of_psycopg_pool_wait_on_what_we_replace() -> None:
    """With primitives that an exception of a signal handler cannot leave locked."""
    pool, waiting = psycopg_pool.pool.ConnectionPool, psycopg_pool.pool.WaitingClient
    assert "self._waiting.append(pos)" in inspect.getsource(pool._getconn_unchecked)
    opening = inspect.getsource(pool._open)
    assert opening.index("self._tasks = Queue()") < opening.index("self._start_workers()")
    assert "self._growing = True" in inspect.getsource(pool._maybe_grow_pool)
    used = re.findall(r"self\._cond\.(\w+)", inspect.getsource(waiting))
    assert set(used) == {"wait", "notify_all"}


def test_the_scheduler_of_psycopg_pool_waits_for_the_event_that_we_replace() -> None:
    source = inspect.getsource(psycopg_pool.sched_async.AsyncScheduler.run)
    assert "await self._event.wait_timeout(delay)" in source


def test_a_deleted_pool_that_is_marked_closed_waits_for_nothing() -> None:
    source = inspect.getsource(psycopg_pool.pool.ConnectionPool.__del__)
    assert source.index('getattr(self, "_closed", True)') < source.index("_signal_stop_worker")


@pytest.mark.parametrize("module", [psycopg_pool.pool, psycopg_pool.pool_async])
def test_idle_connections_of_psycopg_pool_can_be_taken_and_returned_by_us(module: Any) -> None:
    """All that `getconn` and `putconn` do for an idle connection."""
    pool = module.ConnectionPool if module is psycopg_pool.pool else module.AsyncConnectionPool
    taking = inspect.getsource(pool._get_ready_connection)
    assert "conn = self._pool.popleft()" in taking
    assert "self._nconns_min = len(self._pool)" in taking
    assert "conn._pool = self" in inspect.getsource(pool._getconn_unchecked)
    assert "self._stats[self._REQUESTS_NUM] += 1" in inspect.getsource(pool.getconn)
    returning = inspect.getsource(pool._return_connection)
    assert "conn._created_at <= self._drained_at or conn._expire_at <= monotonic()" in returning
    adding = inspect.getsource(pool._add_to_pool)
    assert "conn._pool = None" in adding
    assert "self._pool.append(conn)" in adding


def test_a_cursor_keeps_the_transformer_of_the_query_that_it_last_executed() -> None:
    source = inspect.getsource(psycopg.Cursor._start_query)
    assert "self._last_query is not query" in source
    assert "self._tx = adapt.Transformer(self)" in source
    assert psycopg.adapters.connection is None
    assert psycopg.adapters.adapters is psycopg.adapters
