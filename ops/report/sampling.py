"""Read the servers' counters at intervals. A server that does not answer causes a gap, not an abort."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ops.errors import OpsError
from ops.report.cache_reads import NOT_SAMPLED, CacheReads, cache_reads
from ops.servers.access_metrics import MetricKey, access_metrics
from ops.servers.errors import ServerUnreachable
from ops.servers.lock_waits import lock_waits
from ops.servers.monitored_postgres import MonitoredPostgres, Row
from ops.servers.monitored_redis import MonitoredRedis
from ops.servers.monitored_stack import MonitoredStack
from ops.servers.replication import postgres_replicas, redis_replicas

_DATABASE = """
SELECT blks_hit, blks_read, xact_commit, xact_rollback, deadlocks, temp_bytes
FROM pg_stat_database WHERE datname = current_database()
"""
_CONNECTIONS = """
SELECT rolname AS role, rolconnlimit AS "limit", count(pid) AS used
FROM pg_roles JOIN pg_stat_activity ON usesysid = pg_roles.oid AND backend_type = 'client backend'
WHERE rolconnlimit >= 0 GROUP BY 1, 2 ORDER BY 1
"""
_STATEMENTS = """
SELECT queryid, coalesce(rolname, userid::text) AS role, query, calls, total_exec_time AS total_ms,
       mean_exec_time AS mean_ms, max_exec_time AS max_ms, rows, shared_blks_hit AS hit, shared_blks_read AS read
FROM extensions.pg_stat_statements LEFT JOIN pg_roles ON pg_roles.oid = userid
WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
"""
# Fields of INFO.
REDIS_FIELDS = (
    *("keyspace_hits", "keyspace_misses", "evicted_keys", "expired_keys", "total_commands_processed"),
    *("used_memory", "used_memory_rss", "maxmemory", "connected_clients"),
)


@dataclass(frozen=True)
class Sample:
    """The values of one round at time `at` (seconds since 1970). None means that the server did not answer."""

    at: float
    postgres: Mapping[str, float] | None
    waits: Sequence[Row] | None
    redis: Mapping[str, float] | None
    access: Mapping[MetricKey, float] | None
    # With replicas: how many bytes each of them is behind, by name in Postgres, by address in Redis.
    postgres_lag: Mapping[str, float] | None = None
    redis_lag: Mapping[str, float] | None = None


@dataclass
class Sampling:
    """All data of a report. `unreached` has a reason for each server that failed to answer at least once."""

    stack: str
    interval_seconds: float
    samples: list[Sample] = field(default_factory=list)
    statements_before: Sequence[Row] = ()
    statements: Sequence[Row] = ()
    connections: Sequence[Row] = ()
    cache_reads: CacheReads = NOT_SAMPLED
    # Of Postgres, in Docker.
    expected_replicas: int = 0
    unreached: dict[str, str] = field(default_factory=dict)
    was_stopped: bool = False


def sample_for(
    stack: MonitoredStack,
    seconds: float,
    interval: float,
    progress: Callable[[int, float], None] = lambda count, left: None,
) -> Sampling:
    """Sample for `seconds`, but at least twice. Ctrl-C ends the sampling early and keeps the samples so far.

    Raise ServerUnreachable if no server answered at all.
    """
    expected = max(len(stack.members) - 1, 0)
    sampler = _Sampler(stack, Sampling(stack.name, interval, expected_replicas=expected))
    try:
        sampler.run(seconds, interval, progress)
    finally:
        sampler.close()
    done = sampler.done
    if not any(s.postgres or s.redis or s.access for s in done.samples):
        raise ServerUnreachable("; ".join(done.unreached.values()) or "no server was sampled")
    return done


class _Sampler:
    def __init__(self, stack: MonitoredStack, done: Sampling) -> None:
        self._stack = stack
        self._postgres = MonitoredPostgres(stack)
        self._redis = MonitoredRedis(stack)
        self.done = done

    def close(self) -> None:
        self._postgres.close()
        self._redis.close()

    def run(self, seconds: float, interval: float, progress: Callable[[int, float], None]) -> None:
        done = self.done
        try:
            done.statements_before = self._ask("Postgres", lambda: self._postgres.rows(_STATEMENTS)) or ()
            began = time.monotonic()
            while True:
                done.samples.append(self._sample())
                passed = time.monotonic() - began
                progress(len(done.samples), max(seconds - passed, 0))
                if passed >= seconds and len(done.samples) >= 2:
                    break
                # Scheduled from the start, so that delays of slow answers do not add up.
                time.sleep(max(len(done.samples) * interval - passed, 0))
        except KeyboardInterrupt:
            done.was_stopped = True
        done.statements = self._ask("Postgres", lambda: self._postgres.rows(_STATEMENTS)) or ()
        done.connections = self._ask("Postgres", lambda: self._postgres.rows(_CONNECTIONS)) or ()
        if done.samples:
            done.cache_reads = cache_reads(
                self._stack.prometheus_url,
                [sample.access for sample in done.samples],
                time.time() - done.samples[0].at,
                self._ask,
            )

    def _sample(self) -> Sample:
        at = time.time()
        counters = self._ask("Postgres", lambda: self._postgres.rows(_DATABASE)[0])
        waits = None if counters is None else self._ask("Postgres", lambda: lock_waits(self._postgres))
        lag = None
        if counters is not None and self.done.expected_replicas:
            lag = self._ask("Postgres", lambda: postgres_replicas(self._postgres))
        info = self._ask("Redis", self._redis.info)
        return Sample(
            at,
            None if counters is None else {name: float(value) for name, value in counters.items()},
            waits,
            None if info is None else {name: float(info[name]) for name in REDIS_FIELDS},
            None
            if (url := self._stack.access_url) is None
            else self._ask("access", lambda: access_metrics(url)),
            None if lag is None else _lag_bytes(row for row in lag if row["state"] == "streaming"),
            None if info is None else _lag_bytes(redis_replicas(info)),
        )

    def _ask(self, server: str, question: Callable[[], Any]) -> Any:
        try:
            return question()
        except OpsError as error:
            self.done.unreached[server] = str(error)
            return None


def _lag_bytes(replicas: Iterable[Row]) -> dict[str, float]:
    return {row["name"]: float(row["lag_bytes"]) for row in replicas}
