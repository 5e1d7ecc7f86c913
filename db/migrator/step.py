"""Apply or revert one migration: run its script and update the ledger, with retries for locks.

It also resumes a migration outside a transaction that an earlier run started.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from itertools import zip_longest
from typing import Literal

import psycopg

from db.migrator.connection import (
    DEADLOCK_DETECTED,
    LOCK_NOT_AVAILABLE,
    check_deferred_constraints,
    execute_statement,
    is_lost,
)
from db.migrator.errors import DirtyMigration, LedgerMismatch, LockHeld, MigrationError, ScriptFailed
from db.migrator.events import Applied, Event, OnEvent
from db.migrator.failure import attributed_to, gave_up, left_dirty, not_removed, recording
from db.migrator.ledger import Ledger, LedgerRow
from db.migrator.lock import LockedSession
from db.migrator.lock_wait import UNLIMITED, LockBudget, LockLimits, bound_lock_waits, milliseconds
from db.migrator.lock_watch import execute_watched
from db.migrator.resumption import (
    await_worker,
    can_leave_dirty,
    can_resume,
    commits_itself,
    drop_leftovers,
    finish_detach,
    invalid_indexes,
    is_finished,
    is_left_invalid,
    is_resumable,
    kept_leftovers,
    waits_alone,
    worker_of,
)
from db.migrator.script import Statement, first_line
from db.migrator.source import Migration, Script
from db.migrator.transactions import Transaction, groups

# SQLSTATEs of a statement that cannot run in a transaction, or that would end it.
WANTS_NO_TRANSACTION = {"25001", "2D000"}
# Stands for the end of a transaction, where otherwise the offset of a group is.
_END = -1


class _GroupFailed(Exception):
    """A group of statements failed. Each statement must be run alone to find the one that fails."""

    def __init__(self, offset: int) -> None:
        super().__init__(offset)
        self.offset = offset


@dataclass(frozen=True)
class MigrationStep:
    """Runs single migrations in the session that holds the migration lock."""

    session: LockedSession
    ledger: Ledger
    direction: Literal["up", "down"]
    limits: LockLimits
    on_event: OnEvent

    def run(self, migration: Migration) -> Applied | None:
        """Apply or revert one migration. Return None if another program, such as sqlx-cli, did it first."""
        script = migration.up if self.direction == "up" else migration.down
        assert script is not None, "the runner refuses what cannot be reverted"
        self.on_event(Event("begin", migration, f"{'applying' if self.direction == 'up' else 'reverting'}"))
        for warning in {problem.rule: problem for problem in reversed(script.problems)}.values():
            place = f"{script.path.name}:{warning.line}"
            self.on_event(Event("warning", migration, f"warning: {place}: {warning.message}"))
        started = time.monotonic_ns()
        if script.runs_alone:
            is_done = self._retried(migration, script, partial(self._outside_transaction, migration, script))
        elif script.is_atomic:
            is_done = self._retried(migration, script, partial(self._in_transaction, migration, script))
        else:
            is_done = self._in_transactions(migration, script)
        elapsed = time.monotonic_ns() - started
        try:
            with attributed_to(script):
                self._end(migration, elapsed if is_done else None)
        except LockHeld as error:
            raise LockHeld(f"{script.path.name}: {error}") from error
        if not is_done:
            self.on_event(Event("skipped", migration, "another migrator has done it"))
            return None
        applied = Applied(migration, elapsed / 1e9)
        self.on_event(Event("done", migration, f"{applied.seconds:.2f} s", applied))
        return applied

    def _retried(self, migration: Migration, script: Script, attempt: Callable[[], bool]) -> bool:
        """Attempt something until the tables that it needs are not locked.

        A failed attempt must leave nothing that another attempt would do twice. If it does, it raises a ScriptFailed
        that `is_dirty`, which is not attempted again.
        """
        for pause in self.limits.pauses():
            try:
                with attributed_to(script):
                    return attempt()
            except MigrationError as error:
                if error.sqlstate not in {LOCK_NOT_AVAILABLE, DEADLOCK_DETECTED}:
                    raise
                if isinstance(error, ScriptFailed) and error.is_dirty and not can_resume(script):
                    raise
                if pause is None:
                    raise gave_up(error, script, self.limits, self.session.connection, self.ledger) from error
                self.on_event(Event("retry", migration, f"a table is locked; retrying in {pause:.1f} s"))
                time.sleep(pause)
        raise AssertionError("the last pause is None")

    def _in_transaction(self, migration: Migration, script: Script) -> bool:
        """Run the script's only transaction, in which the migration is recorded too."""
        (transaction,) = script.transactions
        return self._run_transaction(
            migration,
            script,
            transaction,
            record=self._record(migration),
        )

    def _in_transactions(self, migration: Migration, script: Script) -> bool:
        """Run a script that commits or rolls back itself, and record it together with its last transaction.

        If a later transaction fails, the row stays dirty.
        """
        connection = self.session.connection

        def begin() -> bool:
            with self._rollback():
                row = self.ledger.locked_row(connection, migration.version, "BEGIN", self._set_limit())
                is_to_do = self._is_to_do(migration, row)
                record = f"{self._record_start(migration, row)}; COMMIT" if is_to_do else "ROLLBACK"
                connection.execute(record.encode())
                return is_to_do

        if not self._retried(migration, script, begin):
            return False
        default = self._session_limit(script)
        for number, transaction in enumerate(script.transactions):
            is_last = number == len(script.transactions) - 1
            record = self._record_end(migration) if is_last and transaction.commits else ""
            sent: list[None] = []
            try:
                run = partial(
                    self._run_transaction,
                    migration,
                    script,
                    transaction,
                    record=record,
                    on_commit=partial(sent.append, None),
                    # An earlier transaction may have set a limit for the session.
                    is_limited=number > 0 and self._session_limit(script) not in {UNLIMITED, default},
                )
                self._retried(migration, script, run)
            except BaseException as error:
                # An interrupt while the server commits says nothing about the outcome, so the row stays dirty.
                if number == 0 and (isinstance(error, MigrationError) or not sent):
                    with suppress(psycopg.Error):
                        connection.execute(self._record_no_start(migration).encode())
                elif isinstance(error, ScriptFailed):
                    raise error.but(left_dirty(migration, script)) from error.__cause__
                elif isinstance(error, LockHeld):
                    raise LockHeld(
                        f"{error}; {left_dirty(migration, script)}", sqlstate=error.sqlstate
                    ) from error
                raise
        if not script.transactions[-1].commits:
            with (
                attributed_to(script),
                recording(script, self.ledger, left_dirty(migration, script), is_dirty=True),
            ):
                connection.execute(self._record_end(migration).encode())
        return True

    def _run_transaction(
        self,
        migration: Migration,
        script: Script,
        transaction: Transaction,
        *,
        record: str,
        on_commit: Callable[[], object] = lambda: None,
        is_limited: bool = False,
    ) -> bool:
        """Run statements in one transaction, and then the SQL `record`. Return False if there is nothing to do.

        `on_commit` is called before each COMMIT that is sent. `is_limited`: the session has a lock_timeout of the file.
        Statements are sent in groups. If a group fails, everything is run again with its statements one by one.
        """
        apart: set[int] = set()
        while True:
            try:
                # A later transaction needs what the earlier ones set in the session, also when it is run again.
                with self._rollback(resets=transaction is script.transactions[0]):
                    return self._run_groups(
                        migration, script, transaction, apart, record, on_commit, is_limited
                    )
            except _GroupFailed as failed:
                apart.add(failed.offset)

    def _run_groups(
        self,
        migration: Migration,
        script: Script,
        transaction: Transaction,
        apart: set[int],
        record: str,
        on_commit: Callable[[], object],
        is_limited: bool,
    ) -> bool:
        connection = self.session.connection
        begin = ["BEGIN"] if is_limited else ["BEGIN", self._set_limit()]
        modes, statements = transaction.without_modes()
        if modes:
            connection.execute(begin.pop(0).encode())
            for statement in modes:
                execute_statement(connection, script, statement)
        undone = "this migration was rolled back"
        if script.runs_alone or script.is_atomic:
            # sqlx-cli may run without the advisory lock, so check again under this lock what is applied.
            with recording(script, self.ledger, undone) if modes else nullcontext():
                row = self.ledger.locked_row(connection, migration.version, *begin)
            if not self._is_to_do(migration, row):
                connection.execute("ROLLBACK")
                return False
        else:
            # The row is dirty, so sqlx-cli stops. An earlier transaction may have set a role without access to it.
            connection.execute("; ".join(begin).encode())
            # The ledger is not locked, and the file may have changed the limit.
            record = f"{self._set_limit()}; {record}" if record else ""
        budget = LockBudget(connection, self.limits.table_lock_seconds, self.ledger)
        sent = tuple(groups(script.sql, statements, apart))
        for group, following in zip_longest(sent, sent[1:]):
            more = f" (and {group.count - 1} more)" if group.count > 1 else ""
            self.on_event(Event("statement", migration, first_line(group.text.text) + more))
            try:
                budget.execute(script, group, following)
            except ScriptFailed as failure:
                if group.count == 1:
                    raise
                raise _GroupFailed(group.text.offset) from failure
        if not transaction.commits:
            connection.execute("ROLLBACK")
        elif _END in apart:
            check_deferred_constraints(connection, script)
            on_commit()
            with recording(script, self.ledger, undone):
                connection.execute(f"{record}; COMMIT".encode())
        else:
            on_commit()
            try:
                connection.execute(f"SET CONSTRAINTS ALL IMMEDIATE; {record}; COMMIT".encode())
            except psycopg.Error as failure:
                if is_lost(failure):
                    raise
                raise _GroupFailed(_END) from failure
        return True

    def _set_limit(self) -> str:
        """Return SQL that limits the lock waits of a transaction."""
        return f"SET LOCAL lock_timeout = '{milliseconds(self.limits.table_lock_seconds)}ms'"

    def _session_limit(self, script: Script) -> object:
        """Return the session's lock_timeout, outside a transaction."""
        with attributed_to(script):
            row = self.session.connection.execute("SHOW lock_timeout").fetchone()
        return row and row[0]

    @contextmanager
    def _rollback(self, *, resets: bool = True) -> Iterator[None]:
        """If the block fails, roll back its transaction, and reset the session to its initial state if `resets`."""
        try:
            yield
        except BaseException:
            # A lost connection is reported by the error that is being raised.
            with suppress(psycopg.Error):
                self.session.connection.execute("ROLLBACK")
                if resets:
                    self.session.reset()
            raise

    def _outside_transaction(self, migration: Migration, script: Script) -> bool:
        connection = self.session.connection
        bound_lock_waits(connection, self.limits.table_lock_seconds)
        row = self.ledger.row(connection, migration.version)
        if row is not None and not row.success and not can_leave_dirty(script):
            # The other file was interrupted.
            return self._in_transaction(migration, script)
        if row is None or row.success:
            if not self._is_to_do(migration, row):
                return False
            if not all(map(is_resumable, script.statements)):
                # Try it in a transaction first, which is atomic together with the ledger's row.
                try:
                    return self._in_transaction(migration, script)
                except ScriptFailed as error:
                    if error.sqlstate not in WANTS_NO_TRANSACTION:
                        raise
                # The rollback has reset the session.
                bound_lock_waits(connection, self.limits.table_lock_seconds)
        for statement in script.statements:
            self._await_worker(migration, statement)
        # From here on a kill leaves a dirty row, which tells the next run which migration is incomplete.
        if row is None or row.success:
            connection.execute(self._record_start(migration, row).encode())
        is_resumed = row is not None and not row.success
        for statement in script.statements:
            if is_resumed and not is_resumable(statement):
                raise DirtyMigration(
                    f"{script.path.name} started but did not finish, and cannot be resumed;"
                    f" {left_dirty(migration, script)}",
                    version=migration.version,
                )
            is_done = (
                is_finished(connection, statement) if is_resumed else finish_detach(connection, statement)
            )
            if not is_done:
                self._run_alone(migration, script, statement)
        with recording(script, self.ledger, left_dirty(migration, script), is_dirty=True):
            connection.execute(self._record_end(migration).encode())
        return True

    def _run_alone(self, migration: Migration, script: Script, statement: Statement) -> None:
        connection = self.session.connection
        while True:
            for dropped in drop_leftovers(connection, statement):
                self.on_event(
                    Event("statement", migration, f"dropped {dropped}, left INVALID by an earlier attempt")
                )
            self.on_event(Event("statement", migration, first_line(statement.text)))
            before = invalid_indexes(connection, statement)
            execute: Callable[[Script, Statement], object] = partial(execute_statement, connection)
            if waits_alone(statement):
                # It waits for older transactions, however long they take, and blocks no other query.
                bound_lock_waits(connection, 0)
                execute = partial(execute_watched, self.session, on_wait=partial(self._waits_for, migration))
            elif commits_itself(statement):
                # It has only one attempt, because a part of it may be committed when it fails.
                bound_lock_waits(connection, self.limits.table_lock_seconds * self.limits.attempts)
            try:
                execute(script, statement)
            except ScriptFailed as failure:
                if commits_itself(statement):
                    raise failure.but(left_dirty(migration, script)) from failure.__cause__
                try:
                    bound_lock_waits(connection, self.limits.table_lock_seconds)
                    # An index of this name that another session began to build in the meantime is not a leftover.
                    if worker_of(connection, statement) is None:
                        drop_leftovers(connection, statement, before)
                    connection.execute(self._record_no_start(migration).encode())
                except psycopg.Error as error:
                    # The script's failure is the one to correct. The row stays dirty.
                    raise failure.but(not_removed(migration, script, statement, error)) from failure.__cause__
                raise
            bound_lock_waits(connection, self.limits.table_lock_seconds)
            if not is_left_invalid(connection, statement):
                for kept in kept_leftovers(connection, statement):
                    advice = (
                        f"an interrupted REINDEX left {kept} INVALID; run `DROP INDEX {kept}` as a superuser"
                    )
                    self.on_event(Event("warning", migration, f"warning: {script.path.name}: {advice}"))
                return
            # IF NOT EXISTS has accepted an index that another session had just begun to build.
            self._await_worker(migration, statement)

    def _waits_for(self, migration: Migration, sessions: str) -> None:
        what = f"waiting, without a limit and without blocking queries, for the transactions of {sessions}"
        self.on_event(Event("waiting", migration, what))

    def _await_worker(self, migration: Migration, statement: Statement) -> None:
        def waiting(what: str) -> None:
            self.on_event(Event("waiting", migration, what))

        await_worker(self.session.connection, statement, self.limits.migrator_lock_seconds, waiting)

    def _is_to_do(self, migration: Migration, row: LedgerRow | None) -> bool:
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

    def _record(self, migration: Migration) -> str:
        """Return SQL for the ledger that belongs to the script's transaction."""
        return (
            self.ledger.insert(migration) if self.direction == "up" else self.ledger.delete(migration.version)
        )

    def _record_start(self, migration: Migration, row: LedgerRow | None) -> str:
        if row is None:
            return self.ledger.insert(migration, success=False)
        return self.ledger.mark(migration.version, success=False)

    def _record_no_start(self, migration: Migration) -> str:
        if self.direction == "up":
            return self.ledger.delete(migration.version)
        return self.ledger.mark(migration.version, success=True)

    def _record_end(self, migration: Migration) -> str:
        if self.direction == "up":
            return self.ledger.mark(migration.version, success=True)
        return self.ledger.delete(migration.version)

    def _end(self, migration: Migration, elapsed: int | None) -> None:
        """Reset the session for the next migration, and record this one's duration."""
        if elapsed is not None and self.direction == "up":
            # The migration is committed; a missing duration is not a failure.
            with suppress(psycopg.Error):
                self.session.reset(self.ledger.set_execution_time(migration.version, elapsed))
                return
        self.session.reset()
