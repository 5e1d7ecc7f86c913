"""`groundwork seed`: load the sample data of db.seed with role app."""

from __future__ import annotations

import click

from ops.commands.names import stack_option
from ops.output import print_line
from ops.stack.database_url import database_to_change, require_database


@click.command("seed")
@click.option("--url", help="Database URL [default: DATABASE_URL, then the stack's]")
@stack_option("Stack to use if no URL is given")
def seed(url: str | None, stack: str) -> None:
    """Load generated sample data

    The data is the same on every run. Idempotent: a second run changes nothing.
    """
    from db.seed import load_sample_data

    database = database_to_change(url, role="app", stack=stack)
    require_database(database)
    done = load_sample_data(database)
    *tables, last = (f"{count} {table}" for table, count in done.items()) if done else ["no rows"]
    counts = f"{', '.join(tables)} and {last}" if tables else last
    print_line(f"sample data (generated): {counts} inserted or changed")
