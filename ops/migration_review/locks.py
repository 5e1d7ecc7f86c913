"""What a migration's statements lock, rewrite and read: measured by running them, never guessed from their text.

The database is a throwaway one, at the state before the migration. Tables that the migration itself makes are left
out, for nobody else can wait for them.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from db.migrator import Migration
from db.migrator.connection import (
    Connection,
    check_deferred_constraints,
    execute_statement,
    open_connection,
    translated_errors,
)
from db.migrator.script import Statement
from db.migrator.source import Script, first_line

# From the weakest to the strongest, as pg_locks names them.
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
_LOCKS = """
SELECT relation, mode, granted FROM pg_locks
WHERE pid = %s AND (database = (SELECT oid FROM pg_database WHERE datname = current_database()) OR NOT granted)
"""
_SCANS = "SELECT relid, seq_scan FROM pg_stat_xact_user_tables WHERE seq_scan > 0"


@dataclass(frozen=True)
class Relation:
    """A table, view or sequence; a partition goes by the name of its table."""

    name: str
    kind: str
    filenode: int | None


@dataclass(frozen=True)
class Lock:
    """The strongest lock on one relation that a statement takes, and whether partitions of it are locked too."""

    name: str
    mode: str
    has_partitions: bool


@dataclass(frozen=True)
class Measured:
    """One statement: its line in the file, what it locks, which tables it writes anew, and which it reads through.

    `locks` are those that no statement of the migration before it had taken as strongly.
    """

    line: int
    text: str
    locks: tuple[Lock, ...]
    rewrites: tuple[str, ...]
    scans: tuple[str, ...]


@dataclass(frozen=True)
class _Seen:
    """What can be seen of a session at one moment."""

    relations: Mapping[int, Relation]
    modes: Mapping[int, str]
    scans: Mapping[int, int]


def measure(url: str, migration: Migration) -> tuple[Measured, ...]:
    """Run a migration's up file at `url`, which keeps its effect. ScriptFailed where it does not run."""
    script = migration.up
    script.check()
    with open_connection(url) as connection:
        if script.no_transaction:
            return tuple(_alone(url, connection, script, statement) for statement in script.statements)
        with connection.transaction():
            return _together(connection, script)


def _together(connection: Connection, script: Script) -> tuple[Measured, ...]:
    measured = []
    first = before = _look(connection)
    for statement in script.statements:
        execute_statement(connection, script, statement)
        after = _look(connection)
        measured.append(_measured(script, statement, first.relations, before, after))
        before = after
    check_deferred_constraints(connection, script)
    return tuple(measured)


def _alone(url: str, connection: Connection, script: Script, statement: Statement) -> Measured:
    """A statement outside a transaction lets its locks go by itself, so it is stopped at the first strong one.

    Another session holds SHARE UPDATE EXCLUSIVE on every table, which conflicts with itself and all that is
    stronger: what the statement wants then stands in pg_locks until it is let through.
    """
    before = _look(connection)
    names = [name for (name,) in connection.execute(_LOCKABLE.encode()).fetchall()]
    modes: dict[int, str] = {}
    with open_connection(url) as observer, open_connection(url) as blocker, ThreadPoolExecutor(1) as pool:
        with blocker.transaction(), translated_errors():
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
    """Take down what session `pid` holds and wants; True if it waits for anything."""
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
) -> Measured:
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
    return Measured(
        script.line_of(statement),
        first_line(statement.text),
        tuple(sorted(locks, key=lambda lock: (-MODES.index(lock.mode), lock.name))),
        tuple(sorted(rewrites)),
        tuple(sorted(scans)),
    )


def _mode(name: str) -> str:
    """`ShareUpdateExclusiveLock` as SQL has it."""
    return " ".join(re.findall("[A-Z][a-z]+", name.removesuffix("Lock"))).upper()


def _stronger(one: str | None, other: str) -> str:
    return other if one is None else max(one, other, key=MODES.index)
