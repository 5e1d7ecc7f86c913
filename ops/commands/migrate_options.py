"""What the commands of `groundwork migrate` share: their options, and the migrator's errors as exit codes."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from ops.commands.names import stack_option
from ops.errors import Exit, OpsError

_FOLDER = Path(__file__).parents[2] / "db" / "migrations"
folder_option = click.option(
    "--folder",
    type=click.Path(path_type=Path),
    default=_FOLDER,
    show_default="db/migrations",
    help="The folder of migrations.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
wait_option = click.option(
    "--wait",
    "wait_seconds",
    type=click.FloatRange(min=0),
    default=30.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait for another migrator.",
)
lock_timeout_option = click.option(
    "--lock-timeout",
    "lock_seconds",
    type=click.FloatRange(min=0.001),
    default=0.25,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait for a table before giving way; others wait behind it.",
)
attempts_option = click.option(
    "--attempts",
    type=click.IntRange(min=1),
    default=40,
    show_default=True,
    help="How often to try for a table that stays locked.",
)


def database_options(command: Callable[..., None]) -> Callable[..., None]:
    """The options by which a command finds its database and its migrations."""
    url = click.option("--url", help="The database; without it DATABASE_URL, or else the stack's.")
    stack = stack_option("The stack, where no URL is given.")
    return url(stack(folder_option(command)))


def confirm(question: str, *, yes: bool, unasked: str) -> None:
    """Go on if `yes`, or if the person at the terminal says so. OpsError (7) where there is nobody to ask."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise OpsError(f"{unasked}; say --yes to do it unasked", Exit.REFUSED)
    click.confirm(question, abort=True, err=True)


@contextmanager
def exit_codes() -> Iterator[None]:
    """The migrator's errors become OpsErrors with their documented exit codes."""
    from db import migrator

    codes: dict[type[Exception], Exit] = {
        migrator.LedgerMismatch: Exit.MISMATCH,
        migrator.LockHeld: Exit.LOCKED,
        migrator.Unreachable: Exit.UNREACHABLE,
        migrator.InvalidUrl: Exit.USAGE,
        migrator.WrongName: Exit.USAGE,
        migrator.PoolerRefused: Exit.REFUSED,
        migrator.PhaseOrder: Exit.REFUSED,
        migrator.Unproven: Exit.REFUSED,
    }
    try:
        yield
    except migrator.MigrationError as exc:
        code = next((code for kind, code in codes.items() if isinstance(exc, kind)), Exit.ERROR)
        raise OpsError(str(exc), code) from exc
