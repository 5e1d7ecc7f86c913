"""Measure what a migration's statements lock, rewrite and scan by running them, instead of parsing their text.

The database is a temporary one in the state before the migration. Tables that the migration creates are left out,
because no other session can wait for them.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from db.migrator import Migration, ScriptFailed
from db.migrator.connection import (
    Connection,
    check_deferred_constraints,
    execute_statement,
    open_connection,
)
from db.migrator.failure import attributed_to
from db.migrator.resumption import is_resumable
from db.migrator.script import Statement, first_line
from db.migrator.source import Script
from db.migrator.step import WANTS_NO_TRANSACTION
from db.migrator.transactions import Transaction

# From the weakest to the strongest, as in SQL.
MODES = (
    "ACCESS SHARE", "ROW SHARE", "ROW EXCLUSIVE", "SHARE UPDATE EXCLUSIVE",
    "SHARE", "SHARE ROW EXCLUSIVE", "EXCLUSIVE", "ACCESS EXCLUSIVE",
)  # fmt: skip
_POLL_SECONDS = 0.002
_NOTICE_SECONDS = 60.0

_RELATIONS = """
SELECT pg_class.oid, coalesce(pg_partition_root(pg_class.oid), pg_class.oid)::regclass::text, relkind::text,
       pg_relation_filenode(pg_class.oid)
FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
WHERE nspname !~ '^pg_' AND nspname <> 'information_schema' AND relkind IN ('r', 'p', 'm', 'v', 'S', 'f')
"""
_LOCKABLE = """
SELECT pg_class.oid::regclass::text
FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
WHERE nspname !~ '^pg_' AND nspname <> 'information_schema' AND relkind IN ('r', 'p')
"""
# A table that grows, and a row that is waited for, are locked in other ways for a moment.
_LOCKS = """
SELECT CASE WHEN locktype = 'relation' THEN relation END, mode, granted FROM pg_locks
WHERE pid = %s AND (database = (SELECT oid FROM pg_database WHERE datname = current_database()) OR NOT granted)
"""
_SCANS = "SELECT relid, seq_scan FROM pg_stat_xact_user_tables WHERE seq_scan > 0"


@dataclass(frozen=True)
class Relation:
    """A table, view or sequence. A partition has its table's name."""

    name: str
    kind: str
    filenode: int | None


@dataclass(frozen=True)
class Lock:
    """A statement's strongest lock on a relation, and whether partitions of it are locked too."""

    name: str
    mode: str
    has_partitions: bool


@dataclass(frozen=True)
class MeasuredStatement:
    """One statement: its line in the file, its locks, and the tables that it rewrites and scans.

    `locks` leaves out locks that an earlier statement of the migration has taken at the same strength.
    """

    line: int
    text: str
    locks: tuple[Lock, ...]
    rewrites: tuple[str, ...]
    scans: tuple[str, ...]


@dataclass(frozen=True)
class MeasuredMigration:
    """The statements of a migration, and whether the migrator runs them in a transaction."""

    in_transaction: bool
    statements: tuple[MeasuredStatement, ...]


@dataclass(frozen=True)
class _Seen:
    """The state of a session at one point in time."""

    relations: Mapping[int, Relation]
    modes: Mapping[int, str]
    scans: Mapping[int, int]


def measure(url: str, migration: Migration) -> MeasuredMigration:
    """Run a migration's up file at `url`, and keep its changes. Raise ScriptFailed if it fails.

    A file with the no-transaction header is tried in a transaction first if the migrator does so.
    """
    script = migration.up
    script.check()
    if not script.runs_alone:
        return MeasuredMigration(True, _in_transactions(url, script))
    if not all(map(is_resumable, script.statements)):
        try:
            return MeasuredMigration(True, _in_transactions(url, script))
        except ScriptFailed as error:
            if error.sqlstate not in WANTS_NO_TRANSACTION:
                raise
    with open_connection(url) as connection, attributed_to(script):
        statements = tuple(_alone(url, connection, script, statement) for statement in script.statements)
    return MeasuredMigration(False, statements)


def _in_transactions(url: str, script: Script) -> tuple[MeasuredStatement, ...]:
    with open_connection(url) as connection, attributed_to(script):
        measured: list[MeasuredStatement] = []
        for transaction in script.transactions:
            with connection.transaction(force_rollback=not transaction.commits):
                measured += _together(connection, script, transaction)
        return tuple(measured)


def _together(
    connection: Connection, script: Script, transaction: Transaction
) -> tuple[MeasuredStatement, ...]:
    measured = []
    modes, statements = transaction.without_modes()
    for statement in modes:
        execute_statement(connection, script, statement)
    first = before = _look(connection)
    for statement in statements:
        execute_statement(connection, script, statement)
        after = _look(connection)
        measured.append(_measured(script, statement, first.relations, before, after))
        before = after
    check_deferred_constraints(connection, script)
    return tuple(measured)


def _alone(url: str, connection: Connection, script: Script, statement: Statement) -> MeasuredStatement:
    """Measure a statement that runs outside a transaction, and so releases its locks itself.

    Another session holds SHARE UPDATE EXCLUSIVE, which conflicts with itself and all stronger locks, on every table.
    The statement waits at its first strong lock, which is then visible in pg_locks. After that it is let through.
    """
    before = _look(connection)
    names = [name for (name,) in connection.execute(_LOCKABLE.encode()).fetchall()]
    modes: dict[int, str] = {}
    with (
        open_connection(url) as observer,
        open_connection(url) as blocker,
        attributed_to(script),
        ThreadPoolExecutor(1) as pool,
    ):
        with blocker.transaction():
            if names:
                tables = ", ".join(map(str, names))
                blocker.execute(f"LOCK TABLE ONLY {tables} IN SHARE UPDATE EXCLUSIVE MODE".encode())
            done = pool.submit(execute_statement, connection, script, statement)
            deadline = time.monotonic() + _NOTICE_SECONDS
            while not done.done() and time.monotonic() < deadline:
                if _note(observer, connection.info.backend_pid, modes):
                    break
                time.sleep(_POLL_SECONDS)
        while not done.done():
            _note(observer, connection.info.backend_pid, modes)
            time.sleep(_POLL_SECONDS)
        done.result()
    after = _look(connection)
    seen = _Seen(after.relations, modes, {})
    return _measured(script, statement, before.relations, _Seen(before.relations, {}, {}), seen)


def _note(observer: Connection, pid: int, modes: dict[int, str]) -> bool:
    """Record the locks that session `pid` holds and waits for. Return whether it waits."""
    rows = observer.execute(_LOCKS, [pid]).fetchall()
    for oid, mode, _ in rows:
        if isinstance(oid, int):
            modes[oid] = _stronger(modes.get(oid), _mode(str(mode)))
    return any(not granted for *_, granted in rows)


def _look(connection: Connection) -> _Seen:
    relations = {
        int(str(oid)): Relation(str(name), str(kind), None if node is None else int(str(node)))
        for oid, name, kind, node in connection.execute(_RELATIONS.encode()).fetchall()
    }
    modes: dict[int, str] = {}
    _note(connection, connection.info.backend_pid, modes)
    scans = {int(str(oid)): int(str(count)) for oid, count in connection.execute(_SCANS).fetchall()}
    return _Seen(relations, modes, scans)


def _measured(
    script: Script, statement: Statement, existing: Mapping[int, Relation], before: _Seen, after: _Seen
) -> MeasuredStatement:
    taken: dict[str, list[str]] = {}
    for oid, mode in after.modes.items():
        held = before.modes.get(oid)
        if oid in existing and (held is None or _stronger(held, mode) != held):
            taken.setdefault(existing[oid].name, []).append(mode)
    locks = [Lock(name, max(modes, key=MODES.index), len(modes) > 1) for name, modes in taken.items()]
    rewrites = {
        existing[oid].name
        for oid, relation in after.relations.items()
        if oid in existing and oid in before.relations and relation.kind in ("r", "m")
        and relation.filenode != before.relations[oid].filenode
    }  # fmt: skip
    scans = {
        existing[oid].name
        for oid, count in after.scans.items()
        if oid in existing and count > before.scans.get(oid, 0)
    }
    return MeasuredStatement(
        script.line_of(statement),
        first_line(statement.text),
        tuple(sorted(locks, key=lambda lock: (-MODES.index(lock.mode), lock.name))),
        tuple(sorted(rewrites)),
        tuple(sorted(scans)),
    )


def _mode(name: str) -> str:
    """Return the lock mode in SQL: `ShareUpdateExclusiveLock` is SHARE UPDATE EXCLUSIVE."""
    return " ".join(re.findall("[A-Z][a-z]+", name.removesuffix("Lock"))).upper()


def _stronger(one: str | None, other: str) -> str:
    return other if one is None else max(one, other, key=MODES.index)
