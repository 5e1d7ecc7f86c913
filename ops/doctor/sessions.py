"""Postgres sessions: connections, long transactions, lock waits, the lock table, and the NOTIFY queue."""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter

from ops.doctor.check_result import (
    STACK_OPTION,
    CheckResult,
    CheckStatus,
    counted,
    judged,
    level,
    ok,
    psql_command,
    worst,
)
from ops.doctor.examination import Examination
from ops.rotation.login_drift import QUERY, login_differences
from ops.servers.errors import NotVisible, ServerUnreachable, TooSlow
from ops.servers.lock_waits import lock_waits
from ops.servers.monitored_postgres import CONNECTION_LIMIT, Row
from ops.servers.statement_text import without_literals

_LIMITS = """
SELECT rolname, rolconnlimit AS "limit", count(pid) AS used,
       count(*) FILTER (WHERE state LIKE 'idle in transaction%') AS idle_in_transaction
FROM pg_roles LEFT JOIN pg_stat_activity ON usesysid = pg_roles.oid AND backend_type = 'client backend'
WHERE rolcanlogin GROUP BY 1, 2 ORDER BY 1
"""
_SERVER = f"""
SELECT count(*) AS used, {CONNECTION_LIMIT} AS "limit"
FROM pg_stat_activity WHERE backend_type = 'client backend'
"""
_LONG = """
SELECT pid, usename, state, application_name, query,
       extract(epoch FROM clock_timestamp() - xact_start)::float AS seconds
FROM pg_stat_activity
WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() AND xact_start IS NOT NULL
ORDER BY xact_start LIMIT 20
"""
# Fast-path locks, the usual ones on tables, need no entry of the shared table. The predicate locks of serializable
# transactions (SIReadLock) have a table of their own.
_LOCK_TABLE = """
WITH held AS (
    SELECT pid, count(*) AS locks FROM pg_locks WHERE NOT fastpath AND mode <> 'SIReadLock' GROUP BY pid
)
SELECT pid, usename, state, application_name, query, locks,
       coalesce(extract(epoch FROM clock_timestamp() - xact_start), 0)::float AS seconds,
       (SELECT sum(locks) FROM held)::float / (current_setting('max_locks_per_transaction')::int
         * (current_setting('max_connections')::int + current_setting('max_prepared_transactions')::int)) AS usage
FROM held JOIN pg_stat_activity USING (pid) ORDER BY locks DESC LIMIT 5
"""


def reached(examination: Examination) -> CheckResult:
    """postgres: check that it answers role monitor. If it does not, name what a role changed of its own login."""
    postgres = examination.postgres
    try:
        (row,) = postgres.rows("SELECT current_setting('server_version') AS version")
    except ServerUnreachable as error:
        if changed := _changed_logins(examination):
            raise ServerUnreachable(
                f"{error}; logins differ from the stack's: {'; '.join(changed)};"
                f" `groundwork up{STACK_OPTION}` repairs them"
            ) from error
        raise
    began = perf_counter()
    postgres.rows("SELECT 1")
    took = (perf_counter() - began) * 1000
    return ok(f"{postgres.name} is version {row['version'].split()[0]} and answers in {took:.1f} ms")


def _changed_logins(examination: Examination) -> list[str]:
    """Return what the superuser sees of the logins. Empty if it sees nothing, because the server is down or on AWS."""
    digests = examination.stack.expected.get("verifierDigests")
    if not digests:
        return []
    try:
        return list(login_differences(examination.postgres.superuser_rows(QUERY), digests))
    except (NotVisible, TooSlow):
        return []


def connections(examination: Examination) -> CheckResult:
    """postgres-connections: compare the used connections with the limits of each login and of the server."""
    limits = examination.thresholds
    rows = [row for row in examination.postgres.rows(_LIMITS) if row["limit"] >= 0]
    (server,) = examination.postgres.rows(_SERVER)
    entries = [(row["rolname"], row["used"], row["limit"]) for row in rows]
    entries.append(("all", server["used"], server["limit"]))
    statuses = {
        name: level(used / max(limit, 1), limits.connections_warn, limits.connections_fail)
        for name, used, limit in entries
    }
    full = [
        f"{name} {used} of {limit}" for name, used, limit in entries if statuses[name] is not CheckStatus.OK
    ]
    return judged(
        worst(list(statuses.values())),
        f"nearly exhausted: {', '.join(full)}" if full else f"{server['used']} of {server['limit']} in use",
        "close leaked connections, use a smaller pool, or raise the role's limit"
        " (e.g. appConnectionLimit, together with postgresMaxConnections)",
        [f"{name}: {used} of {limit}" for name, used, limit in entries if used or name == "all"]
        + [
            f"{row['rolname']}: {row['idle_in_transaction']} idle in a transaction"
            for row in rows
            if row["idle_in_transaction"]
        ],
    )


def long_transactions(examination: Examination) -> CheckResult:
    """long-transactions: find old transactions. They hold locks and keep VACUUM from removing dead rows."""
    limits = examination.thresholds
    rows = [r for r in examination.postgres.rows(_LONG) if r["seconds"] >= limits.transaction_warn]
    if not rows:
        return ok(f"no transaction is older than {_duration(limits.transaction_warn)}")
    return judged(
        level(rows[0]["seconds"], limits.transaction_warn, limits.transaction_fail),
        f"{len(rows)} older than {_duration(limits.transaction_warn)}, the oldest {_duration(rows[0]['seconds'])}",
        f"wait until it ends, or terminate the oldest with {_terminate(rows[0]['pid'])}; fix a client that does not"
        " commit",
        _transactions(rows),
    )


def locks(examination: Examination) -> CheckResult:
    """locks: find sessions that wait for a lock, and for how long."""
    limits = examination.thresholds
    rows = lock_waits(examination.postgres)
    waiting = [row for row in rows if row["seconds"] >= limits.lock_wait_warn]
    if not waiting:
        return ok("no session waits for a lock" if not rows else "no session waits for long", _waits(rows))
    longest = max(row["seconds"] for row in waiting)
    who = counted(len({row["pid"] for row in waiting}), "session")
    # The sessions that block others and do not wait themselves. 0 stands for a prepared transaction.
    blockers = sorted({row["holder_pid"] or 0 for row in waiting} - {row["pid"] for row in rows} - {0})
    return judged(
        level(longest, limits.lock_wait_warn, limits.lock_wait_fail),
        f"{who} waiting for a lock, the longest for {_duration(longest)}",
        f"terminate what blocks the others with {_terminate(*blockers)}"
        if blockers
        else "see below what blocks the others; pg_prepared_xacts lists prepared transactions",
        _waits(waiting),
    )


def lock_table(examination: Examination) -> CheckResult:
    """lock-table: check the share of the shared lock table in use. If it is full, nobody can log in."""
    limits = examination.thresholds
    rows = examination.postgres.rows(_LOCK_TABLE)
    usage = rows[0]["usage"] if rows else 0.0
    text = f"{usage:.1%} of the lock table in use"
    status = level(usage, limits.lock_table_warn, limits.lock_table_fail)
    if status is CheckStatus.OK:
        return ok(text)
    return judged(
        status,
        f"{text}; when it is full, nobody can log in, not even the superuser",
        f"terminate the session with the most locks with {_terminate(rows[0]['pid'])}",
        [f"{row['locks']} locks: {line}" for row, line in zip(rows, _transactions(rows), strict=True)],
    )


def notify_queue(examination: Examination) -> CheckResult:
    """notify-queue: check the share of the NOTIFY queue in use. Old transactions of listeners keep it from draining."""
    limits = examination.thresholds
    usage = float(examination.postgres.rows("SELECT pg_notification_queue_usage() AS usage")[0]["usage"])
    text = f"{usage:.1%} of the NOTIFY queue in use"
    status = level(usage, limits.notify_queue_warn, limits.notify_queue_fail)
    if status is CheckStatus.OK:
        return ok(text)
    open_since = examination.postgres.rows(_LONG)
    return judged(
        status,
        f"{text}; at 100% every write that invalidates cached records fails",
        f"terminate the oldest transaction with {_terminate(open_since[0]['pid'])}"
        if open_since
        else "the queue drains when its listeners are connected and idle; run this check again",
        _transactions(open_since),
    )


def _terminate(*pids: int) -> str:
    return psql_command(*(f"SELECT pg_terminate_backend({pid})" for pid in pids))


def _transactions(rows: Sequence[Row]) -> list[str]:
    return [
        f"process {r['pid']}, {r['usename']} ({r['application_name'] or 'no name'}), {r['state']},"
        f" {_duration(r['seconds'])}: {_start(without_literals(r['query'] or ''))}"
        for r in rows
    ]


def _waits(rows: Sequence[Row]) -> list[str]:
    return [
        f"process {r['pid']} ({r['usename']}) waits {_duration(r['seconds'])} for {r['what']}: {_start(r['query'])}"
        f" -- held by process {r['holder_pid']} ({r['holder']}, {r['holder_application'] or 'no name'},"
        f" {r['holder_state']}): {_start(r['holder_query'])}"
        for r in rows
    ]


def _start(query: str) -> str:
    return query if len(query) <= 100 else query[:97] + "..."


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"
