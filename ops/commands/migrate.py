"""`groundwork migrate`: show, apply, revert and create migrations. The algorithm is in db.migrator.

ops.commands.migrate_options selects the database. Larger subcommands are in modules of their own, which the group's
table lists.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ops.commands.lazy_group import LazyGroup
from ops.commands.migrate_options import (
    confirm,
    database_options,
    ignore_missing_option,
    json_option,
    load_settings,
    lock_limit_options,
    migrate_settings,
    migration_database,
    migration_database_to_change,
    read_migrations,
)
from ops.commands.migrator_options import exit_codes, folder_option
from ops.errors import Exit
from ops.number_range import IntegerRange
from ops.output import print_json, print_line
from ops.termination import description

if TYPE_CHECKING:
    from db.migrator import Event, LedgerRow, Migration, MigrationStatus, Phase

_ELSEWHERE: dict[str, tuple[str, str, str]] = {
    "repair": ("ops.commands.migrate_ledger", "repair", "Repair the ledger if that is provably harmless"),
    "baseline": (
        "ops.commands.migrate_ledger",
        "baseline",
        "Adopt an existing database: record migrations as applied",
    ),
    "lint": ("ops.commands.migrate_lint", "lint", "Report unsafe statements and missing parts"),
    "plan": (
        "ops.commands.migrate_review",
        "show_plan",
        "Show what pending migrations lock, rewrite and scan",
    ),
    "rehearse": (
        "ops.commands.migrate_review",
        "rehearse_pending",
        "Run pending migrations on a copy, under load",
    ),
    "reset": (
        "ops.commands.migrate_reset",
        "reset_stack",
        "Drop a development stack's schema and rebuild it",
    ),
    "verify": (
        "ops.commands.migrate_review",
        "verify_schema",
        "Find where the database differs from its migrations",
    ),
}
_PHASES: tuple[Phase, ...] = ("expand", "contract")
# The question of `down` names at most so many migrations.
_MOST_NAMED = 10


@click.group("migrate", cls=LazyGroup, elsewhere=_ELSEWHERE)
@click.pass_context
def migrate(context: click.Context) -> None:
    """Show, apply, revert, create and check migrations

    The files use sqlx's format. Another project's settings are in groundwork.toml, pyproject.toml or sqlx.toml. Exit
    codes: 3 if migrations are pending, 4 if the ledger does not match the files or lint reports findings, 5 if the
    lock is taken, 6 if the database cannot be reached, 7 if the operation is refused as unsafe.
    """
    load_settings(context)


@migrate.command("status")
@database_options
@ignore_missing_option
@json_option
def show_status(url: str | None, stack: str, folder: Path, ignore_missing: bool, as_json: bool) -> None:
    """Show applied and pending migrations"""
    from db.migrator import status

    with exit_codes():
        migrations = read_migrations(folder)
        state = status(migration_database(url, stack), migrations, ignore_missing=ignore_missing)
    if state.absence is not None:
        print_line(f"note: {state.absence}", err=True)
    if as_json:
        print_json(_as_json(state, migrations))
    else:
        for line in _as_lines(state):
            print_line(line)
    if state.problems:
        sys.exit(Exit.MISMATCH)
    if state.pending:
        sys.exit(Exit.PENDING)


@migrate.command("up")
@database_options
@click.option("--to", "target", type=int, metavar="VERSION", help="Stop after this version")
@click.option("--phase", type=click.Choice(_PHASES), help="Apply only this phase of a deployment")
@click.option("--dry-run", is_flag=True, help="List what would be applied, and change nothing")
@ignore_missing_option
@lock_limit_options
@click.option("--verbose", is_flag=True, help="Print each statement")
@json_option
def up(
    url: str | None,
    stack: str,
    folder: Path,
    target: int | None,
    phase: Phase | None,
    dry_run: bool,
    ignore_missing: bool,
    wait_seconds: float,
    lock_seconds: float,
    attempts: int,
    verbose: bool,
    as_json: bool,
) -> None:
    """Apply pending migrations

    --phase expand applies changes that the running code can work with. --phase contract removes what the old code
    needed. Deploy the new code between the two. A phase that would skip a migration of the other phase is refused.
    """
    from db.migrator import LockLimits, apply_pending, create_schemas, preview_pending

    report = _Report("would apply" if dry_run else "applied", as_json, verbose)
    with report, exit_codes():
        migrations = read_migrations(folder)
        conninfo = migration_database_to_change(url, stack)
        if dry_run:
            pending = preview_pending(
                conninfo, migrations, target=target, phase=phase, ignore_missing=ignore_missing
            )
            report.done = [(migration, None) for migration in pending]
            return
        create_schemas(conninfo, migrate_settings().create_schemas)
        apply_pending(
            conninfo,
            migrations,
            target=target,
            phase=phase,
            ignore_missing=ignore_missing,
            limits=LockLimits(wait_seconds, lock_seconds, attempts),
            on_event=report.on_event,
        )


@migrate.command("down")
@database_options
@click.argument("count", type=IntegerRange(min=1), default=1)
@click.option(
    "--to", "target", type=int, metavar="VERSION", help="Revert all above this version; 0 reverts all"
)
@click.option("--yes", is_flag=True, help="Drop the migrations' objects and rows without asking")
@ignore_missing_option
@lock_limit_options
@click.option("--verbose", is_flag=True, help="Print each statement")
@json_option
def down(
    url: str | None,
    stack: str,
    folder: Path,
    count: int,
    target: int | None,
    yes: bool,
    ignore_missing: bool,
    wait_seconds: float,
    lock_seconds: float,
    attempts: int,
    verbose: bool,
    as_json: bool,
) -> None:
    """Revert the newest COUNT migrations [default: 1]"""
    from db.migrator import LockLimits, preview_revert, revert

    report = _Report("reverted", as_json, verbose)
    with report, exit_codes():
        migrations = read_migrations(folder)
        conninfo = migration_database_to_change(url, stack)
        versions: list[int] | None = None
        if not yes:
            rows = preview_revert(
                conninfo, migrations, count=count, target=target, ignore_missing=ignore_missing
            )
            versions = [row.version for row in rows]
            _confirm_revert(rows, migrations)
        revert(
            conninfo,
            migrations,
            count=count,
            target=target,
            versions=versions,
            ignore_missing=ignore_missing,
            limits=LockLimits(wait_seconds, lock_seconds, attempts),
            on_event=report.on_event,
        )


def _confirm_revert(rows: Sequence[LedgerRow], migrations: Iterable[Migration]) -> None:
    """Ask whether to revert these migrations, newest first. With nothing to revert there is no question."""
    if not rows:
        return
    names = {m.version: m.name for m in migrations}
    named = [names.get(row.version, f"{row.version} ({row.description})") for row in rows]
    if len(named) > _MOST_NAMED:
        named[_MOST_NAMED - 1 : -1] = ["..."]
    what = ", ".join(named) if len(rows) == 1 else f"{len(rows)} migrations ({', '.join(named)})"
    confirm(
        f"Revert {what}? The objects that were created are dropped with their rows.",
        yes=False,
        unasked=f"reverting {what} drops tables with their rows",
    )


@migrate.command("new")
@folder_option
@click.argument("name")
@click.option("--no-transaction", is_flag=True, help="For a statement that cannot run in a transaction")
@click.option("--phase", type=click.Choice(_PHASES), default="expand", show_default=True)
@json_option
def new(folder: Path, name: str, no_transaction: bool, phase: Phase, as_json: bool) -> None:
    """Create migration files called NAME

    Their version is the next number, or a timestamp if the newest file has one.
    """
    from db.migrator import new_migration

    settings = migrate_settings()
    with exit_codes():
        paths = new_migration(
            folder,
            name,
            no_transaction=no_transaction,
            phase=phase,
            versioning=settings.versioning,
            is_reversible=settings.is_reversible,
            ignored_chars=settings.ignored_chars,
        )
    if as_json:
        print_json({"files": [str(path) for path in paths], "phase": phase})
    else:
        for path in paths:
            print_line(path)


class _Report:
    """The steps of a run, printed to stdout at its end even if it failed. Progress goes to stderr."""

    def __init__(self, verb: str, as_json: bool, verbose: bool) -> None:
        self._verb, self._as_json, self._verbose = verb, as_json, verbose
        self.done: list[tuple[Migration, float | None]] = []

    def __enter__(self) -> None:
        """There is nothing to prepare."""

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if self._as_json:
            done = [
                {"version": m.version, "name": m.name, "phase": m.up.phase, "seconds": seconds}
                for m, seconds in self.done
            ]
            said = {self._verb.replace(" ", "_"): done, "error": description(error) if error else None}
            print_json(said)
            return
        for migration, seconds in self.done:
            took = "" if seconds is None else f" ({seconds:.2f} s)"
            print_line(f"{self._verb} {migration.name}{took}")
        if error is None and not self.done:
            print_line("nothing was applied" if self._verb == "reverted" else "nothing was pending")

    def on_event(self, event: Event) -> None:
        if event.applied is not None:
            # Printed at the end, on stdout.
            self.done.append((event.applied.migration, event.applied.seconds))
        elif event.kind != "statement" or self._verbose:
            print_line(event, err=True)


def _as_lines(state: MigrationStatus) -> Iterator[str]:
    for row in state.applied:
        yield f"applied      {row.version:>6}  {row.description}  ({row.installed_on:%Y-%m-%d %H:%M:%S %Z})"
    interrupted = {row.version for row in state.interrupted}
    for migration in state.pending:
        late = "  (older than what is applied)" if migration in state.out_of_order else ""
        kind = "interrupted" if migration.version in interrupted else "pending"
        yield f"{kind:<12} {migration.version:>6}  {migration.description}  [{migration.up.phase}]{late}"
    for version, text in state.problem_lines():
        kind, number = ("", "") if version is None else ("problem", version)
        yield f"{kind:<12} {number:>6}  {text}"


def _as_json(state: MigrationStatus, migrations: tuple[Migration, ...]) -> dict[str, Any]:
    late = {m.version for m in state.out_of_order}
    phases = {m.version: m.up.phase for m in migrations}
    return {
        "version": state.version,
        "applied": [
            {
                "version": row.version,
                "description": row.description,
                "phase": phases.get(row.version),
                "installed_on": row.installed_on.isoformat(),
                "checksum": row.checksum.hex(),
                "seconds": None if row.execution_time < 0 else row.execution_time / 1e9,
            }
            for row in state.applied
        ],
        "pending": [
            {
                "version": m.version,
                "name": m.name,
                "phase": m.up.phase,
                "out_of_order": m.version in late,
            }
            for m in state.pending
        ],
        "interrupted": [row.version for row in state.interrupted],
        "problems": [{"version": problem.version, "problem": str(problem)} for problem in state.problems],
    }
