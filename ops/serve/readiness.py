"""Readiness of the service. Each check queries its dependency, and all checks together take a bounded time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from time import perf_counter

from psycopg.rows import class_row

from cache.errors import CacheError
from db import AsyncDataAccess
from db.connection_limit import READ_CONNECTION_LIMIT, connection_problem
from db.deadline import Deadline
from db.errors import DbError
from db.rows import AppliedMigration, ConnectionLimit
from db.schema_version import READ_LEDGER, expected_migrations, schema_problem
from ops.serve.drainer import OutboxDrainer

# Time limit of a check. All checks run concurrently, so that a frozen server does not delay the others.
CHECK_SECONDS = 1.0
_GRACE_SECONDS = 0.25


@dataclass(frozen=True)
class ReadinessResult:
    """The result of a check. `reason` is None if it is fine."""

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


class ReadinessProbe:
    """Checks Postgres, its schema, Redis and the outbox's drainer."""

    def __init__(self, data: AsyncDataAccess, drainer: OutboxDrainer) -> None:
        self._data = data
        self._drainer = drainer

    async def check(self) -> Readiness:
        """Run all checks and return their results within CHECK_SECONDS + 0.25 s."""
        checks: dict[str, Callable[[], Awaitable[str | None]]] = {
            "postgres": self._postgres,
            "schema": self._schema,
            "redis": self._redis,
            "outbox": self._outbox,
        }
        results = await asyncio.gather(*(_timed(check) for check in checks.values()))
        return Readiness(dict(zip(checks, results, strict=True)))

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

    async def _redis(self) -> str | None:
        await self._data.cache.ping()
        return None

    async def _outbox(self) -> str | None:
        return self._drainer.problem()


async def _timed(check: Callable[[], Awaitable[str | None]]) -> ReadinessResult:
    started = perf_counter()
    reason: str | None
    try:
        async with asyncio.timeout(CHECK_SECONDS + _GRACE_SECONDS):
            reason = await check()
    except (DbError, CacheError) as error:
        reason = str(error)
    except TimeoutError:
        reason = f"no answer within {CHECK_SECONDS:.0f} s"
    return ReadinessResult(reason is None, round((perf_counter() - started) * 1000, 2), reason)
