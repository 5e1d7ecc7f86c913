"""The algorithm: compare folder and ledger, then apply or revert one migration after the other.

A migration whose file is absent or edited, or that began and did not end, stops everything before anything
runs. What remains after a failure or a kill is always a state that the next run goes on from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from db.migrator.connection import open_connection
from db.migrator.errors import DirtyMigration, LedgerMismatch, MigrationError, NotRevertible
from db.migrator.ledger import Ledger, LedgerRow
from db.migrator.lock import migration_lock
from db.migrator.lock_wait import DEFAULT_LIMITS, LockLimits
from db.migrator.phase import Phase, in_phase
from db.migrator.resumption import is_resumable
from db.migrator.source import Migration, require_version
from db.migrator.step import Applied, OnEvent, Step, no_event


@dataclass(frozen=True)
class Status:
    """Folder and ledger side by side; `problems` are what apply_pending would refuse to go on from.

    A migration that began and did not end is both `interrupted` and `pending`.
    """

    applied: tuple[LedgerRow, ...]
    pending: tuple[Migration, ...]
    interrupted: tuple[LedgerRow, ...]
    problems: tuple[LedgerMismatch, ...]

    @property
    def version(self) -> int | None:
        """The newest applied version; None for an empty database."""
        return max((row.version for row in self.applied), default=None)

    @property
    def out_of_order(self) -> tuple[Migration, ...]:
        """Pending migrations older than the newest applied one; they are applied all the same, as by sqlx."""
        return tuple(m for m in self.pending if self.version is not None and m.version < self.version)


def status(conninfo: str, migrations: Sequence[Migration]) -> Status:
    """Compare the folder with the database. Reads only: any role that may read the ledger can ask."""
    with open_connection(conninfo) as connection:
        ledger = Ledger.find(connection)
        rows = () if ledger is None else ledger.rows(connection)
    return compare(rows, migrations)


def compare(rows: Sequence[LedgerRow], migrations: Sequence[Migration]) -> Status:
    """What status says, from the ledger's rows."""
    applied = {row.version for row in rows if row.success}
    return Status(
        applied=tuple(row for row in rows if row.success),
        pending=tuple(m for m in migrations if m.version not in applied),
        interrupted=tuple(row for row in rows if not row.success),
        problems=tuple(_problems(rows, {m.version: m for m in migrations})),
    )


def apply_pending(
    conninfo: str,
    migrations: Sequence[Migration],
    *,
    target: int | None = None,
    phase: Phase | None = None,
    limits: LockLimits = DEFAULT_LIMITS,
    on_event: OnEvent = no_event,
) -> tuple[Applied, ...]:
    """Apply what is pending, oldest first, up to version `target` and of one `phase` if given.

    Returns what this call applied. Raises MigrationError's classes; what was applied before the error stays applied.
    """
    if target is not None:
        require_version(target, migrations)
    with open_connection(conninfo) as connection:
        ledger = Ledger.find(connection)
        state = None if ledger is None else compare(ledger.rows(connection), migrations)
    # A problem may be a migrator at work, whose lock is to be waited for before anything is said.
    if state is not None and not state.problems and not _unapplied(state, target, phase):
        return ()
    return _run(conninfo, migrations, "up", lambda now: _unapplied(now, target, phase), limits, on_event)


def preview_pending(
    conninfo: str,
    migrations: Sequence[Migration],
    *,
    target: int | None = None,
    phase: Phase | None = None,
) -> tuple[Migration, ...]:
    """What apply_pending would apply, in that order; nothing is changed, and what it refuses is refused."""
    if target is not None:
        require_version(target, migrations)
    state = status(conninfo, migrations)
    for problem in state.problems:
        raise problem
    return _unapplied(state, target, phase)


def _unapplied(state: Status, target: int | None, phase: Phase | None) -> tuple[Migration, ...]:
    todo = in_phase([m for m in state.pending if target is None or m.version <= target], phase)
    for migration in todo:
        migration.up.check()
    return todo


def revert(
    conninfo: str,
    migrations: Sequence[Migration],
    *,
    count: int = 1,
    target: int | None = None,
    limits: LockLimits = DEFAULT_LIMITS,
    on_event: OnEvent = no_event,
) -> tuple[Applied, ...]:
    """Take back the newest `count` migrations, or with `target` all above that version (0 for everything).

    Returns what was reverted, newest first; nothing for a database without migrations. NotRevertible before
    anything runs if one of them has no down file.
    """
    if target:
        require_version(target, migrations)

    def newest(state: Status) -> Sequence[Migration]:
        versions = sorted((row.version for row in state.applied + state.interrupted), reverse=True)
        chosen = versions[:count] if target is None else [v for v in versions if v > target]
        by_version = {m.version: m for m in migrations}
        todo = [by_version[version] for version in chosen]
        for migration in todo:
            if migration.down is None:
                raise NotRevertible(
                    f"{migration.up.path.name} has no down file, so it cannot be reverted; add"
                    f" {migration.name}.down.sql, or revert no further than version {migration.version}"
                )
            migration.down.check()
        return todo

    return _run(conninfo, migrations, "down", newest, limits, on_event)


def _run(
    conninfo: str,
    migrations: Sequence[Migration],
    direction: Literal["up", "down"],
    choose: Callable[[Status], Sequence[Migration]],
    limits: LockLimits,
    on_event: OnEvent,
) -> tuple[Applied, ...]:
    def waiting(holder: str) -> None:
        on_event("waiting", None, f"another migrator is at work: {holder}")

    with migration_lock(conninfo, limits.migrator_lock_seconds, waiting):
        with open_connection(conninfo) as connection:
            ledger = Ledger.ensure(connection)
            state = compare(ledger.rows(connection), migrations)
        for problem in state.problems:
            raise problem
        step = Step(conninfo, ledger, direction, limits, on_event)
        done: list[Applied] = []
        try:
            for migration in choose(state):
                if (applied := step.run(migration)) is not None:
                    done.append(applied)
        except MigrationError as error:
            error.done = tuple(done)
            raise
        return tuple(done)


def _problems(rows: Iterable[LedgerRow], migrations: dict[int, Migration]) -> Iterable[LedgerMismatch]:
    for row in rows:
        migration = migrations.get(row.version)
        if migration is None:
            yield LedgerMismatch(
                f"migration {row.version} ({row.description}) is applied but has no file; bring the file back,"
                f" deploy the release that has it, or, if it is gone for good, `groundwork migrate repair --forget"
                f" {row.version}`",
                version=row.version,
            )
        elif row.checksum != migration.checksum:
            yield LedgerMismatch(
                f"{migration.up.path.name} was edited after it was applied; restore the file as it was"
                f" (SHA-384 {row.checksum.hex()[:16]}..., now {migration.checksum.hex()[:16]}...) and put the"
                " change into a new migration; where only comments or blanks changed, `groundwork migrate repair`",
                version=row.version,
            )
        elif not row.success and not _is_resumable(migration):
            yield DirtyMigration(
                f"{migration.up.path.name} began and did not end, so the schema's state is unknown; see what it"
                f" did, then finish it by hand and `groundwork migrate repair --mark-applied {row.version}`, or undo"
                f" it and `groundwork migrate repair --forget {row.version}`",
                version=row.version,
            )


def _is_resumable(migration: Migration) -> bool:
    # A row is dirty only where one of the two ran outside a transaction, and it does not say which.
    scripts = [script for script in (migration.up, migration.down) if script and script.no_transaction]
    return bool(scripts) and all(is_resumable(s) for script in scripts for s in script.statements)
