"""Shared parts of the `groundwork migrate` commands: options, settings, the database, and confirmation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from infra.spec.checkout import is_checkout
from ops.commands.migrator_options import folder_option, wait_option
from ops.commands.names import stack_option
from ops.consent import ask
from ops.errors import Exit, OpsError
from ops.migrations.settings import MigrateSettings, find_settings
from ops.number_range import IntegerRange, seconds
from ops.output import print_line

if TYPE_CHECKING:
    from db.migrator import Migration
    from ops.stack.database_url import SelectedDatabase

# The default of sqlx-cli.
_FOREIGN_FOLDER = "migrations"
ignore_missing_option = click.option(
    "--ignore-missing/--no-ignore-missing",
    help="Ignore applied migrations that have no file",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print a JSON object")
_lock_timeout_option = click.option(
    "--lock-timeout",
    "lock_seconds",
    type=seconds(0.001),
    default=0.25,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait for a table lock; queries queue behind it",
)
_attempts_option = click.option(
    "--attempts",
    type=IntegerRange(min=1),
    default=40,
    show_default=True,
    help="How many times to try to lock a table",
)


url_option = click.option("--url", help="Database URL [default: DATABASE_URL, then the stack's]")


def database_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that select a command's database and its migrations."""
    stack = stack_option("Stack to use if no URL is given")
    return url_option(stack(folder_option(command)))


def lock_limit_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that limit how long a command waits for other migrators and for table locks."""
    return wait_option(table_lock_options(command))


def table_lock_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that limit how long a command waits for table locks."""
    return _lock_timeout_option(_attempts_option(command))


def load_settings(context: click.Context) -> None:
    """Read the files of settings, and make them the defaults of the options of `migrate`'s commands."""
    try:
        here = Path.cwd()
    except FileNotFoundError:
        raise OpsError("the current folder was deleted; change to another folder", Exit.USAGE) from None
    settings = find_settings(here)
    context.obj = settings
    folder = settings.folder
    if folder is None and _is_foreign(settings):
        folder = (settings.root or here) / _FOREIGN_FOLDER
    given = {
        "folder": folder,
        "ignore_missing": settings.ignore_missing,
        "wait_seconds": settings.wait,
        "lock_seconds": settings.lock_timeout,
        "attempts": settings.attempts,
    }
    defaults = {name: value for name, value in given.items() if value is not None}
    assert isinstance(context.command, click.Group)
    context.default_map = dict.fromkeys(context.command.list_commands(context), defaults)


def migrate_settings() -> MigrateSettings:
    """Return the settings of the running `migrate` command."""
    found = click.get_current_context().find_object(MigrateSettings)
    return MigrateSettings() if found is None else found


def refuse_foreign(command: str) -> None:
    """Raise OpsError (2) for another project's migrations, in a command that only works on a stack."""
    settings = migrate_settings()
    if _is_foreign(settings):
        where = (
            f"{settings.root} has settings of another project"
            if settings.root
            else "groundwork is only installed"
        )
        raise OpsError(
            f"`migrate {command}` works on a stack of groundwork's checkout, but {where}; run it in the checkout",
            Exit.USAGE,
        )


def read_migrations(folder: Path, *, skips_bad_files: bool = False) -> tuple[Migration, ...]:
    """Return the migrations of a folder, with the checksums of the settings. Print which files are ignored."""
    from db.migrator import read_source

    return read_source(
        folder,
        migrate_settings().ignored_chars,
        skips_bad_files=skips_bad_files,
        warn=lambda message: print_line(f"warning: {message}", err=True),
    )


def migration_database(url: str | None, stack: str) -> str:
    """Return the connection string of --url, the variable, .env or the stack, with the settings' schema and ledger."""
    return _with_session(_selected(url, stack))


def migration_database_to_change(url: str | None, stack: str) -> str:
    """Return the connection string of migration_database. Print which database a command is going to change."""
    selected = _selected(url, stack)
    print_line(f"database: {selected}", err=True)
    return _with_session(selected)


def _selected(url: str | None, stack: str) -> SelectedDatabase:
    from ops.stack.database_url import select_database

    settings = migrate_settings()
    return select_database(
        url,
        role="migrator",
        stack=stack,
        variable_name=settings.url_variable,
        dotenv_from=Path.cwd() if _is_foreign(settings) else None,
    )


def _with_session(selected: SelectedDatabase) -> str:
    import psycopg

    from db.migrator.url import with_session

    try:
        return with_session(selected.url, migrate_settings().session)
    except psycopg.ProgrammingError:
        # The connection fails with a message of its own, without the password.
        return selected.url


def _is_foreign(settings: MigrateSettings) -> bool:
    """Return whether the migrations are another project's: it has settings, or groundwork is only installed."""
    return settings.root is not None or not is_checkout()


def confirm(question: str, *, yes: bool, unasked: str) -> None:
    """Return if `yes` or the user confirms. Raise OpsError (7) without a terminal; `unasked` says what was refused."""
    ask(question, yes=yes, refusal=f"{unasked}; pass --yes to skip the question")
