"""Measure the throughput of 8 processes that read and write users, beside a cache of cashews and SQLAlchemy.

Each process is one caller, which chooses among 100,000 users by Zipf's law: a few users are read very often. Both sides
use the same servers, in turns. The other side caches as most applications do: a miss reads Postgres and fills the
cache, and a write deletes the entry.
"""

from __future__ import annotations

import json
import subprocess
import sys
from array import array
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import quantiles
from typing import Any

from db.migrator import apply_pending, read_source
from infra.docker.engine import inspect
from infra.spec import roles
from tests import containers
from tests.bench.idle import container_seconds
from tests.bench.result import Result
from tests.containers import Server

ROOT = Path(__file__).parents[2]
PROCESSES = 8
USERS = 100_000
# Three quarters of all reads are of these users.
WARM_USERS = 1000
ROUNDS = 3
SECONDS = 2.0
SIDES = ("groundwork", "cashews")
_READS_ONLY, _MIXED = 1.0, 0.9


@dataclass(frozen=True)
class Load:
    """What the processes of one side did in one turn, and the CPU seconds that they and the servers used."""

    rate: float
    latencies: array[float]
    client_seconds: float
    server_seconds: float

    def cpu_microseconds(self) -> tuple[float, float]:
        """Return the CPU time of one operation: of the client, and of the servers."""
        calls = len(self.latencies)
        return self.client_seconds / calls * 1e6, self.server_seconds / calls * 1e6

    def percentile(self, percent: int) -> float:
        """Return a latency in milliseconds."""
        return quantiles(self.latencies, n=100)[percent - 1] * 1e3


class _Side:
    """The processes of one side."""

    def __init__(self, name: str, postgres: Server, cache: Server, stack: ExitStack) -> None:
        self._servers = [
            each["State"]["Pid"] for each in inspect("container", postgres.container, cache.container)
        ]
        settings = {
            "database": postgres.database_url("app_a"),
            "cache": cache.redis_url("app"),
            "raw_cache": cache.redis_url("administrator"),
            "users": USERS,
        }
        self._processes = [
            stack.enter_context(_process(name, settings | {"seed": seed})) for seed in range(PROCESSES)
        ]
        for process in self._processes:
            _answer(process)

    def warm(self) -> None:
        """Fill the caches of all processes with the users that are read most often."""
        self._ask({"warm": WARM_USERS})

    def run(self, reads: float, seconds: float = SECONDS) -> Load:
        before = self._server_seconds()
        answers = self._ask({"reads": reads, "seconds": seconds})
        used = self._server_seconds() - before
        return Load(
            sum(len(each["latencies"]) / each["elapsed"] for each in answers),
            array("d", [latency for each in answers for latency in each["latencies"]]),
            sum(each["cpu"] for each in answers),
            used,
        )

    def _ask(self, question: dict[str, float]) -> list[Any]:
        for process in self._processes:
            assert process.stdin
            process.stdin.write(json.dumps(question).encode() + b"\n")
            process.stdin.flush()
        return [json.loads(_answer(process)) for process in self._processes]

    def _server_seconds(self) -> float:
        return sum(container_seconds(pid)[0] for pid in self._servers)


def measure() -> list[Result]:
    """Return the throughput's part of the table."""
    with _servers() as (postgres, cache), ExitStack() as stack:
        sides = [_Side(name, postgres, cache, stack) for name in SIDES]
        mixed: list[list[Load]] = [[], []]
        reads: list[list[Load]] = [[], []]
        for side in sides:
            side.warm()
        for number in range(ROUNDS + 1):
            for side, mixed_loads, read_loads in zip(sides, mixed, reads, strict=True):
                loads = side.run(_MIXED), side.run(_READS_ONLY, SECONDS / 2)
                # The first round does not count.
                if number:
                    mixed_loads.append(loads[0])
                    read_loads.append(loads[1])
    return [*_mixed(*mixed), *_cpu(*reads)]


def _mixed(ours: list[Load], theirs: list[Load]) -> list[Result]:
    name = "90 % reads"
    pairs = [*zip(ours, theirs, strict=True)]
    return [
        Result(f"{name}, throughput", [each.rate for each in ours], "ops/s"),
        Result(
            f"{name}, throughput / cashews and SQLAlchemy",
            [mine.rate / other.rate for mine, other in pairs],
            "x",
            at_least=1,
            note=f"cashews up to {max(each.rate for each in theirs):,.0f} ops/s",
        ),
        *(
            Result(
                f"{name}, {label}",
                [each.percentile(percent) for each in ours],
                "ms",
                note=f"cashews {min(each.percentile(percent) for each in theirs):.2f} at best",
            )
            for label, percent in (("median latency", 50), ("99th percentile of the latency", 99))
        ),
    ]


def _cpu(ours: list[Load], theirs: list[Load]) -> list[Result]:
    results = []
    for part, label in enumerate(("client", "servers")):
        mine, others = ([each.cpu_microseconds()[part] for each in side] for side in (ours, theirs))
        results.append(
            Result(f"CPU time of a read, {label}", mine, "us", note=f"cashews {min(others):.1f} at best")
        )
    return results


@contextmanager
def _servers() -> Iterator[tuple[Server, Server]]:
    with containers.postgres_server() as postgres, containers.redis_server(administrator=True) as cache:
        apply_pending(postgres.database_url("migrator"), read_source())
        postgres.psql(
            f"INSERT INTO {roles.SCHEMA}.users (github_id, username, email, preferences) SELECT n, 'made-up-' || n,"
            f" n || '@example.org', '{{\"theme\": \"dark\"}}' FROM generate_series(1, {USERS}) n;"
            f" VACUUM ANALYZE {roles.SCHEMA}.users",
            roles.DATABASE,
        )
        yield postgres, cache


@contextmanager
def _process(side: str, settings: dict[str, object]) -> Iterator[subprocess.Popen[bytes]]:
    words = [sys.executable, "-m", "tests.bench.throughput_caller", side, json.dumps(settings)]
    with subprocess.Popen(words, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            # The caller ends at the end of its input.
            process.communicate(timeout=30)


def _answer(process: subprocess.Popen[bytes]) -> bytes:
    assert process.stdout
    line = process.stdout.readline()
    if not line:
        raise RuntimeError("bench: a caller of the throughput bench has ended; its error is above")
    return line
