"""`groundwork migrate plan`, `verify`, `rehearse`: what migrations would do, and whether they did it.

Added here to the group of ops.commands.migrate, whose own commands change the database; these only read it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from ops.commands.migrate import _exit_codes as exit_codes
from ops.commands.migrate import database_options, migrate
from ops.database_url import resolve_database_url
from ops.errors import Exit

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
