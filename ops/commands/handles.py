"""`groundwork logs`, `psql`, `redis-cli`: the tools people reach for, on the stack's own containers."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

import click

from ops.commands.names import complete_roles, stack_option

_stack = stack_option()
_PASS_ON = {"ignore_unknown_options": True, "allow_interspersed_args": False}


@click.command()
@_stack
@click.option(
    "--service",
    default=None,
    help="postgres, redis, access, or with monitoring postgres-exporter, redis-exporter, prometheus; all by default.",
)
@click.option("--follow", "-f", is_flag=True, help="Go on as lines come.")
@click.option("--tail", default=50, show_default=True, help="Lines a container, from the end.")
def logs(stack: str, service: str | None, follow: bool, tail: int) -> None:
    """Show the containers' logs."""
    import subprocess

    from ops.errors import Exit, OpsError
    from ops.stack_status import ALL_SERVICES, SERVICES

    if service is not None and service not in ALL_SERVICES:
        raise OpsError(f"there is no service {service!r}; there are: {', '.join(ALL_SERVICES)}", Exit.USAGE)
    if follow and service is None:
        raise OpsError("--follow goes with --service", Exit.USAGE)
    containers = {row["service"]: row["container"] for row in _rows(stack)}
    if service is not None and service not in containers:
        how = "run `make up`" if service in SERVICES else "set groundwork:monitoring and run `make up`"
        raise OpsError(f"stack {stack!r} has no container for {service}; {how}", Exit.UNREACHABLE)
    for what in [service] if service else containers:
        command = ["docker", "logs", "--tail", str(tail), containers[what]]
        if follow:
            _become([*command[:2], "--follow", *command[2:]])
        print(f"== {what}", flush=True)
        subprocess.run(command, stderr=subprocess.STDOUT, check=False)


@click.command(context_settings=_PASS_ON)
@_stack
@click.option(
    "--role",
    default="superuser",
    show_default=True,
    shell_complete=complete_roles,
    help="superuser (local socket), or app, readonly, monitor, migrator over TLS.",
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def psql(stack: str, role: str, arguments: Sequence[str]) -> None:
    """Open psql on the stack's database; more arguments go to psql."""
    container = _running(stack, "postgres")
    command = ["docker", "exec", "--interactive", *_terminal()]
    if role == "superuser":
        _become([*command, container, "psql", "--dbname=groundwork", *arguments])
    from ops.connections import database_url

    # The URL is for this machine; inside the container the server is itself, under a name it certifies.
    url = database_url(role=role, stack=stack)
    inside, _, _ = url.partition("?")
    head, _, database = inside.rpartition("/")
    credentials, _, _ = head.rpartition("@")
    password = credentials.rpartition(":")[2]
    login = credentials.removeprefix("postgresql://").partition(":")[0]
    os.environ["PGPASSWORD"] = password
    conninfo = (
        f"host=postgres dbname={database} user={login} sslmode=verify-full sslrootcert=/etc/groundwork/ca.crt"
    )
    _become([*command, "--env", "PGPASSWORD", container, "psql", conninfo, *arguments])


@click.command("redis-cli", context_settings=_PASS_ON)
@_stack
@click.option(
    "--role", default="ops", show_default=True, shell_complete=complete_roles, help="app, ops or monitor."
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def redis_cli(stack: str, role: str, arguments: Sequence[str]) -> None:
    """Open redis-cli on the stack's Redis; more arguments go to redis-cli."""
    from urllib.parse import unquote, urlsplit

    from ops.connections import environment_of
    from ops.errors import Exit, OpsError

    container = _running(stack, "redis")
    url = environment_of(role, stack).get("REDIS_URL")
    if url is None:
        raise OpsError(f"role {role!r} has no user in Redis", Exit.USAGE)
    # By environment variable, without its value on the command line.
    os.environ["REDISCLI_AUTH"] = unquote(urlsplit(url).password or "")
    _become(
        [
            *("docker", "exec", "--interactive", *_terminal(), "--env", "REDISCLI_AUTH", container),
            *("redis-cli", "-h", "localhost", "-p", "6379", "--tls", "--cacert", "/etc/groundwork/ca.crt"),
            *("--user", role, *arguments),
        ]
    )


def _terminal() -> list[str]:
    return ["--tty"] if sys.stdin.isatty() and sys.stdout.isatty() else []


def _rows(stack: str) -> list[dict[str, Any]]:
    """The stack's containers, running or not. OpsError (6) where there is none, (2) for an unknown stack."""
    from infra.spec.world import World
    from ops.errors import Exit, OpsError
    from ops.pulumi_stack import PulumiStack
    from ops.stack_status import container_rows

    rows = container_rows(World.here(), stack)
    if not rows:
        PulumiStack(World.here(), stack).require_known()
        raise OpsError(f"stack {stack!r} has no container; run `make up`", Exit.UNREACHABLE)
    return rows


def _running(stack: str, service: str) -> str:
    """The name of a service's container, whatever the others do. OpsError (6) where it does not run."""
    from ops.errors import Exit, OpsError

    found = {row["service"]: row for row in _rows(stack)}
    if service not in found:
        raise OpsError(f"stack {stack!r} has no container for {service}; run `make up`", Exit.UNREACHABLE)
    row = found[service]
    if not row["isRunning"]:
        raise OpsError(
            f"container {row['container']} is {row['health']}; `docker start {row['container']}` starts it,"
            f" `groundwork logs --stack {stack} --service {service}` says why it ended",
            Exit.UNREACHABLE,
        )
    return str(row["container"])


def _become(command: list[str]) -> NoReturn:
    sys.stdout.flush()
    os.execvp(command[0], command)
