"""Lock waits in Postgres, one row per waiting session and lock holder."""

from __future__ import annotations

from collections.abc import Sequence

from ops.servers.monitored_postgres import MonitoredPostgres, Row
from ops.servers.statement_text import without_literals

_QUERY = """
SELECT waiter.pid, waiter.usename, waiter.query, coalesce(awaited.seconds, 0) AS seconds, awaited.what,
       holder.pid AS holder_pid, holder.usename AS holder, holder.state AS holder_state,
       holder.application_name AS holder_application, holder.query AS holder_query
FROM pg_stat_activity AS waiter
LEFT JOIN LATERAL (
    SELECT extract(epoch FROM clock_timestamp() - min(waitstart))::float AS seconds,
           min(coalesce(relation::regclass::text, locktype)) AS what
    FROM pg_locks WHERE NOT granted AND pg_locks.pid = waiter.pid
) AS awaited ON true
CROSS JOIN LATERAL unnest(pg_blocking_pids(waiter.pid)) AS blocker (pid)
LEFT JOIN pg_stat_activity AS holder ON holder.pid = blocker.pid
WHERE waiter.wait_event_type = 'Lock'
ORDER BY seconds DESC LIMIT 50
"""


def lock_waits(postgres: MonitoredPostgres) -> Sequence[Row]:
    """Return at most 50 waits, the longest first: `pid` waits `seconds` for `what`, which `holder_pid` holds.

    The statements have no literals and no comments.
    """
    return [
        {**row, **{name: without_literals(row[name] or "") for name in ("query", "holder_query")}}
        for row in postgres.rows(_QUERY)
    ]
