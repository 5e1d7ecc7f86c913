"""Shared parts of the `groundwork migrate` commands: options, confirmation, and exit codes of migrator errors."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from ops.commands.names import stack_option
from ops.errors import Exit, OpsError, exit_code_of

_FOLDER = Path(__file__).parents[2] / "db" / "migrations"
folder_option = click.option(
    "--folder",
    type=click.Path(path_type=Path),
    default=_FOLDER,
    show_default="db/migrations",
    help="Folder with the migrations",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print a JSON object")
wait_option = click.option(
    "--wait",
    "wait_seconds",
    type=click.FloatRange(min=0),
    default=30.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait for another migrator",
)
_lock_timeout_option = click.option(
    "--lock-timeout",
    "lock_seconds",
    type=click.FloatRange(min=0.001),
    default=0.25,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait for a table lock; queries queue behind it",
)
_attempts_option = click.option(
    "--attempts",
    type=click.IntRange(min=1),
    default=40,
    show_default=True,
    help="How many times to try to lock a table",
)


def database_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that select a command's database and its migrations."""
    url = click.option("--url", help="Database URL [default: DATABASE_URL, then the stack's]")
    stack = stack_option("Stack to use if no URL is given")
    return url(stack(folder_option(command)))


def lock_limit_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that limit how long a command waits for other migrators and for table locks."""
    return wait_option(_lock_timeout_option(_attempts_option(command)))


def confirm(question: str, *, yes: bool, unasked: str) -> None:
    """Return if `yes` or the user confirms. Raise OpsError (7) without a terminal; `unasked` says what was refused."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise OpsError(f"{unasked}; pass --yes to skip the question", Exit.REFUSED)
    click.confirm(question, abort=True, err=True)


@contextmanager
def exit_codes() -> Iterator[None]:
    """Raise the migrator's errors as OpsErrors with their documented exit codes."""
    from db import migrator

    try:
        yield
    except migrator.MigrationError as exc:
        raise OpsError(str(exc), exit_code_of(exc)) from exc
