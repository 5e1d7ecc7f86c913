"""`groundwork migrate plan`, `verify`, `rehearse`: what migrations would do, and whether they did it.

Added here to the group of ops.commands.migrate, whose own commands change the database; these only read it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click
from click.core import ParameterSource

from ops.commands.migrate import _exit_codes as exit_codes
from ops.commands.migrate import database_options, migrate
from ops.database_url import resolve_database_url
from ops.errors import Exit, OpsError

__all__ = ["migrate"]


@migrate.command("verify")
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


@migrate.command("plan")
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


def _target(url: str | None, stack: str, *, must_be_up: bool) -> str | None:
    try:
        return resolve_database_url(url, role="migrator", stack=stack)
    except OpsError as error:
        if must_be_up or error.exit_code != Exit.UNREACHABLE:
            raise
        click.echo("no database is named and no stack is up: planning all files", err=True)
        return None
