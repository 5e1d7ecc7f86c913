"""Orphaned processes of `docker exec` in Postgres's container, and killed health checks, do not end sessions.

The negative control is the same image without an init process, where the postmaster adopts those processes.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread

import psycopg
import pytest

from infra.docker.engine import docker
from tests import containers
from tests.containers import Server, wait_until
from tests.promises import promise
from tests.scale import scaled

SESSIONS = 3
KILLED_CHECKS = scaled(20, 200)
# The former health check: Docker kills the shell, which waits for pg_isready, before pg_isready itself.
_CHECK = "pg_isready --timeout=2 || exit 1"
# Wait for a pg_isready whose shell has exited, and then until it has exited or is a zombie of the stopped postmaster.
_AWAIT_ORPHAN = """
until orphan=$(grep -shoE '^[0-9]+ .pg_isready. . 1 ' /proc/[0-9]*/stat); do sleep 0.05; done
while grep -sqv ' Z ' "/proc/${orphan%% *}/stat"; do sleep 0.05; done
"""
# Each check is an orphan from the start. SIGSTOP shows whether it still runs: a zombie accepts SIGKILL too, and does
# not count.
_KILL_CHECKS = """
RANDOM=$1 killed=0
for ((round = 0; killed < $2; round++)); do
    ((round % 2)) || rm -f /tmp/archiver-woken
    (groundwork-health > /dev/null 2>&1 & echo $! > /tmp/pid)
    sleep "0.0$((RANDOM % 2))$((RANDOM % 10))"
    pid=$(< /tmp/pid) state=
    kill -STOP "$pid" 2> /dev/null
    until [[ $state == [TZ] ]]; do
        read -r _ _ state _ 2> /dev/null < "/proc/$pid/stat" || break
    done
    [[ $state == T ]] && kill -KILL "$pid" && ((++killed))
done
"""


@pytest.fixture(scope="module", params=[True, False], ids=["with init", "without init"])
def has_init(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture(scope="module")
def server(docker_engine: None, has_init: bool) -> Iterator[Server]:
    options = ["--health-cmd", _CHECK, "--health-interval", "1s", "--health-timeout", "1s"]
    if not has_init:
        options += ["--entrypoint", "groundwork-postgres"]
    with containers.postgres_server(run_options=options) as server:
        yield server


@contextmanager
def busy_sessions(server: Server) -> Iterator[list[psycopg.Error]]:
    """Run queries in several sessions until the end of the block. Yield the errors that ended a session."""
    lost: list[psycopg.Error] = []
    is_over = Event()

    def work(connection: psycopg.Connection[tuple[int]]) -> None:
        try:
            while not is_over.is_set():
                connection.execute("SELECT count(*) FROM generate_series(1, 20000)")
        except psycopg.Error as error:
            lost.append(error)

    wait_until(server.answers)
    url = server.database_url("app_a")
    connections = [psycopg.connect(url, autocommit=True) for _ in range(SESSIONS)]
    workers = [Thread(target=work, args=[connection]) for connection in connections]
    for worker in workers:
        worker.start()
    try:
        yield lost
    finally:
        is_over.set()
        for worker, connection in zip(workers, connections, strict=True):
            worker.join()
            connection.close()


def judge(has_init: bool, lost: list[psycopg.Error]) -> None:
    if has_init:
        assert not lost
    else:
        wait_until(lambda: len(lost) == SESSIONS)


@promise(
    "neither a process that `docker exec` leaves behind nor a killed health check ends a Postgres session"
)
@promise(
    "neither a process that `docker exec` leaves behind nor a killed health check ends a Postgres session",
    control=True,
)
def test_orphan_that_fails_ends_no_session(has_init: bool, server: Server) -> None:
    with busy_sessions(server) as lost:
        pid = docker(
            "exec", server.container, "sh", "-c", "(sleep 0.2; exit 2) > /dev/null & echo $!"
        ).strip()
        docker("exec", server.container, "sh", "-c", f"while [ -e /proc/{pid} ]; do sleep 0.05; done")
        judge(has_init, lost)


@promise(
    "neither a process that `docker exec` leaves behind nor a killed health check ends a Postgres session"
)
def test_check_that_docker_kills_while_the_postmaster_is_stopped_ends_no_session(
    has_init: bool, server: Server
) -> None:
    with busy_sessions(server) as lost:
        with containers.stopped_postmaster(server, has_init=has_init):
            docker("exec", server.container, "sh", "-c", _AWAIT_ORPHAN)
        judge(has_init, lost)


@promise(
    "neither a process that `docker exec` leaves behind nor a killed health check ends a Postgres session"
)
def test_checks_killed_at_random_moments_end_no_session(has_init: bool, server: Server) -> None:
    seed = random.randrange(2**15)
    print(f"seed: {seed}")
    with busy_sessions(server) as lost:
        count = KILLED_CHECKS if has_init else 1
        script = ["bash", "-c", _KILL_CHECKS, "bash", str(seed), str(count)]
        docker("exec", server.container, *script, timeout_seconds=600)
        judge(has_init, lost)
