"""`groundwork env`: connection strings of a role, for programs and shells."""

from __future__ import annotations

import json
import shlex

import click

from ops.commands.names import complete_roles, stack_option


@click.command()
@click.option(
    "--role",
    default="app",
    show_default=True,
    shell_complete=complete_roles,
    help="app, readonly, monitor, migrator or ops.",
)
@stack_option("The stack to ask.")
@click.option(
    "--format",
    "style",
    default="dotenv",
    show_default=True,
    type=click.Choice(["dotenv", "json", "shell"]),
    help="How to print them.",
)
@click.option(
    "--tokens", is_flag=True, help="GROUNDWORK_TOKEN_KEYS too, which opens users' tokens (role app)."
)
def env(role: str, stack: str, style: str, tokens: bool) -> None:
    """Print DATABASE_URL and REDIS_URL of a role; one that has only one of them prints that one."""
    from db.token_keys import VARIABLE
    from ops.connections import environment_of, token_keys_of
    from ops.errors import Exit, OpsError

    if tokens and role != "app":
        raise OpsError(f"role {role!r} has no business with tokens; --tokens is for role app", Exit.USAGE)
    values = environment_of(role, stack)
    if tokens:
        values[VARIABLE] = token_keys_of(stack)
    if style == "json":
        print(json.dumps(values, indent=2))
        return
    prefix = "export " if style == "shell" else ""
    for name, value in values.items():
        print(f"{prefix}{name}={shlex.quote(value) if style == 'shell' else value}")
