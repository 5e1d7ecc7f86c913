"""Rehearse pending migrations on a copy of the database while the application's queries run against it.

It measures what callers notice: how long they wait for locks, and which queries fail. The hardware differs from the
target's, so the durations are only an indication.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psycopg

from db.migrator import Event, LockLimits, Migration, apply_pending
from db.migrator.connection import open_connection
from db.migrator.lock_wait import DEFAULT_LIMITS
from db.migrator.runner import checked_status
from db.named_query import NamedQuery
from db.seed import load_sample_data
from db.session import connect
from infra.spec import roles
from ops.errors import Exit, OpsError
from ops.migrations.rehearsal.database_copy import DatabaseCopy, SourceDatabase, copy_database
from ops.migrations.rehearsal.parameters import Parameters
from ops.migrations.rehearsal.query_sources import queries_of_folder, queries_of_server, with_types
from ops.migrations.rehearsal.traffic import Call, Traffic, failing, unreplayable
from ops.migrations.scratch_database import on_temporary_server
from ops.servers.scratch_server import scratch_server
from ops.sql_check.declared import all_queries
from ops.toolchain.progress import Progress

_AFTER_SECONDS = 2.0
# Before and after the migrations, callers continue until each query was sent, but for no longer than this.
_EACH_LIMIT_SECONDS = 60.0


@dataclass(frozen=True)
class Quantiles:
    """Quantiles of durations, in milliseconds."""

    p50: float
    p99: float
    max: float

    @classmethod
    def of(cls, seconds: Iterable[float]) -> Quantiles | None:
        values = sorted(seconds)
        if not values:
            return None
        p50, p99, most = (
            round(values[math.ceil(share * len(values)) - 1] * 1000, 1) for share in (0.5, 0.99, 1)
        )
        return cls(p50, p99, most)


@dataclass(frozen=True)
class QueryReport:
    """One query: number of calls, their durations, their lock waits, and their `errors` by SQLSTATE.

    `before` is without migrations, `during` while they run. Later errors count as `during`.
    """

    query: str
    calls: dict[str, int]
    took: dict[str, Quantiles | None]
    blocked: dict[str, Quantiles | None]
    errors: dict[str, dict[str, int]]

    @property
    def blocked_ms(self) -> float:
        """The longest lock wait during the migrations."""
        during = self.blocked["during"]
        return 0.0 if during is None else during.max

    @property
    def new_errors(self) -> set[str]:
        """SQLSTATEs that did not occur before the migrations."""
        return self.errors["during"].keys() - self.errors["before"].keys()


@dataclass(frozen=True)
class MigrationReport:
    """One migration: its duration, its longest lock wait, and how often it had to retry for a lock."""

    name: str
    seconds: float
    longest_lock_wait_ms: float
    retries: int


@dataclass(frozen=True)
class Rehearsal:
    """The result of a rehearsal. `skipped` has the queries that were not sent, with reasons."""

    migrations: tuple[MigrationReport, ...]
    queries: tuple[QueryReport, ...]
    skipped: Mapping[str, str]
    budget_ms: float | None

    @property
    def missed(self) -> tuple[QueryReport, ...]:
        """The queries that were blocked for longer than the budget, or that newly failed."""
        if self.budget_ms is None:
            return ()
        return tuple(each for each in self.queries if each.blocked_ms > self.budget_ms or each.new_errors)

    def as_json(self) -> dict[str, Any]:
        return {
            "migrations": [asdict(each) for each in self.migrations],
            "queries": [asdict(each) for each in self.queries],
            "skipped": dict(self.skipped),
            "budget_ms": self.budget_ms,
            "missed": [each.query for each in self.missed],
        }


@dataclass(frozen=True)
class RehearsalOptions:
    """Options of a rehearsal. `max_bytes` limits the size of the database to copy.

    `queries` is a folder with the application's queries. The default is db/queries for a database that groundwork
    provisioned, and the database's pg_stat_statements for others.
    """

    callers: int = 8
    before_seconds: float = 5.0
    with_rows: bool = True
    max_bytes: int = 2 * 1024**3
    budget_ms: float | None = None
    queries: Path | None = None
    ignore_missing: bool = False
    limits: LockLimits = DEFAULT_LIMITS


def rehearse(conninfo: str, migrations: Sequence[Migration], options: RehearsalOptions) -> Rehearsal | None:
    """Rehearse pending migrations. Return None if there are none. Progress goes to stderr.

    Raise OpsError (7) if the database is too large, OpsError (1) if too few queries work, MigrationError if a migration
    fails.
    """
    source = SourceDatabase.at(conninfo)
    state = checked_status(conninfo, migrations, ignore_missing=options.ignore_missing)
    if not state.pending:
        return None
    size = source.size_bytes()
    if options.with_rows and size > options.max_bytes:
        raise OpsError(
            f"the database has {size // 1024**2}MB, but at most {options.max_bytes // 1024**2}MB may be copied;"
            " raise --max-size, or pass --schema-only to use sample data",
            Exit.REFUSED,
        )
    is_ours = source.setup is None
    if options.queries is not None:
        queries = queries_of_folder(options.queries)
    else:
        queries = all_queries() if is_ours else queries_of_server(source.conninfo)
    progress = Progress()
    with scratch_server(on_disk=True, memory="1g", has_roles=is_ours) as server:
        what = f"copying {size // 1024**2}MB" if options.with_rows else "copying the schema"
        with progress.step("Rehearsal", what):
            copy = copy_database(source, server, with_rows=options.with_rows)
            if not options.with_rows and is_ours:
                load_sample_data(copy.caller_url)
                server.psql("ANALYZE", roles.DATABASE)
        with progress.step("Rehearsal", f"migrating under {options.callers} callers"):
            return _migrate_under_traffic(copy, queries, migrations, options)


def _migrate_under_traffic(
    copy: DatabaseCopy,
    queries: Mapping[str, NamedQuery],
    migrations: Sequence[Migration],
    options: RehearsalOptions,
) -> Rehearsal:
    def connect_caller() -> psycopg.Connection[Any]:
        return connect(copy.caller_url, search_path=copy.search_path)

    skipped: dict[str, str] = {}
    with open_connection(copy.url) as connection:
        parameters = Parameters(connection)
    with connect_caller() as connection:
        queries, skipped = with_types(connection, queries)
        left_out = unreplayable(queries, parameters)
        sent = {key: query for key, query in queries.items() if key not in left_out}
        failed = skipped | failing(connection, sent, parameters)
    sent = {key: query for key, query in sent.items() if key not in failed}
    if len(sent) <= len(failed):
        key, reason = next(iter(failed.items()), ("none", "there is no query that can be sent"))
        raise OpsError(
            f"only {len(sent)} of {len(sent) + len(failed)} queries work on the copy, too few for a rehearsal; for"
            f" example {key}: {reason}; pass the application's queries with --queries FOLDER"
        )
    skipped = left_out | failed
    record = _Record()
    with Traffic(
        connect=connect_caller,
        watcher_url=copy.url,
        queries=sent,
        parameters=parameters,
        callers=options.callers,
        on_other_wait=record.waited,
    ) as traffic:
        time.sleep(options.before_seconds)
        _await_each(traffic, 0.0)
        began = time.monotonic()
        with on_temporary_server(is_applied=False):
            applied = apply_pending(
                copy.url,
                migrations,
                ignore_missing=options.ignore_missing,
                limits=options.limits,
                on_event=record.hear,
            )
        ended = time.monotonic()
        record.now = None
        time.sleep(_AFTER_SECONDS)
        unsent = _await_each(traffic, ended)
    skipped |= dict.fromkeys(
        sorted(unsent), f"no call ended within {_EACH_LIMIT_SECONDS:g} s after the migrations"
    )
    reports = (
        _report(key, [call for call in traffic.calls if call.query == key], began, ended) for key in sent
    )
    return Rehearsal(
        tuple(
            MigrationReport(
                each.migration.name,
                round(each.seconds, 3),
                round(record.waits.get(each.migration.name, 0.0) * 1000, 1),
                record.retries.get(each.migration.name, 0),
            )
            for each in applied
        ),
        tuple(sorted(reports, key=lambda report: (-report.blocked_ms, report.query))),
        skipped,
        options.budget_ms,
    )


def _await_each(traffic: Traffic, moment: float) -> set[str]:
    """Wait until each query was sent since the moment, and return those that were not within the limit."""
    deadline = time.monotonic() + _EACH_LIMIT_SECONDS
    while (unsent := traffic.unsent_since(moment)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return unsent


class _Record:
    """Records the migrator's events and lock waits for the running migration."""

    def __init__(self) -> None:
        self.now: str | None = None
        self.waits: dict[str, float] = {}
        self.retries: dict[str, int] = {}
        self._lock = threading.Lock()

    def hear(self, event: Event) -> None:
        with self._lock:
            if event.migration is not None:
                self.now = event.migration.name
            if event.kind == "retry" and self.now is not None:
                self.retries[self.now] = self.retries.get(self.now, 0) + 1

    def waited(self, seconds: float) -> None:
        with self._lock:
            if self.now is not None:
                self.waits[self.now] = max(self.waits.get(self.now, 0.0), seconds)


def _report(query: str, calls: list[Call], began: float, ended: float) -> QueryReport:
    phases = {
        "before": [call for call in calls if call.ended <= began],
        "during": [call for call in calls if call.ended > began and call.started < ended],
    }
    after = [call for call in calls if call.started >= ended]
    return QueryReport(
        query,
        {phase: len(some) for phase, some in phases.items()},
        {phase: Quantiles.of(call.ended - call.started for call in some) for phase, some in phases.items()},
        {phase: Quantiles.of(call.blocked for call in some) for phase, some in phases.items()},
        {"before": _errors(phases["before"]), "during": _errors([*phases["during"], *after])},
    )


def _errors(calls: Iterable[Call]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for call in calls:
        if call.error is not None:
            counts[call.error] = counts.get(call.error, 0) + 1
    return counts
