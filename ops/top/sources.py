"""Read what `top` shows from each server. A read raises OpsError if the server does not answer, and may be repeated."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from infra.outputs import server_urls
from ops.servers.access_metrics import MetricKey, access_metrics
from ops.servers.errors import ServerUnreachable
from ops.servers.monitored_postgres import CONNECTION_LIMIT, MonitoredPostgres, Row
from ops.servers.monitored_redis import MonitoredRedis
from ops.servers.monitored_stack import MonitoredStack
from ops.servers.replication import postgres_replicas
from ops.top.statements import StatementSampler

APPLICATION = "groundwork top"
# Sessions in a transaction come first, so that only idle ones are left out.
_MOST_SESSIONS = 500
_SERVER = f"""
SELECT current_setting('server_version') AS version, pg_is_in_recovery() AS is_replica,
       pg_postmaster_start_time()::text || coalesce(stats_reset::text, '') AS epoch,
       extract(epoch FROM clock_timestamp() - pg_postmaster_start_time())::float AS uptime_seconds,
       {CONNECTION_LIMIT} AS max,
       xact_commit, xact_rollback, blks_hit, blks_read, deadlocks, temp_bytes, activity.*
FROM pg_stat_database CROSS JOIN (
    SELECT count(*) AS used, count(*) FILTER (WHERE state = 'active') AS active,
           count(*) FILTER (WHERE state LIKE 'idle in transaction%') AS idle_in_transaction,
           count(*) FILTER (WHERE wait_event_type = 'Lock') AS waiting_for_lock,
           extract(epoch FROM clock_timestamp() - min(xact_start))::float AS oldest_transaction_seconds
    FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()
) AS activity
WHERE datname = current_database()
"""
_SESSIONS = f"""
WITH waits AS MATERIALIZED (
    SELECT pid, extract(epoch FROM clock_timestamp() - min(waitstart))::float AS lock_seconds,
           min(coalesce(relation::regclass::text, locktype)) AS lock
    FROM pg_locks WHERE NOT granted GROUP BY pid
)
SELECT session.pid, usename AS login, datname AS database, state, wait_event_type AS wait_type, wait_event AS wait,
       CASE backend_type WHEN 'client backend' THEN application_name ELSE backend_type END AS application,
       host(client_addr) AS client, query,
       extract(epoch FROM clock_timestamp() - state_change)::float AS state_seconds,
       extract(epoch FROM clock_timestamp() - xact_start)::float AS transaction_seconds,
       CASE WHEN wait_event_type = 'Lock' THEN pg_blocking_pids(session.pid) END AS blocked_by, lock, lock_seconds
FROM pg_stat_activity AS session LEFT JOIN waits ON waits.pid = session.pid AND wait_event_type = 'Lock'
WHERE backend_type IN ('client backend', 'autovacuum worker') AND session.pid <> pg_backend_pid()
ORDER BY xact_start NULLS LAST, session.pid LIMIT {_MOST_SESSIONS}
"""


@dataclass(frozen=True)
class PostgresReading:
    """`at` is the time of time.monotonic(), and `address` that of the server that answered."""

    at: float
    address: str
    server: Row
    sessions: Sequence[Row]
    replication: Sequence[Row]
    statements: Sequence[Row] | None
    statements_seconds: float | None


@dataclass(frozen=True)
class RedisReading:
    at: float
    address: str
    info: Mapping[str, Any]


@dataclass(frozen=True)
class AccessReading:
    at: float
    metrics: Mapping[MetricKey, float]


class PostgresSource:
    """The primary of Postgres as role monitor, on one connection. `wants_statements`: read pg_stat_statements too."""

    def __init__(self, stack: MonitoredStack, wants_statements: bool) -> None:
        self.wants_statements = wants_statements
        self._postgres = MonitoredPostgres(stack, APPLICATION)
        self._statements = StatementSampler(self._postgres.rows)

    def read(self) -> PostgresReading:
        (server,) = self._postgres.rows(_SERVER)
        if server["is_replica"]:
            # The connection was opened before a switchover.
            self.close()
            raise ServerUnreachable(f"{self._postgres.name} is a replica now; looking for the primary")
        sessions = self._postgres.rows(_SESSIONS)
        replication = postgres_replicas(self._postgres)
        statements = self._statements.read(server["epoch"]) if self.wants_statements else None
        address = self._postgres.ask(lambda connection: f"{connection.info.host}:{connection.info.port}")
        return PostgresReading(
            time.monotonic(), address, server, sessions, replication, statements, self._statements.seconds
        )

    def close(self) -> None:
        self._postgres.close()


class RedisSource:
    """The primary of Redis as user monitor. Each read is one INFO."""

    def __init__(self, stack: MonitoredStack) -> None:
        self._stack = stack
        self._has_replicas = len(server_urls(stack.redis_url)) > 1
        self._redis = MonitoredRedis(stack)

    def read(self) -> RedisReading:
        try:
            info = self._redis.info()
            if self._has_replicas and info["role"] != "master":
                raise ServerUnreachable(f"{self._redis.name}: the primary has changed; looking for it")
            return RedisReading(time.monotonic(), self._redis.address, info)
        except BaseException:
            # A new connection looks for the primary again.
            self.close()
            self._redis = MonitoredRedis(self._stack)
            raise

    def close(self) -> None:
        self._redis.close()


class AccessSource:
    """The access service's metrics."""

    def __init__(self, url: str) -> None:
        self._url = url

    def read(self) -> AccessReading:
        return AccessReading(time.monotonic(), access_metrics(self._url))

    def close(self) -> None:
        pass
