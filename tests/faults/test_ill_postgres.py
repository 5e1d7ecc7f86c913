"""Six faults of Postgres: calls end in bounded time with typed errors, and work again afterwards."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from threading import Thread
from typing import Any

import psycopg
import pytest

from db.errors import ConnectionLost, DbError, DeadlineExceeded, OutcomeUnknown, Unavailable
from db.migrator import apply_pending, read_source
from db.models import NewUser
from infra.docker.engine import docker
from infra.spec import roles
from tests import containers
from tests.containers import Server, frozen, wait_until
from tests.faults.network import DROP, address, firewall
from tests.integration.data_access import cache_settings, data_access, database_settings
from tests.promises import promise
from tests.scale import limit, scaled

PORT = 5432
CONNECTIONS = 3
# At full scale this test has the machine to itself. Otherwise even a healthy server may need a second.
DEADLINE_SECONDS = scaled(2, 1)
# Includes the time to return a connection to the pool.
BOUND_SECONDS = limit(DEADLINE_SECONDS)
# The errors that a call may raise: nothing was done, or the outcome is unknown.
READ_ERRORS = (Unavailable, DeadlineExceeded, ConnectionLost)
WRITE_ERRORS = (Unavailable, DeadlineExceeded, ConnectionLost, OutcomeUnknown)


@pytest.fixture(scope="module")
def sick_postgres(docker_engine: None) -> Iterator[Server]:
    """A migrated Postgres for this module only, which keeps its port when restarted."""
    with containers.postgres_server(keeps_port=True) as server:
        apply_pending(server.database_url("migrator"), read_source())
        yield server


@contextmanager
def stopped_postmaster(server: Server) -> Iterator[None]:
    """Refuse new connections, after ending the sessions of the pool."""
    pids = _psql(server, "SELECT string_agg(pid::text, ' ') FROM pg_stat_activity WHERE usename = 'app_a'")
    with containers.stopped_postmaster(server):
        docker("exec", server.container, "sh", "-c", f"kill -TERM {pids}")
        yield


def blackholed(server: Server) -> AbstractContextManager[None]:
    return firewall(server, PORT, DROP)


@contextmanager
def refused(server: Server) -> Iterator[None]:
    """Refuse TCP connections, as if no process listened on the port."""
    with firewall(server, PORT, ["REJECT", "--reject-with", "tcp-reset"]):
        yield


@contextmanager
def without_connections(server: Server) -> Iterator[None]:
    _psql(server, "ALTER ROLE app_a CONNECTION LIMIT 0")
    _psql(server, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app_a'")
    try:
        yield
    finally:
        _psql(server, "ALTER ROLE app_a CONNECTION LIMIT 60")


@contextmanager
def restarting(server: Server) -> Iterator[None]:
    """Restart the server during the calls."""
    restart = Thread(target=docker, args=["restart", server.container])
    restart.start()
    try:
        yield
    finally:
        restart.join()
        wait_until(server.answers)


BEHIND_THE_FIREWALL = (blackholed, refused)
ILLNESSES = (frozen, stopped_postmaster, blackholed, refused, without_connections, restarting)


def _psql(server: Server, sql: str) -> str:
    return server.psql(sql, roles.DATABASE).strip()


def _by_address(server: Server) -> str:
    """Return a URL that bypasses the published port, to reach the firewall. TLS still verifies the name."""
    return (
        f"{server.database_url('app_a').replace(f':{server.port}/', f':{PORT}/')}&hostaddr={address(server)}"
    )


def _calls(data: Any) -> list[tuple[Callable[[], object], tuple[type[DbError], ...]]]:
    new = NewUser(github_id=random.getrandbits(40), username="x")
    return [
        (lambda: data.users.get_by_github_id(1), READ_ERRORS),
        (lambda: data.users.upsert(new), WRITE_ERRORS),
        (lambda: data.users.find(2**40), READ_ERRORS),
        (lambda: data.users.upsert(new, idempotency_key=f"k{random.getrandbits(60)}"), WRITE_ERRORS),
        (lambda: data.activities.feed(1), READ_ERRORS),
        (lambda: data.users.get_many([2**40]), READ_ERRORS),
    ]


@promise("every call ends by its deadline with a typed error, whatever Postgres does")
@pytest.mark.parametrize("illness", ILLNESSES, ids=lambda each: each.__name__)
def test_every_call_ends_in_time_with_a_typed_error_and_the_pool_recovers(
    flavour: str, sick_postgres: Server, illness: Callable[[Server], AbstractContextManager[None]]
) -> None:
    is_behind = illness in BEHIND_THE_FIREWALL
    url = _by_address(sick_postgres) if is_behind else sick_postgres.database_url("app_a")
    settings = database_settings(
        url, deadline_seconds=DEADLINE_SECONDS, pool_size=CONNECTIONS, pool_min_size=CONNECTIONS
    )
    with data_access(flavour, settings, cache_settings("redis://app:x@localhost:1/0", "none")) as data:
        known = data.users.upsert(NewUser(github_id=1, username="known"))
        # A connection that the pool is still making could be missed by the fault.
        wait_until(lambda: data.pool.statistics()["pool_available"] == CONNECTIONS, 60)
        with illness(sick_postgres), ThreadPoolExecutor(len(_calls(data))) as threads:
            # The first round uses open connections and waits for one; the second opens new ones.
            failed = [
                failure
                for _ in range(2)
                for failure in threads.map(_failure, *zip(*_calls(data), strict=True))
            ]
        # Every call failed, except that a restarting server answers some.
        assert all(failed) or illness is restarting
        wait_until(lambda: _is_answered(data), 60)
        assert data.users.get_by_github_id(1).id == known.id
        wait_until(lambda: _is_whole(data), 60)


@promise("every call ends by its deadline with a typed error, whatever Postgres does", control=True)
def test_the_plain_driver_hangs_on_a_blackholed_server(sick_postgres: Server) -> None:
    """The negative control: neither a query nor a connection attempt ends."""
    url = _by_address(sick_postgres)
    with psycopg.connect(url, autocommit=True) as connection:
        callers = [
            Thread(target=_ignoring, args=[lambda: connection.execute("SELECT 1")], daemon=True),
            Thread(target=_ignoring, args=[lambda: psycopg.connect(url).close()], daemon=True),
        ]
        with blackholed(sick_postgres):
            for caller in callers:
                caller.start()
            # Nothing ends these calls, so that a longer wait on a slower machine would show the same.
            callers[0].join(3 * DEADLINE_SECONDS)
            late = [caller.is_alive() for caller in callers]
        for caller in callers:
            caller.join(60)
    assert late == [True, True]


def _failure(call: Callable[[], object], expected: tuple[type[DbError], ...]) -> bool:
    """Make a call and return whether it failed, as expected and in time."""
    started = time.monotonic()
    try:
        call()
    except expected:
        return True
    else:
        return False
    finally:
        assert time.monotonic() - started < BOUND_SECONDS


def _ignoring(call: Callable[[], object]) -> None:
    try:
        call()
    except psycopg.Error:
        # Only the time counts here.
        pass


def _is_answered(data: Any) -> bool:
    try:
        data.users.find_by_github_id(1)
    except DbError:
        return False
    return True


def _is_whole(data: Any) -> bool:
    statistics = data.pool.statistics()
    return bool(1 <= statistics["pool_size"] == statistics["pool_available"])
