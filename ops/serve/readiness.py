"""Readiness of the service. Each check queries its dependency, and all checks together take a bounded time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from functools import partial
from time import perf_counter

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import class_row

from cache.errors import CacheError
from db import AsyncDataAccess
from db.connection_limit import READ_CONNECTION_LIMIT, connection_problem
from db.deadline import Deadline
from db.errors import DbError
from db.named_query import queries
from db.rows import AppliedMigration, ConnectionLimit, Replication
from db.schema_version import READ_LEDGER, expected_migrations, schema_problem
from infra.spec.access import NOT_READY
from ops.serve.drainer import OutboxDrainer

_logger = logging.getLogger("groundwork.serve.readiness")
READ_REPLICATION = queries("schema")["read_replication"]
# Time limit of a check. All checks run concurrently, so that a frozen server does not delay the others.
CHECK_SECONDS = 1.0
_GRACE_SECONDS = 0.25


@dataclass(frozen=True)
class Degraded:
    """Everything works, but a further failure would stop something."""

    reason: str


@dataclass(frozen=True)
class ReadinessResult:
    """The result of a check. `reason` is None if it is fine. With `ok`, it says what is degraded."""

    ok: bool
    latency_ms: float
    reason: str | None = None


@dataclass(frozen=True)
class Readiness:
    """All checks by name. The service is ready if every check is fine."""

    checks: dict[str, ReadinessResult]

    @property
    def ready(self) -> bool:
        return all(check.ok for check in self.checks.values())

    def as_json(self) -> dict[str, object]:
        return {"ready": self.ready, "checks": {name: asdict(check) for name, check in self.checks.items()}}


_Problem = str | Degraded | None


class ReadinessProbe:
    """Checks Postgres, its schema and its replicas, Redis, and the outbox's drainer."""

    def __init__(self, data: AsyncDataAccess, drainer: OutboxDrainer) -> None:
        self._data = data
        self._drainer = drainer
        self._running: asyncio.Task[Readiness] | None = None

    async def check(self) -> Readiness:
        """Run all checks, log those that fail, and return the results within CHECK_SECONDS + 0.25 s.

        Concurrent callers share one run, so that a flood of requests takes no more connections of the pool than one.
        """
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._run())
        # A caller that is cancelled must not cancel the run of the others.
        return await asyncio.shield(self._running)

    async def _run(self) -> Readiness:
        replicas = self._expected_replicas()
        checks: dict[str, Callable[[], Awaitable[_Problem]]] = {
            "postgres": self._postgres,
            "schema": self._schema,
            **({"replicas": partial(self._replicas, replicas)} if replicas else {}),
            "redis": self._redis,
            "outbox": self._outbox,
        }
        results = await asyncio.gather(*(_timed(check) for check in checks.values()))
        readiness = Readiness(dict(zip(checks, results, strict=True)))
        if not readiness.ready:
            failed = {name: each.reason for name, each in readiness.checks.items() if not each.ok}
            _logger.warning(NOT_READY, extra={"failed": failed})
        return readiness

    def _expected_replicas(self) -> int:
        try:
            return count_hosts(self._data.pool.settings.url.read()) - 1
        except DbError:
            # The check of Postgres reports it.
            return 0

    async def _postgres(self) -> str | None:
        limit = await self._data.pool.fetch_one(
            READ_CONNECTION_LIMIT, {}, class_row(ConnectionLimit), Deadline(CHECK_SECONDS)
        )
        return None if limit is None else connection_problem(limit, self._data.pool.settings.connections)

    async def _schema(self) -> str | None:
        applied = await self._data.pool.fetch_all(
            READ_LEDGER, {}, class_row(AppliedMigration), Deadline(CHECK_SECONDS)
        )
        return schema_problem(applied, expected_migrations())

    async def _replicas(self, expected: int) -> _Problem:
        found = await self._data.pool.fetch_one(
            READ_REPLICATION, {}, class_row(Replication), Deadline(CHECK_SECONDS)
        )
        return None if found is None else replication_problem(found, expected)

    async def _redis(self) -> _Problem:
        await self._data.cache.ping()
        following, expected = await self._data.cache.replicas()
        if following < expected:
            return Degraded(f"{following} of {expected} replicas follow the primary")
        return None

    async def _outbox(self) -> str | None:
        return self._drainer.problem()


def replication_problem(found: Replication, expected: int) -> _Problem:
    """Return what is wrong with the replicas of Postgres, of which there should be `expected`."""
    if found.writes_wait:
        return "no replica is synchronous, so every write waits; reads work"
    if found.connected < expected:
        return Degraded(f"{found.connected} of {expected} replicas are connected to the primary")
    return None


def count_hosts(url: str) -> int:
    """Return how many servers a connection string lists."""
    try:
        return len(str(conninfo_to_dict(url).get("host", "")).split(","))
    except psycopg.ProgrammingError:
        # The checks of Postgres report it.
        return 1


async def _timed(check: Callable[[], Awaitable[_Problem]]) -> ReadinessResult:
    started = perf_counter()
    problem: _Problem
    try:
        async with asyncio.timeout(CHECK_SECONDS + _GRACE_SECONDS):
            problem = await check()
    except (DbError, CacheError) as error:
        problem = str(error)
    except TimeoutError:
        problem = f"no answer within {CHECK_SECONDS:.0f} s"
    reason = problem.reason if isinstance(problem, Degraded) else problem
    is_ok = problem is None or isinstance(problem, Degraded)
    return ReadinessResult(is_ok, round((perf_counter() - started) * 1000, 2), reason)
