"""Apply or revert one migration: run its script and update the ledger, with retries for locks.

It also resumes a migration outside a transaction that an earlier run started.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

import psycopg

from db.migrator.connection import (
    DEADLOCK_DETECTED,
    LOCK_NOT_AVAILABLE,
    Connection,
    check_deferred_constraints,
    execute_statement,
    open_connection,
)
from db.migrator.errors import DirtyMigration, LedgerMismatch, LockHeld, MigrationError, ScriptFailed
from db.migrator.ledger import Ledger
from db.migrator.lock import await_former_worker, describe_session
from db.migrator.lock_wait import LockBudget, LockLimits, bound_lock_waits
from db.migrator.resumption import builder_of, drop_leftovers, is_concurrent, is_finished, is_resumable
from db.migrator.script import Statement
from db.migrator.source import Migration, Script, first_line

EventKind = Literal["waiting", "begin", "statement", "retry", "done", "skipped"]
# SQLSTATEs of a statement that cannot run in a transaction, or that would end it.
_WANTS_NO_TRANSACTION = {"25001", "2D000"}
_BUILDER_POLL_SECONDS = 0.2


@dataclass(frozen=True)
class Applied:
    """A migration that was applied or reverted, and its duration in seconds."""

    migration: Migration
    seconds: float


@dataclass(frozen=True)
class Event:
    """A step of a run, with its migration, if any, and a text. As a string it is one line of progress.

    `done` has the migration as `applied`; it stays applied or reverted if a later one fails. `skipped` means that
    another migrator has applied or reverted the migration.
    """

    kind: EventKind
    migration: Migration | None
    detail: str
    applied: Applied | None = None

    def __str__(self) -> str:
        return self.detail if self.migration is None else f"{self.migration.name}: {self.detail}"


# Called in order, in the calling thread.
OnEvent = Callable[[Event], None]


def no_event(event: Event) -> None:
    """Ignore the event."""


@dataclass(frozen=True)
class MigrationStep:
    """Runs single migrations against one database; the caller holds the migration lock."""

    conninfo: str
    ledger: Ledger
    direction: Literal["up", "down"]
    limits: LockLimits
    on_event: OnEvent

    def run(self, migration: Migration) -> Applied | None:
        """Apply or revert one migration. Return None if another program, such as sqlx-cli, did it first."""
        script = migration.up if self.direction == "up" else migration.down
        assert script is not None, "the runner refuses what cannot be reverted"
        attempt = self._outside_transaction if script.no_transaction else self._in_transaction
        self.on_event(Event("begin", migration, f"{'applying' if self.direction == 'up' else 'reverting'}"))
        for pause in self.limits.pauses():
            try:
                seconds = attempt(migration, script)
            except MigrationError as error:
                if error.sqlstate not in {LOCK_NOT_AVAILABLE, DEADLOCK_DETECTED}:
                    raise
                if pause is None:
                    raise self._gave_up(error, script) from error
                self.on_event(Event("retry", migration, f"a table is locked; retrying in {pause:.1f} s"))
                time.sleep(pause)
            else:
                break
        if seconds is None:
            self.on_event(Event("skipped", migration, "another migrator has done it"))
            return None
        applied = Applied(migration, seconds)
        self.on_event(Event("done", migration, f"{seconds:.2f} s", applied))
        return applied

    def _in_transaction(self, migration: Migration, script: Script) -> float | None:
        started = time.monotonic_ns()
        # A new connection, so that a SET in one migration does not affect the next.
        with open_connection(self.conninfo) as connection:
            with connection.transaction():
                bound_lock_waits(connection, self.limits.table_lock_seconds)
                # sqlx-cli may run without the advisory lock, so check again under this lock what is applied.
                self.ledger.lock(connection)
                if not self._is_to_do(connection, migration):
                    return None
                budget = LockBudget(connection, self.limits.table_lock_seconds, self.ledger.name)
                for statement in script.statements:
                    budget.before_statement()
                    self.on_event(Event("statement", migration, first_line(statement.text)))
                    execute_statement(connection, script, statement)
                check_deferred_constraints(connection, script)
                self._record(connection, migration)
            elapsed = time.monotonic_ns() - started
            self._record_time(connection, migration, elapsed)
        return elapsed / 1e9

    def _outside_transaction(self, migration: Migration, script: Script) -> float | None:
        started = time.monotonic_ns()
        with open_connection(self.conninfo) as connection:
            await_former_worker(connection, self.limits.migrator_lock_seconds)
            bound_lock_waits(connection, self.limits.table_lock_seconds)
            row = self.ledger.row(connection, migration.version)
            if row is None or row.success:
                if not self._is_to_do(connection, migration):
                    return None
                if not all(map(is_resumable, script.statements)):
                    # Try it in a transaction first, which is atomic together with the ledger's row.
                    try:
                        return self._in_transaction(migration, script)
                    except ScriptFailed as error:
                        if error.sqlstate not in _WANTS_NO_TRANSACTION:
                            raise
            for statement in script.statements:
                self._await_builder(connection, migration, statement)
            # From here on a kill leaves a dirty row, which tells the next run which migration is incomplete.
            if row is None:
                self.ledger.insert(connection, migration, success=False)
            elif row.success:
                self.ledger.mark(connection, migration.version, success=False)
            is_resumed = row is not None and not row.success
            for statement in script.statements:
                if is_resumed and not is_resumable(statement):
                    raise DirtyMigration(
                        f"{script.path.name} started but did not finish; finish it by hand",
                        version=migration.version,
                    )
                if not (is_resumed and is_finished(connection, statement)):
                    self._run_alone(connection, migration, script, statement)
            if self.direction == "up":
                self.ledger.mark(connection, migration.version, success=True)
            else:
                self.ledger.delete(connection, migration.version)
            elapsed = time.monotonic_ns() - started
            self._record_time(connection, migration, elapsed)
        return elapsed / 1e9

    def _run_alone(
        self, connection: Connection, migration: Migration, script: Script, statement: Statement
    ) -> None:
        if is_concurrent(statement):
            # It waits for older transactions and blocks no other query.
            bound_lock_waits(connection, 0)
        for dropped in drop_leftovers(connection, statement):
            self.on_event(
                Event("statement", migration, f"dropped {dropped}, left INVALID by an earlier attempt")
            )
        self.on_event(Event("statement", migration, first_line(statement.text)))
        try:
            execute_statement(connection, script, statement)
        except ScriptFailed as failure:
            bound_lock_waits(connection, self.limits.table_lock_seconds)
            try:
                # An index of this name that another session began to build in the meantime is not a leftover.
                if builder_of(connection, statement) is None:
                    drop_leftovers(connection, statement)
            except psycopg.errors.LockNotAvailable:
                # The row stays dirty, so the next run drops them. Report the original failure.
                raise failure from None
            if self.direction == "up":
                self.ledger.delete(connection, migration.version)
            else:
                self.ledger.mark(connection, migration.version, success=True)
            raise

    def _await_builder(self, connection: Connection, migration: Migration, statement: Statement) -> None:
        """Wait until no other session is building the index of a statement. Raises LockHeld after the limit."""
        deadline = time.monotonic() + self.limits.migrator_lock_seconds
        is_told = False
        while (found := builder_of(connection, statement)) is not None:
            index, pid = found
            # pg_stat_activity shows the details of the login's other sessions to the login, but not to role owner.
            connection.execute("SET ROLE NONE")
            builder = describe_session(connection, pid)
            connection.execute("RESET ROLE")
            if time.monotonic() >= deadline:
                raise LockHeld(
                    f"index {index} is being built by another session: {builder}; waited"
                    f" {self.limits.migrator_lock_seconds:g} s. Wait until it is finished"
                    " (pg_stat_progress_create_index shows how far it is), or end it with"
                    f" `SELECT pg_terminate_backend({pid})`, and run again"
                )
            if not is_told:
                self.on_event(Event("waiting", migration, f"index {index} is being built by {builder}"))
                is_told = True
            time.sleep(_BUILDER_POLL_SECONDS)

    def _is_to_do(self, connection: Connection, migration: Migration) -> bool:
        row = self.ledger.row(connection, migration.version)
        if row is not None and row.checksum != migration.checksum:
            raise LedgerMismatch(
                f"{migration.name} was just applied by another migrator with a different file",
                version=migration.version,
            )
        if row is not None and not row.success and self.direction == "up":
            raise DirtyMigration(
                f"reverting {migration.name} started but did not finish; `migrate down` finishes it",
                version=migration.version,
            )
        return (row is None) == (self.direction == "up")

    def _record(self, connection: Connection, migration: Migration) -> None:
        if self.direction == "up":
            self.ledger.insert(connection, migration)
        else:
            self.ledger.delete(connection, migration.version)

    def _record_time(self, connection: Connection, migration: Migration, elapsed: int) -> None:
        if self.direction == "up":
            # The migration is committed; a missing duration is not a failure.
            with suppress(psycopg.Error):
                self.ledger.set_execution_time(connection, migration.version, elapsed)

    def _gave_up(self, error: MigrationError, script: Script) -> LockHeld:
        return LockHeld(
            f"{script.path.name}: {error}; tried {self.limits.attempts} times, waiting"
            f" {self.limits.table_lock_seconds:g} s each. Another session holds a lock on a table that it changes;"
            " find it in pg_stat_activity, and run again when it has ended",
            sqlstate=error.sqlstate,
        )
