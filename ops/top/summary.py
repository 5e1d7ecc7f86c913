"""Turn the last two readings of each server into a snapshot: counters become rates and shares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from msgspec import structs

from infra.spec.redis_replication import server_at
from ops.report.cache_reads import CacheReads, EntityReads
from ops.servers.monitored_postgres import Row
from ops.servers.redis_primary import version_of
from ops.servers.replication import redis_replicas
from ops.servers.statement_text import without_literals
from ops.top.snapshot import (
    Access,
    Cache,
    Outbox,
    Pool,
    Postgres,
    Reads,
    Redis,
    Replica,
    Session,
    Sessions,
    Snapshot,
    Statement,
)
from ops.top.sources import AccessReading, PostgresReading, RedisReading
from ops.top.watch import Seen

# A read that takes longer is shown as a server that does not answer.
SLOW_SECONDS = 2.0
_Counters = Mapping[str, Any]
Servers = Mapping[str, str]
NO_SERVERS: Servers = {}


def rate(before: float | None, now: float | None, seconds: float | None) -> float | None:
    """Return a counter's increase per second, or None after a reset and without an earlier value."""
    if before is None or now is None or not seconds or seconds < 0 or now < before:
        return None
    return (now - before) / seconds


def share(part: float | None, rest: float | None) -> float | None:
    """Return a part in percent of part and rest, or None if there is nothing to share."""
    return 100 * part / (part + rest) if part is not None and rest is not None and part + rest > 0 else None


def why_not(seen: Seen[Any], now: float) -> str | None:
    """Return why a server's last reading is not current, or None if it is."""
    if seen.reason is not None:
        return seen.reason
    if seen.since is not None and (seen.last is None or now - seen.since > SLOW_SECONDS):
        return f"no answer for {max(now - seen.since, 0):.0f} s"
    return None


def _missing(servers: Servers, primary: str, replicas: Sequence[str]) -> tuple[str, ...]:
    return tuple(name for at, name in servers.items() if at != primary and name not in replicas)


def postgres(
    seen: Seen[PostgresReading],
    address: str,
    expected_replicas: int,
    now: float,
    servers: Servers = NO_SERVERS,
) -> Postgres:
    """Return what is known of Postgres. `servers` are the names of several servers by host:port."""
    reason = why_not(seen, now)
    if reason is not None or (last := seen.last) is None:
        return Postgres(
            is_up=False,
            reason=reason,
            address=address,
            expected_replicas=expected_replicas,
            servers=dict(seen.servers),
        )
    server = last.server
    # After a restart or a reset of the statistics, the counters begin at 0.
    previous = seen.previous if seen.previous and seen.previous.server["epoch"] == server["epoch"] else None
    seconds = last.at - previous.at if previous else None

    def per_second(counter: str) -> float | None:
        return rate(previous.server[counter] if previous else None, server[counter], seconds)

    return Postgres(
        is_up=True,
        reason=None,
        address=last.address,
        version=server["version"].split()[0],
        uptime_seconds=server["uptime_seconds"],
        expected_replicas=expected_replicas,
        replicas=tuple(Replica(**row) for row in last.replication),
        missing=_missing(servers, last.address, [row["name"] for row in last.replication]),
        commits_per_second=per_second("xact_commit"),
        rollbacks_per_second=per_second("xact_rollback"),
        buffer_hit_rate=share(per_second("blks_hit"), per_second("blks_read")),
        temporary_bytes_per_second=per_second("temp_bytes"),
        deadlocks=server["deadlocks"],
        oldest_transaction_seconds=server["oldest_transaction_seconds"],
        counts=Sessions(
            used=server["used"],
            max=server["max"],
            active=server["active"],
            idle_in_transaction=server["idle_in_transaction"],
            waiting_for_lock=server["waiting_for_lock"],
        ),
        sessions=tuple(_session(row) for row in last.sessions),
        statements=None if last.statements is None else tuple(_statement(row) for row in last.statements),
        statements_seconds=last.statements_seconds,
    )


def _session(row: Row) -> Session:
    return Session(
        pid=row["pid"],
        login=row["login"],
        application=row["application"],
        client=row["client"],
        database=row["database"],
        state=row["state"],
        wait_type=row["wait_type"],
        wait=row["wait"],
        state_seconds=row["state_seconds"],
        transaction_seconds=row["transaction_seconds"],
        # A process with parallel workers is listed once for each.
        blocked_by=tuple(sorted(set(row["blocked_by"] or ()))),
        lock=row["lock"],
        lock_seconds=row["lock_seconds"],
        statement=without_literals(row["query"] or ""),
    )


def _statement(row: Row) -> Statement:
    return Statement(
        query_id=row["queryid"],
        login=row["login"],
        load=row["load"],
        calls_per_second=row["calls_per_second"],
        mean_ms=row["mean_ms"],
        rows_per_second=row["rows_per_second"],
        buffer_hit_rate=row["buffer_hit_rate"],
        statement=without_literals(row["query"]),
    )


def redis(
    seen: Seen[RedisReading], address: str, expected_replicas: int, now: float, servers: Servers = NO_SERVERS
) -> Redis:
    """Return what is known of Redis. `servers` are the names of several servers by host:port."""
    reason = why_not(seen, now)
    if reason is not None or (last := seen.last) is None:
        return Redis(is_up=False, reason=reason, address=address, expected_replicas=expected_replicas)
    info = last.info
    previous = seen.previous if seen.previous and seen.previous.info["run_id"] == info["run_id"] else None
    seconds = last.at - previous.at if previous else None

    def per_second(counter: str) -> float | None:
        return rate(previous.info[counter] if previous else None, info[counter], seconds)

    replicas = [Replica(**row) for row in redis_replicas(info)]
    if servers:
        replicas = [structs.replace(each, name=server_at(str(each.address))) for each in replicas]
    return Redis(
        is_up=True,
        reason=None,
        address=last.address,
        version=version_of(info),
        uptime_seconds=float(info["uptime_in_seconds"]),
        expected_replicas=expected_replicas,
        replicas=tuple(replicas),
        missing=_missing(servers, last.address, [replica.name for replica in replicas]),
        clients=info["connected_clients"],
        commands_per_second=per_second("total_commands_processed"),
        hit_rate=share(per_second("keyspace_hits"), per_second("keyspace_misses")),
        used_bytes=info["used_memory"],
        max_bytes=info["maxmemory"] or None,
        evictions_per_second=per_second("evicted_keys"),
        expirations_per_second=per_second("expired_keys"),
    )


def access(seen: Seen[AccessReading], address: str, now: float) -> Access:
    """Return what is known of the access service."""
    reason = why_not(seen, now)
    if reason is not None or (last := seen.last) is None:
        return Access(is_up=False, reason=reason, address=address)
    before = seen.previous.metrics if seen.previous else {}
    seconds = last.at - seen.previous.at if seen.previous else None

    def value(name: str, labels: tuple[tuple[str, str], ...] = ()) -> float | None:
        return last.metrics.get((name, labels))

    def per_second(name: str, labels: tuple[tuple[str, str], ...] = ()) -> float | None:
        return rate(before.get((name, labels)), value(name, labels), seconds)

    pools = []
    for (name, labels), size in sorted(last.metrics.items()):
        if name == "groundwork_db_pool_size":
            pools.append(
                Pool(
                    name=dict(labels).get("pool", ""),
                    size=int(size),
                    idle=int(value("groundwork_db_pool_available", labels) or 0),
                    max=int(value("groundwork_db_pool_max", labels) or 0),
                    waiting=int(value("groundwork_db_requests_waiting", labels) or 0),
                    requests_per_second=per_second("groundwork_db_pool_requests_total", labels),
                    queued_per_second=per_second("groundwork_db_pool_requests_queued_total", labels),
                )
            )
    rows = value("groundwork_outbox_depth")
    return Access(
        is_up=True,
        reason=None,
        address=address,
        pools=tuple(pools),
        outbox=Outbox(
            rows=None if rows is None else int(rows),
            age_seconds=value("groundwork_outbox_age_seconds"),
            drained_per_second=per_second("groundwork_outbox_drained_total"),
        ),
    )


def cache(found: CacheReads) -> Cache:
    """Return the reads by layer."""
    return Cache(
        source=found.source,
        all=_reads(found.all) if found.is_known else None,
        entities=tuple(_reads(each) for each in sorted(found.by_entity, key=lambda each: -each.count)),
    )


def _reads(found: EntityReads) -> Reads:
    return Reads(
        job=found.job,
        entity=found.entity,
        count=found.count,
        near=found.share(found.near),
        redis=found.share(found.redis),
        database=found.share(found.database),
    )


def snapshot(
    stack: str,
    target: str,
    interval: float,
    postgres_state: Postgres,
    redis_state: Redis,
    access_state: Access | None,
    cache_state: Cache,
) -> Snapshot:
    at = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    return Snapshot(
        stack=stack,
        target=target,
        at=at,
        interval_seconds=interval,
        postgres=postgres_state,
        redis=redis_state,
        access=access_state,
        cache=cache_state,
    )


def lock_tree(sessions: Sequence[Session]) -> list[tuple[int, int, Session | None]]:
    """Return which session blocks which: (depth, process, session), each blocker before the sessions that wait for it.

    The session of a blocker that is not listed, such as a prepared transaction (process 0), is None.
    """
    by_pid = {session.pid: session for session in sessions}
    waiters = [session for session in sessions if session.blocked_by]
    blockers = {pid for waiter in waiters for pid in waiter.blocked_by}
    waiting = {waiter.pid for waiter in waiters}
    found: list[tuple[int, int, Session | None]] = []
    shown: set[int] = set()

    # Of each blocker, the one that has waited longest last.
    waiting_for: dict[int, list[int]] = {pid: [] for pid in blockers}
    for waiter in sorted(waiters, key=lambda each: each.lock_seconds or 0):
        for pid in waiter.blocked_by:
            waiting_for[pid].append(waiter.pid)

    def show(root: int) -> None:
        # Not recursive, because each session in a queue for a row waits for all before it.
        left = [(root, 0)]
        while left:
            pid, depth = left.pop()
            if pid in shown:
                continue
            shown.add(pid)
            found.append((depth, pid, by_pid.get(pid)))
            # A session that waits for several is shown below the one that the others wait for too.
            left += [(waiter, depth + 1) for waiter in waiting_for.get(pid, ())]

    for pid in sorted(blockers - waiting):
        show(pid)
    # A deadlock that the server has not broken yet.
    for pid in sorted(waiting):
        show(pid)
    return found
