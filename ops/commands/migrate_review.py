"""`groundwork migrate plan`, `verify`, `rehearse`: what migrations would do, and whether they did it.

They only read the database; the commands of ops.commands.migrate change it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click
from click.core import ParameterSource

from ops.commands.migrate_options import database_options, exit_codes
from ops.database_url import is_database_named, resolve_database_url
from ops.errors import Exit, OpsError


@click.command("verify")
@database_options
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
def verify_schema(url: str | None, stack: str, folder: Path, as_json: bool) -> None:
    """Find where the database is not what its migrations make; exit 4 where it is not.

    The applied migrations run on a throwaway server (Docker), and the two catalogs are compared.
    """
    from db.migrator import read_source
    from ops.migration_review.verification import verify

    with exit_codes():
        done = verify(resolve_database_url(url, role="migrator", stack=stack), read_source(folder))
    if done.state.pending:
        click.echo(f"{len(done.state.pending)} pending migrations are no part of this", err=True)
    if as_json:
        click.echo(json.dumps(done.as_json(), indent=2))
    else:
        for line in done.as_lines():
            click.echo(line)
    if done.drift:
        sys.exit(Exit.MISMATCH)


@click.command("plan")
@database_options
@click.option("--from-scratch", is_flag=True, help="Ask no database: plan all files, from an empty one.")
@click.option(
    "--above", type=int, metavar="VERSION", help="Ask no database: plan the files above this version."
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
@click.option("--markdown", is_flag=True, help="Print Markdown, for a comment on a pull request.")
@click.pass_context
def show_plan(
    context: click.Context,
    url: str | None,
    stack: str,
    folder: Path,
    from_scratch: bool,
    above: int | None,
    as_json: bool,
    markdown: bool,
) -> None:
    """Show what pending migrations would lock, rewrite and read through.

    They run on a throwaway server (Docker) that has what the database has; the database itself is only read.
    Where neither a database nor a stack is named and none is up, all files are planned, as with --from-scratch.
    """
    from db.migrator import read_source
    from ops.migration_review.plan import plan_from, plan_pending
    from ops.migration_review.plan_text import as_markdown, as_text

    if as_json and markdown:
        raise OpsError("--json and --markdown exclude one another", Exit.USAGE)
    with exit_codes():
        migrations = read_source(folder)
        target = None
        if not from_scratch and above is None:
            is_named = context.get_parameter_source("stack") is not ParameterSource.DEFAULT
            target = _target(url, stack, must_be_up=is_named)
        plan = plan_from(above or 0, migrations) if target is None else plan_pending(target, migrations)
    if as_json:
        click.echo(json.dumps(plan.as_json(), indent=2))
        return
    for line in as_markdown(plan) if markdown else as_text(plan):
        click.echo(line)


@click.command("rehearse")
@database_options
@click.option(
    "--budget-ms", type=float, help="Exit 4 if a query is blocked for longer, or fails as it did not before."
)
@click.option(
    "--callers", type=click.IntRange(1, 32), default=8, show_default=True, help="How many send queries."
)
@click.option(
    "--before",
    "before_seconds",
    type=click.FloatRange(0.5),
    default=5.0,
    show_default=True,
    metavar="SECONDS",
    help="How long the queries run before the migrations do.",
)
@click.option("--max-size", default="2GB", show_default=True, help="Copy no larger database than this.")
@click.option("--schema-only", is_flag=True, help="Copy no rows; the sample data stands for them.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
def rehearse_pending(
    url: str | None,
    stack: str,
    folder: Path,
    budget_ms: float | None,
    callers: int,
    before_seconds: float,
    max_size: str,
    schema_only: bool,
    as_json: bool,
) -> None:
    """Run what is pending on a copy of the database, under the application's queries.

    The copy is on a throwaway server (Docker) and is removed whatever happens. Reported are the time each query
    was blocked, errors with their SQLSTATE, and each migration's duration and longest wait for a lock.
    """
    from db.migrator import read_source
    from infra.spec.quantity import parse_bytes
    from infra.spec.world import World
    from ops.migration_review.database_copy import Source
    from ops.migration_review.rehearsal import Terms, rehearse
    from ops.migration_review.rehearsal_text import as_text

    try:
        max_bytes = parse_bytes(max_size)
    except ValueError as error:
        raise OpsError(f"--max-size: {error}; write it like 500MB or 2GB", Exit.USAGE) from error
    terms = Terms(callers, before_seconds, not schema_only, max_bytes, budget_ms)
    with exit_codes():
        conninfo = resolve_database_url(url, role="migrator", stack=stack)
        container = None if is_database_named(url) else World.here().name(stack, "postgres")
        done = rehearse(Source(conninfo, container), read_source(folder), terms)
    if as_json:
        click.echo(json.dumps({"pending": []} if done is None else done.as_json(), indent=2))
    else:
        for line in ["nothing is pending"] if done is None else as_text(done):
            click.echo(line)
    if done is not None and done.missed:
        sys.exit(Exit.MISMATCH)


def _target(url: str | None, stack: str, *, must_be_up: bool) -> str | None:
    try:
        return resolve_database_url(url, role="migrator", stack=stack)
    except OpsError as error:
        if must_be_up or error.exit_code != Exit.UNREACHABLE:
            raise
        click.echo("no database is named and no stack is up: planning all files", err=True)
        return None
