"""`groundwork seed`: loads the sample data of db.seed as role app."""

from __future__ import annotations

import click

from ops.commands.names import stack_option
from ops.database_url import require_database, resolve_database_url


@click.command("seed")
@click.option("--url", help="The database; without it DATABASE_URL, or else the stack's.")
@stack_option("The stack, where no URL is given.")
def seed(url: str | None, stack: str) -> None:
    """Load sample data: made up, always the same; a second run changes nothing."""
    from db.seed import load_sample_data

    database = resolve_database_url(url, role="app", stack=stack)
    require_database(database)
    done = load_sample_data(database)
    click.echo(
        f"sample data (made up): {done.users} users, {done.organizations} organizations,"
        f" {done.repositories} repositories and {done.activities} activities inserted or changed"
    )
