"""`groundwork migrate plan`, `rehearse` and `verify`: show what migrations would do, and check that they did it.

These commands only read the database. The commands of ops.commands.migrate change it.
"""

from __future__ import annotations

import sys
from pathlib import Path

import click

from ops.commands.migrate_options import (
    database_options,
    ignore_missing_option,
    migrate_settings,
    migration_database,
    read_migrations,
    table_lock_options,
)
from ops.commands.migrator_options import exit_codes
from ops.commands.names import is_stack_given
from ops.errors import Exit, OpsError
from ops.number_range import FiniteRange, IntegerRange, seconds
from ops.output import print_json, print_line


@click.command("verify")
@database_options
@ignore_missing_option
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object")
def verify_schema(url: str | None, stack: str, folder: Path, ignore_missing: bool, as_json: bool) -> None:
    """Find where the database differs from its migrations

    The applied migrations run on a temporary server (Docker), and the two catalogs are compared. Exits with 4 if they
    differ.
    """
    from ops.migrations.verification import verify

    with exit_codes():
        done = verify(migration_database(url, stack), read_migrations(folder), ignore_missing=ignore_missing)
    if done.state.pending:
        print_line(f"{len(done.state.pending)} pending migrations are not checked", err=True)
    if as_json:
        print_json(done.as_json())
    else:
        for line in done.as_lines():
            print_line(line)
    if done.drift:
        sys.exit(Exit.MISMATCH)


@click.command("plan")
@database_options
@click.option("--from-scratch", is_flag=True, help="Plan all files from an empty database; connect to none")
@click.option(
    "--above", type=int, metavar="VERSION", help="Plan the files above VERSION; connect to no database"
)
@click.option(
    "--applied",
    type=int,
    multiple=True,
    metavar="VERSION",
    help="Plan the files except VERSION (repeatable); connect to none",
)
@ignore_missing_option
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object")
@click.option("--markdown", is_flag=True, help="Print Markdown for a pull request comment")
def show_plan(
    url: str | None,
    stack: str,
    folder: Path,
    from_scratch: bool,
    above: int | None,
    applied: tuple[int, ...],
    ignore_missing: bool,
    as_json: bool,
    markdown: bool,
) -> None:
    """Show what pending migrations lock, rewrite and scan

    The migrations run on a temporary server (Docker) with a copy of the database's schema. The database itself is only
    read. Without --url, DATABASE_URL, --stack and a running stack, all files are planned, as with --from-scratch.
    """
    from db.migrator.lint import RULES
    from db.migrator.source import require_version
    from ops.migrations.plan import plan_from, plan_pending
    from ops.migrations.plan_text import as_markdown, as_text

    if as_json and markdown:
        raise OpsError("--json and --markdown cannot be combined; pass one of them", Exit.USAGE)
    choices = {"--from-scratch": from_scratch, "--above": above is not None, "--applied": bool(applied)}
    offline = [option for option, is_given in choices.items() if is_given]
    if offline and (url is not None or is_stack_given()):
        raise OpsError(f"{offline[0]} connects to no database; omit --url and --stack", Exit.USAGE)
    if from_scratch and len(offline) > 1:
        raise OpsError(f"--from-scratch plans all files; omit it, or {offline[1]}", Exit.USAGE)
    with exit_codes():
        migrations = read_migrations(folder)
        target = None
        if not offline:
            target = _target(url, stack, must_be_up=is_stack_given())
        settings = migrate_settings()
        rules = RULES.keys() - settings.rules_off()
        if target is None:
            for version in applied:
                require_version(version, migrations)
            below = (each.version for each in migrations if above is not None and each.version <= above)
            plan = plan_from({*applied, *below}, migrations, rules=rules, session=settings.session)
        else:
            plan = plan_pending(target, migrations, rules=rules, ignore_missing=ignore_missing)
    if as_json:
        print_json(plan.as_json())
        return
    for line in as_markdown(plan) if markdown else as_text(plan):
        print_line(line)


@click.command("rehearse")
@database_options
@ignore_missing_option
@click.option(
    "--budget-ms", type=FiniteRange(0), help="Exit with 4 if a query is blocked longer or starts to fail"
)
@click.option(
    "--callers", type=IntegerRange(1, 32), default=8, show_default=True, help="Number of query threads"
)
@click.option(
    "--before",
    "before_seconds",
    type=seconds(0.5),
    default=5.0,
    show_default=True,
    metavar="SECONDS",
    help="How long queries run before the migrations start",
)
@table_lock_options
@click.option("--max-size", default="2GB", show_default=True, help="Largest database to copy")
@click.option("--schema-only", is_flag=True, help="Copy no rows; a stack gets the sample data instead")
@click.option(
    "--queries",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder with the application's queries [default: db/queries, or pg_stat_statements]",
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object")
def rehearse_pending(
    url: str | None,
    stack: str,
    folder: Path,
    ignore_missing: bool,
    budget_ms: float | None,
    callers: int,
    before_seconds: float,
    lock_seconds: float,
    attempts: int,
    max_size: str,
    schema_only: bool,
    queries: Path | None,
    as_json: bool,
) -> None:
    """Run pending migrations on a copy, under load

    The copy is on a temporary server (Docker), which is always removed. While the application's queries run, the
    rehearsal measures how long each query is blocked, errors with their SQLSTATE, and each migration's duration and
    longest lock wait.
    """
    from db.migrator import LockLimits
    from infra.spec.quantity import parse_bytes
    from ops.migrations.rehearsal.rehearsal import RehearsalOptions, rehearse
    from ops.migrations.rehearsal.text import as_text

    try:
        max_bytes = parse_bytes(max_size)
    except ValueError as error:
        raise OpsError(f"--max-size: {error}; use a size such as 500MB or 2GB", Exit.USAGE) from error
    limits = LockLimits(table_lock_seconds=lock_seconds, attempts=attempts)
    options = RehearsalOptions(
        callers, before_seconds, not schema_only, max_bytes, budget_ms, queries, ignore_missing, limits
    )
    with exit_codes():
        conninfo = migration_database(url, stack)
        done = rehearse(conninfo, read_migrations(folder), options)
    if as_json:
        print_json({"pending": []} if done is None else done.as_json())
    else:
        for line in ["nothing is pending"] if done is None else as_text(done):
            print_line(line)
    if done is not None and done.missed:
        sys.exit(Exit.MISMATCH)


def _target(url: str | None, stack: str, *, must_be_up: bool) -> str | None:
    try:
        return migration_database(url, stack)
    except OpsError as error:
        if must_be_up or error.exit_code != Exit.UNREACHABLE:
            raise
        print_line("no database is given and no stack is up; planning all files", err=True)
        return None
