"""The `groundwork` command: finds a subcommand, prints known errors as one line, maps them to exit codes.

Subcommands live in ops/commands, one noun a file, and are imported when they are called: `--help` must
not pay for psycopg or Pulumi.
"""

from __future__ import annotations

import errno
import logging
import os
import sys
from collections.abc import Sequence

import click

from ops.commands.lazy_group import LazyGroup
from ops.errors import Exit

COMMANDS: dict[str, tuple[str, str, str]] = {
    "up": ("ops.commands.stack", "up", "Bring a stack up, or up to date"),
    "preview": ("ops.commands.stack", "preview", "Show what `up` would change"),
    "down": ("ops.commands.stack", "down", "Take a stack down; the data stays unless --volumes"),
    "status": ("ops.commands.stack", "status", "Show what runs and where"),
    "env": ("ops.commands.env", "env", "Print DATABASE_URL and REDIS_URL of a role"),
    "shellenv": ("ops.commands.shellenv", "shellenv", "Print export lines for plain pulumi"),
    "logs": ("ops.commands.handles", "logs", "Show the containers' logs"),
    "psql": ("ops.commands.handles", "psql", "Open psql on the stack's database"),
    "redis-cli": ("ops.commands.handles", "redis_cli", "Open redis-cli on the stack's Redis"),
    "migrate": ("ops.commands.migrate", "migrate", "Show, review, apply and revert migrations"),
    "bootstrap": (
        "ops.commands.bootstrap",
        "bootstrap",
        "Make roles and schema as a managed server's administrator",
    ),
    "backup": ("ops.commands.backup", "backup", "Take and list backups of Postgres"),
    "restore": ("ops.commands.backup", "restore", "Restore Postgres to a moment"),
    "drill": ("ops.commands.backup", "drill", "Show that a restore would work, and how fast"),
    "seed": ("ops.commands.seed", "seed", "Load made-up sample data"),
    "import": ("ops.commands.import_", "import_", "Load data of others: GitHub Archive"),
    "cache": ("ops.commands.cache", "cache", "Look into the cache, flush it, warm it"),
    "tokens": ("ops.commands.tokens", "tokens", "Rotate the keys of users' encrypted tokens"),
    "rotate": ("ops.commands.rotate", "rotate", "Rotate passwords and certificates, and tell their ages"),
    "policy": ("ops.commands.policy", "policy", "Judge a preview: rules on AWS, and the loss of data"),
    "sql": ("ops.commands.sql", "sql", "Hold the named queries against the schema"),
    "doctor": ("ops.commands.doctor", "doctor", "Check a stack's servers, and say what to do"),
    "report": (
        "ops.commands.report",
        "report",
        "Draw a stack's servers as a page, or comment on a pull request",
    ),
    "serve": ("ops.commands.serve", "serve", "Run the access service"),
    "completion": (
        "ops.commands.completion",
        "completion",
        "Print the script by which a shell completes commands",
    ),
    "toolchain": ("ops.commands.toolchain", "toolchain", "Put in place what groundwork needs beside Python"),
}


@click.group(cls=LazyGroup, elsewhere=COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="groundwork")
def cli() -> None:
    """Lay and keep the data ground: Postgres 15, Redis 7, schema and access."""


def exit_code_of(error: BaseException) -> Exit | None:
    """The exit code of a known error, None for one that deserves its traceback."""
    code = getattr(error, "exit_code", None)
    if isinstance(code, int) and not isinstance(error, SystemExit):
        return Exit(code)
    names = {f"{t.__module__}.{t.__qualname__}" for t in type(error).__mro__}
    if names & {
        "infra.spec.errors.SettingError",
        "db.errors.InvalidSetting",
        "db.migrator.errors.InvalidUrl",
        "db.migrator.errors.WrongName",
        "cache.errors.CacheSettingError",
    }:
        return Exit.USAGE
    if names & {"db.errors.Unavailable", "db.migrator.errors.Unreachable", "cache.errors.CacheUnavailable"}:
        return Exit.UNREACHABLE
    if names & {
        "infra.spec.errors.InfraError",
        "db.errors.DbError",
        "cache.errors.CacheError",
    }:
        return Exit.ERROR
    return None


# A full or forbidden disk is no defect of ours, wherever it is met.
_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES}


def main(argv: Sequence[str] | None = None) -> None:
    """Run a groundwork command and exit: known errors are one line on stderr and a documented code."""
    # What pools and clients log on the way would stand on stderr beside the one line; `serve` has logs of its own.
    logging.getLogger().addHandler(logging.NullHandler())
    try:
        try:
            # In this mode click returns the code of ctx.exit() instead of raising.
            code = cli.main(args=argv, standalone_mode=False)
        finally:
            # What finds no room is to be told here, whatever the command ends with.
            sys.stdout.flush()
        sys.exit(code if isinstance(code, int) else Exit.FINE)
    except click.exceptions.Exit as exit_:
        sys.exit(exit_.exit_code)
    except click.Abort:
        print("groundwork: stopped; run the same command again to go on", file=sys.stderr)
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except OSError as error:
        if error.errno not in {*_DISK, errno.EPIPE}:
            raise
        _give_up_output()
        if error.errno != errno.EPIPE:
            where = f" ({error.filename})" if error.filename else ""
            print(
                f"groundwork: a file or the output cannot be written: {error.strerror}{where}; mend that, and run the"
                " same command again",
                file=sys.stderr,
            )
        sys.exit(Exit.ERROR)
    except Exception as error:
        code = exit_code_of(error)
        if code is None:
            raise
        print(f"groundwork: {error}", file=sys.stderr)
        sys.exit(code)


def _give_up_output() -> None:
    """What cannot be printed is not tried again at the interpreter's end, which would complain in words of its own."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    main()
