"""A hundred callers in four processes miss one key at the same time: the database is read at most twice."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from db.models import NewUser
from tests.conftest import Database
from tests.containers import Server
from tests.promises import promise
from tests.scale import scaled

ROOT = Path(__file__).parents[2]
PROCESSES, CALLERS = 4, 25
ROUNDS = scaled(5, 50)


class Crowd:
    """The processes, which read one user after the other."""

    def __init__(self, scheme: str, database: Database, redis_server: Server, namespace: str) -> None:
        command = [sys.executable, "-m", "tests.faults.crowd", str(CALLERS), namespace]
        self._processes = [
            subprocess.Popen(
                [*command, scheme if scheme == "naive" else flavour],
                cwd=ROOT,
                env={"DATABASE_URL": database.url("app"), "REDIS_URL": redis_server.redis_url("app")},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for flavour in ("sync", "async") * (PROCESSES // 2)
        ]
        for process in self._processes:
            assert self._answer(process) == "ready"

    def read(self, user_id: int) -> tuple[list[str], float]:
        """Have all callers read a user at the same time. Return what they read, and the number of Redis errors."""
        start_at = time.monotonic() + 0.2
        for process in self._processes:
            assert process.stdin is not None
            process.stdin.write(f"{user_id} {start_at}\n")
            process.stdin.flush()
        answers = [json.loads(self._answer(process)) for process in self._processes]
        return [name for names, _ in answers for name in names], sum(failures for _, failures in answers)

    def leave(self) -> None:
        for process in self._processes:
            process.kill()
            process.communicate()

    @staticmethod
    def _answer(process: subprocess.Popen[str]) -> str:
        assert process.stdout is not None
        return process.stdout.readline().strip()


@pytest.fixture
def crowd(
    request: pytest.FixtureRequest, database: Database, redis_server: Server, namespace: str
) -> Iterator[Crowd]:
    crowd = Crowd(request.param, database, redis_server, namespace)
    yield crowd
    crowd.leave()


def database_reads(database: Database) -> int:
    """Return how often a user was read by id, as counted by the server for all processes."""
    with psycopg.connect(database.url("monitor")) as connection:
        row = connection.execute(
            "SELECT coalesce(sum(calls), 0)::int FROM extensions.pg_stat_statements"
            " WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database())"
            " AND query ~ 'FROM users\\s+WHERE id = \\$1'"
        ).fetchone()
    assert row is not None
    return int(row[0])


@promise("callers that miss one record at the same time share one read")
@pytest.mark.parametrize("crowd", ["ours"], indirect=True)
@pytest.mark.parametrize("flavour", ["sync"], indirect=True)
def test_a_hundred_callers_of_one_cold_key_read_the_database_twice_at_most(
    crowd: Crowd, data: Any, database: Database
) -> None:
    for n in range(1, ROUNDS + 1):
        user = data.users.add(NewUser(github_id=n, username=f"user{n}"))
        before = database_reads(database)
        names, failures = crowd.read(user.id)
        reads = database_reads(database) - before
        assert names == [f"user{n}"] * PROCESSES * CALLERS
        assert 1 <= reads <= 2
        assert failures == 0


@promise("callers that miss one record at the same time share one read", control=True)
@pytest.mark.parametrize("crowd", ["naive"], indirect=True)
@pytest.mark.parametrize("flavour", ["sync"], indirect=True)
def test_the_usual_scheme_reads_the_database_for_many_callers(
    crowd: Crowd, data: Any, database: Database
) -> None:
    """The negative control: GET; after a miss, read the database and SET."""
    most = 0
    for n in range(1, 21):
        user = data.users.add(NewUser(github_id=n, username=f"user{n}"))
        before = database_reads(database)
        names, _ = crowd.read(user.id)
        assert names == [f"user{n}"] * PROCESSES * CALLERS
        most = max(most, database_reads(database) - before)
        if most > 2:
            break
    assert most > 2
