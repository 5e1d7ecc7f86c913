"""Compare folder and ledger, then apply or revert one migration after the other.

If a migration's file is missing or edited, or a migration started but did not finish, nothing is run. After a failure
or a kill, the next run can always continue.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from db.migrator.connection import Connection, open_connection
from db.migrator.errors import (
    DirtyMigration,
    LedgerMismatch,
    NoLedger,
    NotRevertible,
    PhaseOrder,
    RevertOutdated,
)
from db.migrator.events import Applied, Event, OnEvent, no_event
from db.migrator.ledger import Ledger, LedgerRow, describe_absence, is_elsewhere, refuse_elsewhere
from db.migrator.lock import migration_lock
from db.migrator.lock_wait import DEFAULT_LIMITS, LockLimits
from db.migrator.phase import Phase
from db.migrator.resumption import can_leave_dirty, can_resume
from db.migrator.source import Migration, require_version
from db.migrator.step import MigrationStep

_IF_SHARED = "If another program keeps its migrations in this ledger too, pass --ignore-missing"
_ADVICE_ON_MISSING = (
    f"restore the file, or deploy the release that has it. {_IF_SHARED}. If the file is lost, `groundwork migrate"
    " repair --forget VERSION` deletes the ledger's row and leaves the schema as it is"
)


@dataclass(frozen=True)
class MigrationStatus:
    """The comparison of folder and ledger. With any of `problems`, apply_pending refuses to run.

    A migration that started but did not finish is in both `interrupted` and `pending`. `absence` says why there are no
    rows if the login sees no ledger.
    """

    applied: tuple[LedgerRow, ...]
    pending: tuple[Migration, ...]
    interrupted: tuple[LedgerRow, ...]
    problems: tuple[LedgerMismatch, ...]
    absence: str | None = None

    @property
    def version(self) -> int | None:
        """The newest applied version, or None."""
        return max((row.version for row in self.applied), default=None)

    def problem_lines(self) -> Iterator[tuple[int | None, str]]:
        """Yield (version, text) of each problem.

        Advice on several of them comes once, after the last of them, with None as the version.
        """
        left = Counter(problem.advice for problem in self.problems if problem.advice)
        counts = dict(left)
        for problem in self.problems:
            if counts.get(problem.advice, 1) == 1:
                yield problem.version, str(problem)
                continue
            yield problem.version, problem.what
            left[problem.advice] -= 1
            if not left[problem.advice]:
                yield None, f"for these {counts[problem.advice]} migrations: {problem.advice}"

    @property
    def out_of_order(self) -> tuple[Migration, ...]:
        """Pending migrations older than the newest applied one. They are applied too, as sqlx does."""
        return tuple(m for m in self.pending if self.version is not None and m.version < self.version)


def status(
    conninfo: str, migrations: Sequence[Migration], *, ignore_missing: bool = False
) -> MigrationStatus:
    """Compare the folder with the database. Only reads; any role with access to the ledger may call it."""
    with open_connection(conninfo) as connection:
        return read_status(connection, migrations, ignore_missing=ignore_missing)


def checked_status(
    conninfo: str, migrations: Sequence[Migration], *, ignore_missing: bool = False
) -> MigrationStatus:
    """Compare the folder with the database, and raise what apply_pending would raise before it runs a migration."""
    with open_connection(conninfo) as connection:
        state = read_status(connection, migrations, ignore_missing=ignore_missing)
        if state.absence is not None:
            refuse_elsewhere(connection)
    for problem in state.problems:
        raise problem
    return state


def read_status(
    connection: Connection, migrations: Sequence[Migration], *, ignore_missing: bool = False
) -> MigrationStatus:
    """Compare the folder with the database of an open connection. Raises the driver's errors unchanged."""
    ledger = Ledger.find(connection)
    if ledger is None:
        return replace(compare((), migrations), absence=describe_absence(connection))
    return compare(ledger.rows(connection), migrations, ignore_missing=ignore_missing)


def compare(
    rows: Sequence[LedgerRow], migrations: Sequence[Migration], *, ignore_missing: bool = False
) -> MigrationStatus:
    """Compare the folder with the ledger's rows. `ignore_missing` leaves out the rows of versions without a file."""
    if ignore_missing:
        versions = {m.version for m in migrations}
        rows = tuple(row for row in rows if row.version in versions)
    applied = {row.version for row in rows if row.success}
    return MigrationStatus(
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
    ignore_missing: bool = False,
    limits: LockLimits = DEFAULT_LIMITS,
    on_event: OnEvent = no_event,
) -> tuple[Applied, ...]:
    """Apply the pending migrations, oldest first, and return those that this call applied.

    `target` is the last version to apply; `phase` limits this to expand or contract migrations. `ignore_missing` is for
    a ledger that another program's migrations are in too: rows without a file are left alone. Raises subclasses of
    MigrationError; migrations applied before the error stay applied, and `on_event` has reported them as `done`.
    """
    if target is not None:
        require_version(target, migrations)
    with open_connection(conninfo) as connection:
        ledger = Ledger.find(connection)
        rows = None if ledger is None else ledger.rows(connection)
        state = None if rows is None else compare(rows, migrations, ignore_missing=ignore_missing)
        # A problem may come from a running migrator, so wait for the lock before reporting it.
        if state is not None and not state.problems and not _unapplied(state, target, phase):
            return ()
        return _run(
            conninfo,
            migrations,
            "up",
            lambda now: _unapplied(now, target, phase),
            ignore_missing,
            limits,
            on_event,
            first=connection,
        )


def preview_pending(
    conninfo: str,
    migrations: Sequence[Migration],
    *,
    target: int | None = None,
    phase: Phase | None = None,
    ignore_missing: bool = False,
) -> tuple[Migration, ...]:
    """Return what apply_pending would apply, in order, without changing anything. Raises what it would raise."""
    if target is not None:
        require_version(target, migrations)
    return _unapplied(checked_status(conninfo, migrations, ignore_missing=ignore_missing), target, phase)


def _unapplied(state: MigrationStatus, target: int | None, phase: Phase | None) -> tuple[Migration, ...]:
    todo = in_phase([m for m in state.pending if target is None or m.version <= target], phase)
    for migration in todo:
        migration.up.check()
    return todo


def preview_revert(
    conninfo: str,
    migrations: Sequence[Migration],
    *,
    count: int = 1,
    target: int | None = None,
    ignore_missing: bool = False,
) -> tuple[LedgerRow, ...]:
    """Return the rows of the migrations that revert would revert, newest first, without changing anything.

    Pass their versions to revert, so that it reverts no other ones if the ledger changes in the meantime.
    """
    if target:
        require_version(target, migrations)
    with open_connection(conninfo) as connection:
        rows = _newest(read_status(connection, migrations, ignore_missing=ignore_missing), count, target)
    by_version = {m.version: m for m in migrations}
    for row in rows:
        # A missing file is a problem that revert reports once no other migrator runs.
        if row.version in by_version:
            _require_down(by_version[row.version])
    return rows


def revert(
    conninfo: str,
    migrations: Sequence[Migration],
    *,
    count: int = 1,
    target: int | None = None,
    versions: Collection[int] | None = None,
    ignore_missing: bool = False,
    limits: LockLimits = DEFAULT_LIMITS,
    on_event: OnEvent = no_event,
) -> tuple[Applied, ...]:
    """Revert the newest `count` migrations, or all above version `target`, and return them, newest first.

    A `target` of 0 reverts all, also versions that are not above 0. `versions` are those that preview_revert returned
    for the same `count` and `target`. Without them, the migrations are chosen before the call waits for another
    migrator. Those that the other migrator has reverted are skipped. Returns an empty tuple if nothing is left.

    Raises NotRevertible before anything runs if one of them has no down file, and RevertOutdated if a migration that
    would have to be reverted before them was applied in the meantime.
    """
    if target:
        require_version(target, migrations)
    with open_connection(conninfo) as connection:
        if versions is None:
            state = read_status(connection, migrations, ignore_missing=ignore_missing)
            versions = [row.version for row in _newest(state, count, target)]
        chosen = frozenset(versions)
        floor = min(chosen, default=None) if target is None else target or None

        def still_applied(state: MigrationStatus) -> Sequence[Migration]:
            present = sorted((row.version for row in state.applied + state.interrupted), reverse=True)
            _refuse_newer([v for v in present if v not in chosen and (floor is None or v > floor)], chosen)
            by_version = {m.version: m for m in migrations}
            for version in sorted((chosen - set(present)) & by_version.keys(), reverse=True):
                on_event(Event("skipped", by_version[version], "another migrator has reverted it"))
            todo = [by_version[version] for version in present if version in chosen]
            for migration in todo:
                _require_down(migration)
            return todo

        return _run(
            conninfo,
            migrations,
            "down",
            still_applied,
            ignore_missing,
            limits,
            on_event,
            first=connection,
        )


def _newest(state: MigrationStatus, count: int, target: int | None) -> tuple[LedgerRow, ...]:
    rows = sorted(state.applied + state.interrupted, key=lambda row: row.version, reverse=True)
    if target is None:
        return tuple(rows[:count])
    return tuple(row for row in rows if target == 0 or row.version > target)


def _require_down(migration: Migration) -> None:
    if migration.down is None:
        raise NotRevertible(
            f"{migration.up.path.name} has no down file, so it cannot be reverted; add"
            f" {migration.name}.down.sql, or revert no further than version {migration.version}"
        )
    migration.down.check()


def _refuse_newer(appeared: Sequence[int], chosen: Collection[int]) -> None:
    if not appeared:
        return
    was = "was" if len(appeared) == 1 else "were"
    what = f"version{'s' * (len(appeared) > 1)} {', '.join(map(str, appeared))}"
    asked = (
        f"{', '.join(map(str, sorted(chosen, reverse=True)))} to revert" if chosen else "nothing to revert"
    )
    raise RevertOutdated(
        f"another migrator has applied {what} since `down` found {asked}; nothing was reverted. Run `groundwork migrate"
        f" status`, and run `down` again if what {was} applied is to be reverted too"
    )


def _run(
    conninfo: str,
    migrations: Sequence[Migration],
    direction: Literal["up", "down"],
    choose: Callable[[MigrationStatus], Sequence[Migration]],
    ignore_missing: bool,
    limits: LockLimits,
    on_event: OnEvent,
    first: Connection | None = None,
) -> tuple[Applied, ...]:
    def waiting(holder: str) -> None:
        on_event(Event("waiting", None, f"another migrator is running: {holder}"))

    with migration_lock(conninfo, limits.migrator_lock_seconds, waiting, first) as session:
        ledger = Ledger.ensure(session.connection) if direction == "up" else Ledger.find(session.connection)
        if ledger is None:
            if is_elsewhere(session.connection):
                raise NoLedger(describe_absence(session.connection))
            on_event(Event("absent", None, describe_absence(session.connection)))
            return ()
        state = compare(ledger.rows(session.connection), migrations, ignore_missing=ignore_missing)
        for problem in state.problems:
            raise problem
        step = MigrationStep(session, ledger, direction, limits, on_event)
        return tuple(applied for each in choose(state) if (applied := step.run(each)) is not None)


def _problems(rows: Iterable[LedgerRow], migrations: dict[int, Migration]) -> Iterable[LedgerMismatch]:
    rows = tuple(rows)
    pending = migrations.keys() - {row.version for row in rows}
    renumbered = {migrations[version].checksum: migrations[version] for version in pending}
    for row in rows:
        migration = migrations.get(row.version)
        if migration is None and row.checksum in renumbered:
            moved = renumbered[row.checksum]
            yield LedgerMismatch(
                f"migration {row.version} ({row.description}) is applied but has no file, and the pending"
                f" {moved.up.path.name} has the same text. {_IF_SHARED}. Otherwise rename that file back to"
                f" number {row.version}, or record the new number with `groundwork migrate repair --moved"
                f" {moved.version}`",
                version=row.version,
            )
        elif migration is None:
            # The row may be another program's, so the advice to delete a row does not name this version.
            yield LedgerMismatch(
                f"migration {row.version} ({row.description}) is applied but has no file",
                _ADVICE_ON_MISSING,
                version=row.version,
            )
        elif row.checksum != migration.checksum:
            yield LedgerMismatch(
                f"{migration.up.path.name} was edited after it was applied; restore the file as it was"
                f" (SHA-384 {row.checksum.hex()[:16]}..., now {migration.checksum.hex()[:16]}...) and put the"
                " change into a new migration; if only comments or blanks changed, run `groundwork migrate repair`",
                version=row.version,
            )
        elif not row.success and not _is_resumable(migration):
            yield DirtyMigration(
                f"{migration.up.path.name} started but did not finish, so the schema's state is unknown; check what"
                f" it did, then finish it by hand and run `groundwork migrate repair --mark-applied {row.version}`, or"
                f" undo it and run `groundwork migrate repair --forget {row.version}`",
                version=row.version,
            )


def _is_resumable(migration: Migration) -> bool:
    # A dirty row does not say which of the files was interrupted.
    scripts = [script for script in (migration.up, migration.down) if script and can_leave_dirty(script)]
    return bool(scripts) and all(map(can_resume, scripts))


def in_phase(pending: Sequence[Migration], phase: Phase | None) -> tuple[Migration, ...]:
    """Return the migrations of the phase; all of `pending` (ordered by version) if `phase` is None.

    Raises SourceError if a phase is invalid, and PhaseOrder if one of them comes after a pending migration of the other
    phase.
    """
    chosen: list[Migration] = []
    passed: list[Migration] = []
    for migration in pending:
        if phase is not None:
            migration.up.check_phase()
        if phase is not None and migration.up.phase != phase:
            passed.append(migration)
        elif passed:
            raise _out_of_order(migration, chosen, passed)
        else:
            chosen.append(migration)
    return tuple(chosen)


def _out_of_order(late: Migration, chosen: list[Migration], passed: list[Migration]) -> PhaseOrder:
    first = chosen or passed
    step = f"`groundwork migrate up --phase {first[0].up.phase} --to {first[-1].version}`"
    once = " once no running code needs what it removes" if passed[0].up.phase == "contract" else ""
    return PhaseOrder(
        f"cannot apply {late.name} ({late.up.phase}) yet: {passed[0].name} ({passed[0].up.phase}) is pending, and"
        f" migrations run in the order of their versions; run {step} first, then apply {passed[0].name}{once}, or run"
        " without --phase"
    )
