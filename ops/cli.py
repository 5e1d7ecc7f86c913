"""The `groundwork` command: runs subcommands, prints known errors as one line, and maps them to exit codes.

Subcommands are in ops/commands and are imported when they are called, so that `--help` does not import psycopg or
Pulumi.
"""

from __future__ import annotations

import errno
import logging
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import click

from infra.spec.checkout import Checkout, is_checkout
from infra.spec.errors import SettingError
from ops.commands.lazy_group import LazyGroup
from ops.errors import Exit, exit_code_of
from ops.file_errors import describe, named_file
from ops.output import FULL_DISK, NO_READER, print_line, print_message, protect_streams
from ops.termination import exit_code, terminable

COMMANDS: dict[str, tuple[str, str, str]] = {
    "up": ("ops.commands.stack", "up", "Create or update a stack"),
    "preview": ("ops.commands.stack", "preview", "Show what `up` would change"),
    "down": ("ops.commands.stack", "down", "Remove a stack; its data stays unless --volumes is given"),
    "adopt": ("ops.commands.adopt", "adopt", "Take over a stack whose state folder is lost"),
    "status": ("ops.commands.stack", "status", "Show containers with health, ports and memory"),
    "env": ("ops.commands.env", "env", "Print DATABASE_URL and REDIS_URL of a role"),
    "shellenv": ("ops.commands.shellenv", "shellenv", "Print POSIX export lines for plain `pulumi`"),
    "logs": ("ops.commands.container_tools", "logs", "Show the containers' logs"),
    "psql": ("ops.commands.container_tools", "psql", "Open psql on the stack's database"),
    "redis-cli": ("ops.commands.container_tools", "redis_cli", "Open redis-cli on the stack's Redis"),
    "cluster": ("ops.commands.cluster", "cluster", "Show and change the roles of replicas"),
    "chaos": ("ops.commands.chaos", "chaos", "Break a stack's servers under load, and report the result"),
    "migrate": ("ops.commands.migrate", "migrate", "Show, apply, revert, create and check migrations"),
    "new": ("ops.commands.new", "new", "Generate the code of a new entity"),
    "bootstrap": (
        "ops.commands.bootstrap",
        "bootstrap",
        "Create roles, database and schema of a managed Postgres",
    ),
    "backup": ("ops.commands.backup", "backup", "Take and list backups of Postgres"),
    "restore": ("ops.commands.backup", "restore", "Restore Postgres to a point in time"),
    "drill": ("ops.commands.backup", "drill", "Test a restore, and measure RTO and RPO"),
    "seed": ("ops.commands.seed", "seed", "Load generated sample data"),
    "import": ("ops.commands.import_", "import_", "Load external data sets (GitHub Archive)"),
    "cache": ("ops.commands.cache", "cache", "Inspect, flush and warm the cache"),
    "tokens": ("ops.commands.tokens", "tokens", "Rotate the keys of users' encrypted tokens"),
    "rotate": ("ops.commands.rotate", "rotate", "Rotate passwords and certificates without downtime"),
    "policy": (
        "ops.commands.policy",
        "policy",
        "Check a preview against AWS rules and data-loss guards",
    ),
    "sql": ("ops.commands.sql", "sql", "Check the named queries against the schema"),
    "test-servers": (
        "ops.commands.test_servers",
        "test_servers",
        "Run a program with temporary servers for its tests",
    ),
    "doctor": ("ops.commands.doctor", "doctor", "Check a stack's servers and advise on each finding"),
    "top": ("ops.commands.top", "top", "Watch a stack's sessions, locks, statements and hit rates"),
    "report": (
        "ops.commands.report",
        "report",
        "Plot a stack's servers, or comment on a pull request",
    ),
    "size": ("ops.commands.size", "size", "Estimate AWS classes, memory and storage for a load"),
    "serve": ("ops.commands.serve", "serve", "Run the access service"),
    "completion": (
        "ops.commands.completion",
        "completion",
        "Print a shell's completion script",
    ),
    "prune": ("ops.commands.prune", "prune", "Show unused images and tools; --yes deletes them"),
    "toolchain": (
        "ops.commands.toolchain",
        "toolchain",
        "Install the tools that groundwork needs besides Python",
    ),
}


@click.group(cls=LazyGroup, elsewhere=COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="groundwork")
def cli() -> None:
    """Provision and operate Postgres and Redis for an application"""


# A full or read-only disk is the machine's problem, not a bug in groundwork. An error of the output names no file.
_DISK = {*FULL_DISK, errno.EROFS, errno.EACCES}
_REFUSED = {errno.EROFS, errno.EACCES, errno.EPERM}
# Of these, a missing module is a bug.
_PACKAGES = {"ops", "infra", "db", "cache"}
_ROOT = Path(__file__).parents[1]


def main(argv: Sequence[str] | None = None) -> None:
    """Run a groundwork command and exit. Known errors are one line on stderr and a documented exit code."""
    # The cache contains programs that are run, so it must never be world-writable.
    os.umask(os.umask(0o022) | 0o002)
    _set_home()
    protect_streams()
    # Keeps log lines of pools and clients off stderr. `serve` configures its own logs.
    logging.getLogger().addHandler(logging.NullHandler())
    try:
        try:
            # In this mode click returns the code of ctx.exit() instead of raising.
            with terminable():
                code = cli.main(args=argv, standalone_mode=False)
        finally:
            # Flush here, so that a full disk is reported below even if the command fails.
            sys.stdout.flush()
        sys.exit(code if isinstance(code, int) else Exit.FINE)
    except click.exceptions.Exit as exit_:
        sys.exit(exit_.exit_code)
    except click.Abort as abort:
        # A command whose second call would not resume the first one says what to do instead.
        advice = str(abort) or "run the same command again to resume"
        # The terminal may be gone.
        with suppress(OSError):
            print_line(f"groundwork: interrupted; {advice}", err=True)
        sys.exit(exit_code(abort))
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package in _PACKAGES or not package:
            raise
        print_message(
            f"this command needs the Python package {package!r}, which is not installed; run it in a checkout of"
            " groundwork after `make .venv`"
        )
        sys.exit(Exit.ERROR)
    except OSError as error:
        if _is_of_checkout(error):
            print_message(
                f"this command needs a checkout of groundwork: there is no {error.filename}; run it in a checkout after"
                " `make .venv`"
            )
            sys.exit(Exit.ERROR)
        problem = _problem(error)
        if problem is None and error.errno not in NO_READER:
            raise
        _give_up_output()
        if problem is not None:
            print_line(f"groundwork: {problem}; {_remedy(error)} and run the same command again", err=True)
        sys.exit(exit_code(error, otherwise=Exit.ERROR))
    except Exception as error:
        code = exit_code_of(error)
        if code is None:
            raise
        print_message(str(error))
        sys.exit(code)


def _set_home() -> None:
    """Set HOME for the programs that are started, if it is missing, as in a systemd unit. Go would have no cache."""
    if not os.environ.get("HOME"):
        os.environ.pop("HOME", None)
        # A user that the system does not know: infra.spec.checkout reports it if the folder is needed.
        with suppress(RuntimeError):
            os.environ["HOME"] = str(Path.home())


def _is_of_checkout(error: OSError) -> bool:
    """Return whether a file is missing that only a checkout has, and this is an installed package."""
    return _is_own_missing(error) and not is_checkout()


def _is_own_missing(error: OSError) -> bool:
    """Return whether a file is missing in the folder of groundwork's own code."""
    file = named_file(error)
    return error.errno == errno.ENOENT and file is not None and file.is_relative_to(_ROOT)


def _problem(error: OSError) -> str | None:
    """Return what the machine refused, or None for an error that is not about a file, or is a bug in groundwork."""
    if _is_own_missing(error):
        return None
    if (file := named_file(error)) is not None:
        return describe(error, file)
    return f"cannot write a file or the output: {error.strerror}" if error.errno in _DISK else None


def _remedy(error: OSError) -> str:
    """Return what to do. A user without a home directory, as in a container, may write neither state nor cache."""
    file, variable = named_file(error), None
    if file is not None and error.errno in _REFUSED:
        with suppress(SettingError):
            variable = Checkout.here().variable_of(file)
    return f"set HOME or {variable} to a folder that you may write," if variable else "fix the cause"


def _give_up_output() -> None:
    """Discard unwritten output, so that the interpreter does not print a second error when it exits."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    main()
