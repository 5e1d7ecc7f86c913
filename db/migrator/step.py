"""One migration, one direction: script and ledger together, with patience for locks and for killed predecessors."""

from __future__ import annotations

import random
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
from db.migrator.lock import await_former_worker
from db.migrator.resumption import drop_invalid_index, is_finished, is_resumable
from db.migrator.script import Statement
from db.migrator.source import Migration, Script, first_line

EventKind = Literal["waiting", "begin", "statement", "retry", "done"]
# What happens, to which migration, in words; called in order, from the calling thread.
OnEvent = Callable[[EventKind, Migration | None, str], None]


@dataclass(frozen=True)
class LockLimits:
    """How long to wait for locks, in seconds.

    `migrator_lock_seconds` bounds the wait for another migrator. A statement waits `table_lock_seconds` for a
    table, for behind it every reader queues; then it gives way, and tries again up to `attempts` times.
    """

    migrator_lock_seconds: float = 30.0
    table_lock_seconds: float = 2.0
    attempts: int = 20
    longest_pause_seconds: float = 3.0


DEFAULT_LIMITS = LockLimits()


@dataclass(frozen=True)
class Applied:
    """A migration that was applied or reverted, and how long it took."""

    migration: Migration
    seconds: float


def no_event(kind: EventKind, migration: Migration | None, detail: str) -> None:
    """Tell nobody."""


@dataclass(frozen=True)
class Step:
    """Runs single migrations against one database; the caller holds the migration lock."""

    conninfo: str
    ledger: Ledger
    direction: Literal["up", "down"]
    limits: LockLimits
    on_event: OnEvent

    def run(self, migration: Migration) -> Applied | None:
        """Apply or revert one migration; None if somebody without the lock was faster."""
        script = migration.up if self.direction == "up" else migration.down
        assert script is not None, "the runner refuses what cannot be reverted"
        attempt = self._outside_transaction if script.no_transaction else self._in_transaction
        self.on_event("begin", migration, f"{'applying' if self.direction == 'up' else 'reverting'}")
        for pause in self._pauses():
            try:
                seconds = attempt(migration, script)
            except MigrationError as error:
                if error.sqlstate not in {LOCK_NOT_AVAILABLE, DEADLOCK_DETECTED}:
                    raise
                if pause is None:
                    raise self._gave_up(error, script) from error
                self.on_event("retry", migration, f"a lock is held; again in {pause:.1f} s")
                time.sleep(pause)
            else:
                break
        if seconds is None:
            self.on_event("done", migration, "another migrator did it")
            return None
        self.on_event("done", migration, f"{seconds:.2f} s")
        return Applied(migration, seconds)

    def _in_transaction(self, migration: Migration, script: Script) -> float | None:
        started = time.monotonic_ns()
        # A connection of its own, so that no SET of one migration reaches the next.
        with open_connection(self.conninfo) as connection:
            with connection.transaction():
                self._bound_lock_waits(connection, self.limits.table_lock_seconds)
                # sqlx-cli takes no advisory lock: only a look behind this lock tells what is applied.
                self.ledger.lock(connection)
                if not self._is_to_do(connection, migration):
                    return None
                for statement in script.statements:
                    self.on_event("statement", migration, first_line(statement.text))
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
            self._bound_lock_waits(connection, self.limits.table_lock_seconds)
            row = self.ledger.row(connection, migration.version)
            if (row is None or row.success) and not self._is_to_do(connection, migration):
                return None
            # From here on a kill leaves a dirty row, by which the next run knows whose half it found.
            if row is None:
                self.ledger.insert(connection, migration, success=False)
            elif row.success:
                self.ledger.mark(connection, migration.version, success=False)
            is_resumed = row is not None and not row.success
            for statement in script.statements:
                if is_resumed and not is_resumable(statement):
                    raise DirtyMigration(
                        f"{script.path.name} began and did not end; finish it by hand",
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
        if dropped := drop_invalid_index(connection, statement):
            self.on_event("statement", migration, f"dropped {dropped}, left INVALID by an earlier attempt")
        self.on_event("statement", migration, first_line(statement.text))
        if "concurrently" in statement.head:
            # It waits for older transactions, and makes nobody wait behind it.
            self._bound_lock_waits(connection, 0)
        try:
            execute_statement(connection, script, statement)
        except ScriptFailed:
            self._bound_lock_waits(connection, self.limits.table_lock_seconds)
            drop_invalid_index(connection, statement)
            if self.direction == "up":
                self.ledger.delete(connection, migration.version)
            else:
                self.ledger.mark(connection, migration.version, success=True)
            raise

    def _is_to_do(self, connection: Connection, migration: Migration) -> bool:
        row = self.ledger.row(connection, migration.version)
        if row is not None and row.checksum != migration.checksum:
            raise LedgerMismatch(
                f"{migration.name} was applied just now by somebody whose file is another one",
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
            # The migration is committed; to lose its duration is no failure.
            with suppress(psycopg.Error):
                self.ledger.set_execution_time(connection, migration.version, elapsed)

    @staticmethod
    def _bound_lock_waits(connection: Connection, seconds: float) -> None:
        in_transaction = connection.info.transaction_status != psycopg.pq.TransactionStatus.IDLE
        connection.execute(
            "SELECT set_config('lock_timeout', %s, %s)", [f"{int(seconds * 1000)}ms", in_transaction]
        )

    def _pauses(self) -> list[float | None]:
        """The pause after each attempt: random, growing; None after the last."""
        longest = self.limits.longest_pause_seconds
        growing = [min(longest, 0.1 * 2**n) for n in range(self.limits.attempts - 1)]
        return [*(random.uniform(0.1, 1) * pause for pause in growing), None]

    def _gave_up(self, error: MigrationError, script: Script) -> LockHeld:
        return LockHeld(
            f"{script.path.name}: {error}; tried {self.limits.attempts} times, waiting"
            f" {self.limits.table_lock_seconds:g} s each. Somebody holds a lock on a table it changes: see"
            " pg_stat_activity, and run again when that has ended",
            sqlstate=error.sqlstate,
        )
