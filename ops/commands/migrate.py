"""`groundwork migrate`: shows, applies, reverts and begins migrations; the algorithm is db.migrator's.

The database is --url, else DATABASE_URL, else the stack's own, as role migrator. Commands with a purpose of their
own live in modules of their own, which the table of the group names.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ops.commands.lazy_group import LazyGroup
from ops.commands.migrate_options import (
    attempts_option,
    confirm,
    database_options,
    exit_codes,
    folder_option,
    json_option,
    lock_timeout_option,
    wait_option,
)
from ops.database_url import resolve_database_url
from ops.errors import Exit

if TYPE_CHECKING:
    from db.migrator import Applied, Migration, Phase, Status

_ELSEWHERE: dict[str, tuple[str, str, str]] = {
    "repair": ("ops.commands.migrate_ledger", "repair", "Mend the ledger where that is provably harmless"),
    "baseline": (
        "ops.commands.migrate_ledger",
        "baseline",
        "Take a database whose schema exists under management",
    ),
    "lint": ("ops.commands.migrate_lint", "lint", "Say what is unsafe or missing in the files"),
    "plan": (
        "ops.commands.migrate_review",
        "show_plan",
        "Show what pending migrations lock, rewrite and read",
    ),
    "rehearse": ("ops.commands.migrate_review", "rehearse_pending", "Run them on a copy, under the queries"),
    "verify": (
        "ops.commands.migrate_review",
        "verify_schema",
        "Find where the database is not what they make",
    ),
}
_PHASES: tuple[Phase, ...] = ("expand", "contract")


@click.group("migrate", cls=LazyGroup, elsewhere=_ELSEWHERE)
def migrate() -> None:
    """Show, apply, revert, begin and check migrations (sqlx's format).

    Exit codes: 3 something is pending, 4 the ledger does not match the files or lint found something, 5 the lock
    is held, 6 the database cannot be reached, 7 refused as unsafe.
    """


@migrate.command("status")
@database_options
@json_option
def show_status(url: str | None, stack: str, folder: Path, as_json: bool) -> None:
    """Say what is applied and what is pending."""
    from db.migrator import read_source, status

    with exit_codes():
        migrations = read_source(folder)
        state = status(resolve_database_url(url, role="migrator", stack=stack), migrations)
    if as_json:
        click.echo(json.dumps(_as_json(state, migrations), indent=2))
    else:
        for line in _as_lines(state):
            click.echo(line)
    if state.problems:
        sys.exit(Exit.MISMATCH)
    if state.pending:
        sys.exit(Exit.PENDING)


@migrate.command("up")
@database_options
@click.option("--to", "target", type=int, metavar="VERSION", help="Go no further than this version.")
@click.option("--phase", type=click.Choice(_PHASES), help="Apply this side of a deploy alone.")
@click.option("--dry-run", is_flag=True, help="Name what would be applied, and change nothing.")
@wait_option
@lock_timeout_option
@attempts_option
@click.option("--verbose", is_flag=True, help="Name each statement.")
@json_option
def up(
    url: str | None,
    stack: str,
    folder: Path,
    target: int | None,
    phase: Phase | None,
    dry_run: bool,
    wait_seconds: float,
    lock_seconds: float,
    attempts: int,
    verbose: bool,
    as_json: bool,
) -> None:
    """Apply what is pending.

    --phase expand applies what running code can live with, --phase contract what removes the rest; code is
    deployed between them. A phase that would have to jump over the other is refused.
    """
    from db.migrator import LockLimits, apply_pending, preview_pending, read_source

    report = _Report("would apply" if dry_run else "applied", as_json, verbose)
    with report, exit_codes():
        migrations = read_source(folder)
        conninfo = resolve_database_url(url, role="migrator", stack=stack)
        if dry_run:
            pending = preview_pending(conninfo, migrations, target=target, phase=phase)
            report.done = [(migration, None) for migration in pending]
            return
        limits = LockLimits(wait_seconds, lock_seconds, attempts)
        done = apply_pending(
            conninfo, migrations, target=target, phase=phase, limits=limits, on_event=report.on_event
        )
        report.did(done)


@migrate.command("down")
@database_options
@click.argument("count", type=click.IntRange(min=1), default=1)
@click.option("--to", "target", type=int, metavar="VERSION", help="Revert all above this version; 0 for all.")
@click.option("--yes", is_flag=True, help="Do not ask: what the migrations made is dropped with its rows.")
@wait_option
@lock_timeout_option
@attempts_option
@click.option("--verbose", is_flag=True, help="Name each statement.")
@json_option
def down(
    url: str | None,
    stack: str,
    folder: Path,
    count: int,
    target: int | None,
    yes: bool,
    wait_seconds: float,
    lock_seconds: float,
    attempts: int,
    verbose: bool,
    as_json: bool,
) -> None:
    """Revert the newest COUNT migrations (1 by default)."""
    from db.migrator import LockLimits, read_source, revert

    what = f"everything above version {target}" if target is not None else f"the newest {count}"
    confirm(
        f"Revert {what}? What they made is dropped with its rows.",
        yes=yes,
        unasked=f"reverting {what} drops tables with their rows",
    )
    report = _Report("reverted", as_json, verbose)
    with report, exit_codes():
        done = revert(
            resolve_database_url(url, role="migrator", stack=stack),
            read_source(folder),
            count=count,
            target=target,
            limits=LockLimits(wait_seconds, lock_seconds, attempts),
            on_event=report.on_event,
        )
        report.did(done)


@migrate.command("new")
@folder_option
@click.argument("name")
@click.option(
    "--no-transaction", is_flag=True, help="For one statement that refuses to run in a transaction."
)
@click.option("--phase", type=click.Choice(_PHASES), default="expand", show_default=True)
@json_option
def new(folder: Path, name: str, no_transaction: bool, phase: Phase, as_json: bool) -> None:
    """Begin a migration called NAME: an up and a down file with the next number."""
    from db.migrator import new_migration

    with exit_codes():
        paths = new_migration(folder, name, no_transaction=no_transaction, phase=phase)
    if as_json:
        click.echo(json.dumps({"files": [str(path) for path in paths], "phase": phase}, indent=2))
    else:
        for path in paths:
            click.echo(path)


class _Report:
    """What a run did: said at its end on stdout, also of one that failed; progress goes to stderr."""

    def __init__(self, verb: str, as_json: bool, verbose: bool) -> None:
        self._verb, self._as_json, self._verbose = verb, as_json, verbose
        self.done: list[tuple[Migration, float | None]] = []

    def __enter__(self) -> None:
        """Nothing to prepare."""

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is not None:
            self.did(getattr(error.__cause__, "done", ()))
        if self._as_json:
            done = [
                {"version": m.version, "name": m.name, "phase": m.up.phase, "seconds": seconds}
                for m, seconds in self.done
            ]
            said = {self._verb.replace(" ", "_"): done, "error": str(error) if error else None}
            click.echo(json.dumps(said, indent=2))
            return
        for migration, seconds in self.done:
            took = "" if seconds is None else f" ({seconds:.2f} s)"
            click.echo(f"{self._verb} {migration.name}{took}")
        if error is None and not self.done:
            click.echo("nothing was applied" if self._verb == "reverted" else "nothing was pending")

    def did(self, steps: Iterable[Applied]) -> None:
        self.done = [(step.migration, step.seconds) for step in steps]

    def on_event(self, kind: str, migration: Migration | None, detail: str) -> None:
        # What is done is said at the end, on stdout.
        if kind != "done" and (kind != "statement" or self._verbose):
            name = "" if migration is None else f"{migration.name}: "
            click.echo(f"{name}{detail}", err=True)


def _as_lines(state: Status) -> Iterator[str]:
    for row in state.applied:
        yield f"applied      {row.version:>6}  {row.description}  ({row.installed_on:%Y-%m-%d %H:%M:%S %Z})"
    interrupted = {row.version for row in state.interrupted}
    for migration in state.pending:
        late = "  (older than what is applied)" if migration in state.out_of_order else ""
        kind = "interrupted" if migration.version in interrupted else "pending"
        yield f"{kind:<12} {migration.version:>6}  {migration.description}  [{migration.up.phase}]{late}"
    for problem in state.problems:
        yield f"{'problem':<12} {problem.version:>6}  {problem}"


def _as_json(state: Status, migrations: tuple[Migration, ...]) -> dict[str, Any]:
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
