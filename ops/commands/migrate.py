"""`groundwork migrate`: shows, applies, reverts and begins migrations; the algorithm is db.migrator's.

The database is --url, else DATABASE_URL, else the stack's own, as role migrator.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ops.commands.names import stack_option
from ops.database_url import resolve_database_url
from ops.errors import Exit, OpsError

if TYPE_CHECKING:
    from db.migrator import Applied, Migration, Status

_FOLDER = Path(__file__).parents[2] / "db" / "migrations"
_TO_FOLDER = click.option(
    "--folder",
    type=click.Path(path_type=Path),
    default=_FOLDER,
    show_default="db/migrations",
    help="The folder of migrations.",
)


def database_options(command: Callable[..., None]) -> Callable[..., None]:
    """The options by which a command finds its database and its migrations."""
    url = click.option("--url", help="The database; without it DATABASE_URL, or else the stack's.")
    stack = stack_option("The stack, where no URL is given.")
    return url(stack(_TO_FOLDER(command)))


@click.group("migrate")
def migrate() -> None:
    """Show, apply, revert and begin migrations (sqlx's format).

    Exit codes: 3 something is pending, 4 the ledger does not match the files, 5 the lock is held,
    6 the database cannot be reached, 7 refused as unsafe.
    """


@migrate.command("status")
@database_options
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
def show_status(url: str | None, stack: str, folder: Path, as_json: bool) -> None:
    """Say what is applied and what is pending."""
    from db.migrator import read_source, status

    with _exit_codes():
        state = status(resolve_database_url(url, role="migrator", stack=stack), read_source(folder))
    if as_json:
        click.echo(json.dumps(_as_json(state), indent=2))
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
@click.option("--dry-run", is_flag=True, help="Name what would be applied, and change nothing.")
@click.option("--wait", "wait_seconds", type=float, default=30.0, show_default=True, metavar="SECONDS")
@click.option("--verbose", is_flag=True, help="Name each statement.")
def up(
    url: str | None,
    stack: str,
    folder: Path,
    target: int | None,
    dry_run: bool,
    wait_seconds: float,
    verbose: bool,
) -> None:
    """Apply what is pending; --wait is how long to wait for another migrator."""
    from db.migrator import LockLimits, apply_pending, read_source, status

    with _exit_codes():
        migrations = read_source(folder)
        conninfo = resolve_database_url(url, role="migrator", stack=stack)
        if dry_run:
            state = status(conninfo, migrations)
            for problem in state.problems:
                raise problem
            for migration in state.pending:
                if target is None or migration.version <= target:
                    click.echo(f"would apply {migration.name}")
            return
        limits = LockLimits(migrator_lock_seconds=wait_seconds)
        done = apply_pending(conninfo, migrations, target=target, limits=limits, on_event=_reporter(verbose))
    _print_done("applied", done, "nothing was pending")


@migrate.command("down")
@database_options
@click.argument("count", type=click.IntRange(min=1), default=1)
@click.option("--to", "target", type=int, metavar="VERSION", help="Revert all above this version; 0 for all.")
@click.option("--yes", is_flag=True, help="Do not ask: what the migrations made is dropped with its rows.")
@click.option("--verbose", is_flag=True, help="Name each statement.")
def down(
    url: str | None, stack: str, folder: Path, count: int, target: int | None, yes: bool, verbose: bool
) -> None:
    """Revert the newest COUNT migrations (1 by default)."""
    from db.migrator import read_source, revert

    what = f"everything above version {target}" if target is not None else f"the newest {count}"
    if not yes and not sys.stdin.isatty():
        raise OpsError(
            f"reverting {what} drops tables with their rows; say --yes to do it unasked", Exit.REFUSED
        )
    if not yes:
        click.confirm(f"Revert {what}? What they made is dropped with its rows.", abort=True)
    with _exit_codes():
        done = revert(
            resolve_database_url(url, role="migrator", stack=stack),
            read_source(folder),
            count=count,
            target=target,
            on_event=_reporter(verbose),
        )
    _print_done("reverted", done, "nothing was applied")


@migrate.command("new")
@_TO_FOLDER
@click.argument("name")
@click.option(
    "--no-transaction", is_flag=True, help="For one statement that refuses to run in a transaction."
)
def new(folder: Path, name: str, no_transaction: bool) -> None:
    """Begin a migration called NAME: an up and a down file with the next number."""
    from db.migrator import new_migration

    with _exit_codes():
        for path in new_migration(folder, name, no_transaction=no_transaction):
            click.echo(path)


@contextmanager
def _exit_codes() -> Iterator[None]:
    """The migrator's errors become OpsErrors with their documented exit codes."""
    from db import migrator

    codes: dict[type[Exception], Exit] = {
        migrator.LedgerMismatch: Exit.MISMATCH,
        migrator.LockHeld: Exit.LOCKED,
        migrator.Unreachable: Exit.UNREACHABLE,
        migrator.PoolerRefused: Exit.REFUSED,
    }
    try:
        yield
    except migrator.MigrationError as exc:
        code = next((code for kind, code in codes.items() if isinstance(exc, kind)), Exit.ERROR)
        raise OpsError(str(exc), code) from exc


def _reporter(verbose: bool) -> Callable[[str, Migration | None, str], None]:
    def report(kind: str, migration: Migration | None, detail: str) -> None:
        # What is done is said at the end, on stdout.
        if kind == "done" or (kind == "statement" and not verbose):
            return
        name = "" if migration is None else f"{migration.name}: "
        click.echo(f"{name}{detail}", err=True)

    return report


def _print_done(verb: str, done: tuple[Applied, ...], nothing: str) -> None:
    for step in done:
        click.echo(f"{verb} {step.migration.name} ({step.seconds:.2f} s)")
    if not done:
        click.echo(nothing)


def _as_lines(state: Status) -> Iterator[str]:
    for row in state.applied:
        yield f"applied      {row.version:>6}  {row.description}  ({row.installed_on:%Y-%m-%d %H:%M:%S %Z})"
    interrupted = {row.version for row in state.interrupted}
    for migration in state.pending:
        late = "  (older than what is applied)" if migration in state.out_of_order else ""
        kind = "interrupted" if migration.version in interrupted else "pending"
        yield f"{kind:<12} {migration.version:>6}  {migration.description}{late}"
    for problem in state.problems:
        yield f"{'problem':<12} {problem.version:>6}  {problem}"


def _as_json(state: Status) -> dict[str, Any]:
    late = {m.version for m in state.out_of_order}
    return {
        "version": state.version,
        "applied": [
            {
                "version": row.version,
                "description": row.description,
                "installed_on": row.installed_on.isoformat(),
                "checksum": row.checksum.hex(),
                "seconds": None if row.execution_time < 0 else row.execution_time / 1e9,
            }
            for row in state.applied
        ],
        "pending": [
            {"version": m.version, "name": m.name, "out_of_order": m.version in late} for m in state.pending
        ],
        "interrupted": [row.version for row in state.interrupted],
        "problems": [{"version": problem.version, "problem": str(problem)} for problem in state.problems],
    }
