"""`groundwork env`: print a role's connection strings for programs and shells."""

from __future__ import annotations

import shlex

import click

from ops.commands.names import complete_roles, stack_option
from ops.output import print_exact, print_json


@click.command()
@click.option(
    "--role",
    default="app",
    show_default=True,
    shell_complete=complete_roles,
    help="Role: app, readonly, monitor, migrator or ops",
)
@stack_option("Stack to connect to")
@click.option(
    "--format",
    "style",
    default="dotenv",
    show_default=True,
    type=click.Choice(["dotenv", "json", "shell"]),
    help="Output format",
)
@click.option("--tokens", is_flag=True, help="Also print GROUNDWORK_TOKEN_KEYS (role app only)")
def env(role: str, stack: str, style: str, tokens: bool) -> None:
    """Print DATABASE_URL and REDIS_URL of a role

    A role that uses only one of the two servers gets only that server's URL.
    With replicas, DATABASE_URL and REDIS_URL list all servers.
    DATABASE_READ_URL leads to a replica of Postgres. DATABASE_PRIMARY_URL and
    REDIS_PRIMARY_URL are for clients that cannot use a list: they name the
    current primary, and are not valid after a failover.
    """
    from ops.errors import Exit, OpsError
    from ops.stack.connections import environment_of, primaries_of

    if tokens and role != "app":
        raise OpsError(f"role {role!r} has no token keys; use --tokens with role app", Exit.USAGE)
    values = environment_of(role, stack, tokens=tokens)
    values |= primaries_of(values, stack)
    if style == "json":
        print_json(values)
        return
    prefix = "export " if style == "shell" else ""
    for name, value in values.items():
        print_exact(f"{prefix}{name}={shlex.quote(value) if style == 'shell' else value}")
