"""Snapshots and readings for the tests of `top`."""

from __future__ import annotations

from typing import Any

from ops.top.snapshot import Access, Cache, Outbox, Postgres, Redis, Session, Sessions, Snapshot, Statement


def session(pid: int, **changes: Any) -> Session:
    fields: dict[str, Any] = {
        "pid": pid, "login": "app_a", "application": "web", "client": "10.0.0.1", "database": "groundwork",
        "state": "active", "wait_type": None, "wait": None, "state_seconds": 1.0, "transaction_seconds": 1.0,
        "blocked_by": (), "lock": None, "lock_seconds": None, "statement": "SELECT ?",
    }  # fmt: skip
    return Session(**(fields | changes))


def statement(text: str = "SELECT $1", **changes: Any) -> Statement:
    fields: dict[str, Any] = {
        "query_id": 7, "login": "app_a", "load": 0.5, "calls_per_second": 10.0, "mean_ms": 50.0,
        "rows_per_second": 1.0, "buffer_hit_rate": 99.0, "statement": text,
    }  # fmt: skip
    return Statement(**(fields | changes))


def snapshot(**changes: Any) -> Snapshot:
    """Return a snapshot of healthy servers. `changes` replaces fields of Postgres."""
    counts = Sessions(used=3, max=97, active=1, idle_in_transaction=0, waiting_for_lock=0)
    postgres: dict[str, Any] = {
        "is_up": True, "reason": None, "address": "localhost:5432", "version": "15.20", "uptime_seconds": 90.0,
        "commits_per_second": 1234.5, "buffer_hit_rate": 99.5, "counts": counts,
    }  # fmt: skip
    return Snapshot(
        stack="dev",
        target="docker",
        at="2026-01-02T03:04:05Z",
        interval_seconds=1.0,
        postgres=Postgres(**(postgres | changes)),
        redis=Redis(
            is_up=True, reason=None, address="localhost:6379", version="7.0.15", used_bytes=3 * 1024**2
        ),
        access=Access(
            is_up=True,
            reason=None,
            address="http://localhost:8080",
            outbox=Outbox(rows=2, age_seconds=0.5, drained_per_second=1.0),
        ),
        cache=Cache(source="Not known."),
    )
