"""Postgres ill in six ways: reads and writes end in bounded time with typed errors, and go on afterwards."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
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

PORT = 5432
DEADLINE_SECONDS = 1.0
# Threefold slack, and what giving a connection back to the pool may take.
BOUND_SECONDS = 3 * DEADLINE_SECONDS
# What a call may end in: nothing was done, or nobody knows.
READ_ERRORS = (Unavailable, DeadlineExceeded, ConnectionLost)
WRITE_ERRORS = (Unavailable, DeadlineExceeded, ConnectionLost, OutcomeUnknown)


@pytest.fixture(scope="module")
def sick_postgres(docker_engine: None) -> Iterator[Server]:
    """A migrated Postgres of this module's own that keeps its port over a restart."""
    with containers.postgres_server(keeps_port=True) as server:
        apply_pending(server.database_url("migrator"), read_source())
        yield server


@contextmanager
def stopped_postmaster(server: Server) -> Iterator[None]:
    """SIGSTOP: who is connected is served, and nobody else is let in; the ones in the pool are ended."""
    pids = _psql(server, "SELECT string_agg(pid::text, ' ') FROM pg_stat_activity WHERE usename = 'app_a'")
    docker("kill", "--signal", "STOP", server.container)
    try:
        docker("exec", server.container, "sh", "-c", f"kill -TERM {pids}")
        yield
    finally:
        docker("kill", "--signal", "CONT", server.container)


def blackholed(server: Server) -> AbstractContextManager[None]:
    return firewall(server, PORT, DROP)


@contextmanager
def refused(server: Server) -> Iterator[None]:
    """Nobody listens: the container goes on without its network's port."""
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
    """It is down and comes back while the calls are made."""
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
    """Past the published port, where the firewall is; the name is still what TLS verifies."""
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


@pytest.mark.parametrize("illness", ILLNESSES, ids=lambda each: each.__name__)
def test_every_call_ends_in_time_with_a_typed_error_and_the_pool_is_whole_again(
    flavour: str, sick_postgres: Server, illness: Callable[[Server], AbstractContextManager[None]]
) -> None:
    is_behind = illness in BEHIND_THE_FIREWALL
    url = _by_address(sick_postgres) if is_behind else sick_postgres.database_url("app_a")
    settings = database_settings(url, deadline_seconds=DEADLINE_SECONDS, pool_size=3)
    with data_access(flavour, settings, cache_settings("redis://app:x@localhost:1/0", "none")) as data:
        known = data.users.upsert(NewUser(github_id=1, username="known"))
        errors = []
        with illness(sick_postgres):
            for call, expected in _calls(data):
                started = time.monotonic()
                try:
                    call()
                except expected as error:
                    errors.append(type(error).__name__)
                assert time.monotonic() - started < BOUND_SECONDS
        # It was ill indeed; in the middle of a restart some are answered.
        assert len(errors) == len(_calls(data)) or illness is restarting
        wait_until(lambda: _is_answered(data), 30)
        assert data.users.get_by_github_id(1).id == known.id
        wait_until(lambda: _is_whole(data), 15)


def test_the_plain_driver_hangs_on_a_blackholed_server(sick_postgres: Server) -> None:
    """The negative control: neither asking nor connecting ends."""
    url = _by_address(sick_postgres)
    with psycopg.connect(url, autocommit=True) as connection:
        callers = [
            Thread(target=_ignoring, args=[lambda: connection.execute("SELECT 1")], daemon=True),
            Thread(target=_ignoring, args=[lambda: psycopg.connect(url).close()], daemon=True),
        ]
        with blackholed(sick_postgres):
            for caller in callers:
                caller.start()
            callers[0].join(BOUND_SECONDS)
            late = [caller.is_alive() for caller in callers]
        for caller in callers:
            caller.join(60)
    assert late == [True, True]


def _ignoring(call: Callable[[], object]) -> None:
    try:
        call()
    except psycopg.Error:
        # Late is what it is about.
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
