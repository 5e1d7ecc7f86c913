"""Options and exit codes of all commands that run the migrator, also in the access image.

That image does not contain the settings and the stacks, which ops.commands.migrate_options needs.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import click

from ops.errors import OpsError, exit_code_of
from ops.number_range import seconds
from ops.output import print_line

_FOLDER = Path(__file__).parents[2] / "db" / "migrations"
folder_option = click.option(
    "--folder",
    type=click.Path(path_type=Path),
    default=_FOLDER,
    show_default="db/migrations",
    help="Folder with the migrations",
)
wait_option = click.option(
    "--wait",
    "wait_seconds",
    type=seconds(),
    default=30.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait for another migrator",
)


@contextmanager
def exit_codes() -> Iterator[None]:
    """Raise the migrator's errors as OpsErrors with their documented exit codes. Print what a connection waits for."""
    from db import migrator
    from db.migrator.connection import reporting_waits

    try:
        with reporting_waits(partial(print_line, err=True)):
            yield
    except migrator.MigrationError as exc:
        raise OpsError(str(exc), exit_code_of(exc)) from exc
