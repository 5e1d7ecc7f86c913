"""`groundwork logs`, `psql` and `redis-cli`: run the usual tools in the stack's containers."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

import click

from infra.spec.roles import DATABASE, SCHEMA
from ops.commands.names import complete_roles, stack_option
from ops.output import print_line, relay_lines

_stack = stack_option()
_PASS_ON = {"ignore_unknown_options": True, "allow_interspersed_args": False}


@click.command()
@_stack
@click.option(
    "--service",
    default=None,
    help="postgres, redis, access or a monitoring service [default: all]",
)
@click.option("--follow", "-f", is_flag=True, help="Keep printing new lines")
@click.option("--tail", default=50, show_default=True, help="Number of last lines to show per container")
def logs(stack: str, service: str | None, follow: bool, tail: int) -> None:
    """Show the containers' logs"""
    from ops.errors import Exit, OpsError
    from ops.stack.stack_status import ALL_SERVICES, SERVICES

    if service is not None and service not in ALL_SERVICES:
        raise OpsError(f"unknown service {service!r}; choose one of {', '.join(ALL_SERVICES)}", Exit.USAGE)
    if follow and service is None:
        raise OpsError("--follow needs --service", Exit.USAGE)
    containers = {row["service"]: row["container"] for row in _rows(stack)}
    if service is not None and service not in containers:
        how = "" if service in SERVICES else "set groundwork:monitoring and "
        raise OpsError(
            f"stack {stack!r} has no container for {service}; {how}run `groundwork up --stack {stack}`",
            Exit.UNREACHABLE,
        )
    for what in [service] if service else containers:
        command = ["docker", "logs", "--tail", str(tail), containers[what]]
        if follow:
            _show_lines([*command, "--follow"])
            return
        print_line(f"== {what}")
        _show_lines(command)


@click.command(context_settings=_PASS_ON)
@_stack
@click.option(
    "--role",
    default="superuser",
    show_default=True,
    shell_complete=complete_roles,
    help="superuser (local socket), app, readonly, monitor or migrator",
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def psql(stack: str, role: str, arguments: Sequence[str]) -> None:
    """Open psql on the stack's database

    Further arguments go to psql.
    """
    container = _running(stack, "postgres")
    command = ["docker", "exec", "--interactive", *_terminal()]
    if role == "superuser":
        # The other roles have search_path as a role setting. The superuser's other sessions must not search this
        # schema, because the schema's owner could add functions to it.
        path = f"PGOPTIONS=-c search_path={SCHEMA}"
        _become([*command, "--env", path, container, "psql", f"--dbname={DATABASE}", *arguments])
    from ops.stack.connections import database_url

    # The URL is for clients on this machine. Inside the container, psql uses a host name of the certificate.
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
    "--role", default="ops", show_default=True, shell_complete=complete_roles, help="app, ops or monitor"
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def redis_cli(stack: str, role: str, arguments: Sequence[str]) -> None:
    """Open redis-cli on the stack's Redis

    Further arguments go to redis-cli.
    """
    from urllib.parse import unquote, urlsplit

    from ops.errors import Exit, OpsError
    from ops.stack.connections import environment_of

    container = _running(stack, "redis")
    url = environment_of(role, stack).get("REDIS_URL")
    if url is None:
        raise OpsError(f"role {role!r} has no Redis user; use app, ops or monitor", Exit.USAGE)
    # Passed through the environment, so that the password does not show in the process list.
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
    """Return the stack's containers, running or not. Raise OpsError: 6 without any, 2 for an unknown stack."""
    from infra.spec.checkout import Checkout
    from ops.errors import Exit, OpsError
    from ops.stack.pulumi_stack import PulumiStack
    from ops.stack.stack_status import container_rows

    rows = container_rows(Checkout.here(), stack)
    if not rows:
        PulumiStack(Checkout.here(), stack).require_known()
        raise OpsError(
            f"stack {stack!r} has no containers; run `groundwork up --stack {stack}`", Exit.UNREACHABLE
        )
    return rows


def _running(stack: str, service: str) -> str:
    """Return the name of a service's container. Raise OpsError (6) if it does not run; other containers may be down."""
    from ops.errors import Exit, OpsError

    found = {row["service"]: row for row in _rows(stack)}
    if service not in found:
        raise OpsError(
            f"stack {stack!r} has no container for {service}; run `groundwork up --stack {stack}`",
            Exit.UNREACHABLE,
        )
    row = found[service]
    if not row["isRunning"]:
        raise OpsError(
            f"container {row['container']} is {row['health']}; start it with `docker start {row['container']}`,"
            f" or see why it stopped with `groundwork logs --stack {stack} --service {service}`",
            Exit.UNREACHABLE,
        )
    return str(row["container"])


def _show_lines(command: list[str]) -> None:
    """Run a command and print its output line by line. Logs quote what strangers sent before they logged in."""
    import signal
    import subprocess

    # The command must not outlive this process.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        assert process.stdout is not None
        try:
            relay_lines(process.stdout)
        except KeyboardInterrupt:
            # The way to end --follow. There is nothing to resume.
            sys.exit(130)
        finally:
            process.terminate()


def _become(command: list[str]) -> NoReturn:
    sys.stdout.flush()
    os.execvp(command[0], command)
