"""Describe failures of the migrator's own statements while a migration runs: which file is at fault, and what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psycopg

from db.migrator.connection import (
    DEADLOCK_DETECTED,
    LOCK_NOT_AVAILABLE,
    Connection,
    is_lost,
    one_line,
    translated_errors,
)
from db.migrator.errors import LockHeld, MigrationError, ScriptFailed, Unreachable
from db.migrator.ledger import Ledger
from db.migrator.lock import table_holders
from db.migrator.lock_wait import LockLimits
from db.migrator.resumption import is_resumable
from db.migrator.script import Statement, tokens
from db.migrator.source import Migration, Script

_DROPPED = "the file drops, renames or moves that table, or changes its columns; remove that statement"
# By SQLSTATE: what a file does so that its row cannot be written, and what to do.
_REMEDIES = {
    "42501": (
        "the file changes the session's role or the privileges of that table; end the file with RESET ROLE (or RESET"
        " SESSION AUTHORIZATION), or remove that statement"
    ),
    "22023": "the file drops the session's role, or changes it; end the file with RESET ROLE",
    "25006": "the file makes the transaction read-only; remove that statement",
    "3F000": _DROPPED,
    "42P01": _DROPPED,
    "42703": _DROPPED,
}
_SHOWN = 3


@contextmanager
def attributed_to(script: Script) -> Iterator[None]:
    """Translate the driver's errors, and name the script if the connection is lost while it runs."""
    with translated_errors():
        try:
            yield
        except psycopg.Error as exc:
            if not is_lost(exc):
                raise
            raise Unreachable(
                f"{script.path.name}: the connection was lost while this file ran: {one_line(exc)}; if the file ends"
                " sessions with pg_terminate_backend, exclude its own (`pid <> pg_backend_pid()`); otherwise check"
                " that the server is up. Then run again: the ledger shows whether the file was applied",
                sqlstate=exc.sqlstate,
            ) from exc


@contextmanager
def recording(script: Script, ledger: Ledger, result: str, *, is_dirty: bool = False) -> Iterator[None]:
    """Raise ScriptFailed if the ledger cannot be written after the script's statements. `result` is what is left."""
    try:
        yield
    except psycopg.Error as exc:
        if is_lost(exc) or exc.sqlstate in {LOCK_NOT_AVAILABLE, DEADLOCK_DETECTED}:
            raise
        remedy = _REMEDIES.get(exc.sqlstate or "", "correct the file and run it again")
        reason = one_line(exc.diag.message_primary or str(exc))
        raise ScriptFailed(
            f"{script.path.name}: its statements ran, but its row in {ledger.name} cannot be written: {reason}"
            f" (SQLSTATE {exc.sqlstate}); {remedy}",
            result,
            path=script.path,
            line=script.line_at(len(script.sql.rstrip())),
            statement="COMMIT",
            sqlstate=exc.sqlstate,
            is_dirty=is_dirty,
        ) from exc


def gave_up(
    error: MigrationError, script: Script, limits: LockLimits, connection: Connection, ledger: Ledger
) -> LockHeld:
    """Return the error for a script whose last attempt met a lock too, with the sessions that may hold it."""
    if isinstance(error, ScriptFailed):
        reason, statement = error.reason, error.statement
    else:
        # The statement was for the ledger, or the migrator's own for resuming the script.
        resumed = [statement.text for statement in script.statements] if script.runs_alone else []
        reason = f"{script.path.name}: {one_line(error.__cause__ or error)}"
        statement = " ".join([ledger.name, *resumed])
    holders: list[str] = []
    # If this fails, the error is reported without the sessions.
    with suppress(psycopg.Error):
        holders = _holders(connection, statement)
    who = (
        f"Locks are held by {'; '.join(holders)}"
        if holders
        else "Another session holds a lock that this statement needs; find it in pg_stat_activity"
    )
    return LockHeld(
        f"{reason}; gave up after {limits.attempts} attempts of {limits.table_lock_seconds:g} s. {who}. Run again when"
        " that session has ended its transaction, or raise --attempts or --lock-timeout",
        sqlstate=error.sqlstate,
    )


def left_dirty(migration: Migration, script: Script) -> str:
    """Say that a migration stays dirty because a part of one of its scripts is committed, and what to do."""
    finished, undone = f"--mark-applied {migration.version}", f"--forget {migration.version}"
    if script is migration.down:
        finished, undone = undone, finished
    return (
        "what the file committed before stays, so the migration is dirty: finish it by hand and run"
        f" `groundwork migrate repair {finished}`, or undo it and run `groundwork migrate repair {undone}`"
    )


def not_removed(migration: Migration, script: Script, statement: Statement, error: psycopg.Error) -> str:
    """Say that what a statement outside a transaction left could not be removed, and what to do."""
    if not is_resumable(statement):
        return left_dirty(migration, script)
    return (
        f"what it left could not be removed ({one_line(error)}), so the migration is dirty. Run it again with the"
        " unchanged file, which removes what is left. Then correct the file"
    )


def _holders(connection: Connection, statement: str) -> list[str]:
    names = {
        text[1:-1].replace('""', '"') if text.startswith('"') else text.lower()
        for kind, text, _ in tokens(statement)
        if kind == "word" or text.startswith('"')
    }
    found, others = table_holders(connection, names, _SHOWN)
    shown = [f"{holder.session} (on {holder.tables})" for holder in found]
    return [*shown, f"{others} more sessions"] if others else shown
