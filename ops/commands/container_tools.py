"""`groundwork logs`, `psql` and `redis-cli`: run the usual tools in the stack's containers."""

from __future__ import annotations

import getopt
import os
import stat
import sys
import tempfile
from collections.abc import Sequence
from typing import IO, Any, NoReturn

import click

from infra.spec.roles import DATABASE, SCHEMA
from ops.commands.names import complete_roles, stack_option
from ops.number_range import IntegerRange
from ops.output import print_line, print_message, relay_lines
from ops.termination import exit_code

_stack = stack_option()
# psql's options (src/bin/psql/startup.c), and those with which it does not read commands from standard input.
_PSQL_SHORT = "aAbc:d:eEf:F:h:HlL:no:p:P:qR:sStT:U:v:VwWxXz0?1"
_PSQL_LONG = [
    *("echo-all", "no-align", "echo-errors", "command=", "dbname=", "echo-queries", "echo-hidden", "file="),
    *("field-separator=", "host=", "html", "list", "log-file=", "no-readline", "output=", "port=", "pset="),
    *("quiet", "record-separator=", "single-step", "single-line", "tuples-only", "table-attr=", "username="),
    *("set=", "variable=", "version", "no-password", "password", "expanded", "no-psqlrc", "help", "csv"),
    *("field-separator-zero", "record-separator-zero", "single-transaction"),
]
_PSQL_ACTIONS = {"-c", "--command", "-f", "--file", "-l", "--list", "-V", "--version", "-?", "--help"}
_PASS_ON = {"ignore_unknown_options": True, "allow_interspersed_args": False}


@click.command()
@_stack
@click.option(
    "--service",
    default=None,
    help="postgres, redis, access, or one of monitoring or of replicas [default: all]",
)
@click.option("--follow", "-f", is_flag=True, help="Keep printing new lines")
@click.option(
    "--tail",
    type=IntegerRange(min=0),
    default=50,
    show_default=True,
    help="Number of last lines to show per container",
)
def logs(stack: str, service: str | None, follow: bool, tail: int) -> None:
    """Show the containers' logs"""
    from ops.errors import Exit, OpsError
    from ops.stack.stack_status import ALL_SERVICES, CLUSTER_SERVICES, REDIS_SERVICES, SERVICES

    if service is not None and service not in ALL_SERVICES:
        raise OpsError(f"unknown service {service!r}; choose one of {', '.join(ALL_SERVICES)}", Exit.USAGE)
    if follow and service is None:
        raise OpsError("--follow needs --service", Exit.USAGE)
    containers = {row["service"]: row["container"] for row in _rows(stack)}
    if service is not None and service not in containers:
        settings = {"postgresReplicas": CLUSTER_SERVICES, "redisReplicas": REDIS_SERVICES}
        setting = next((name for name, services in settings.items() if service in services), "monitoring")
        how = "" if service in SERVICES else f"set groundwork:{setting} and "
        raise OpsError(
            f"stack {stack!r} has no container for {service}; {how}run `groundwork up --stack {stack}`",
            Exit.UNREACHABLE,
        )
    for what in [service] if service else containers:
        command = ["docker", "logs", "--tail", str(tail), containers[what]]
        if follow:
            _show_lines([*command, "--follow"], stack)
            return
        print_line(f"== {what}")
        _show_lines(command, stack)


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

    Further arguments go to psql. Input with a NUL byte is refused before anything runs.
    """
    container = _primary(stack)
    if _reads_commands(arguments):
        _check_input()
    command = ["docker", "exec", "--interactive", *_terminal()]
    if role == "superuser":
        # The other roles have search_path as a role setting. The superuser's other sessions must not search this
        # schema, because the schema's owner could add functions to it.
        path = f"PGOPTIONS=-c search_path={SCHEMA}"
        _run_psql([*command, "--env", path, container, "psql", f"--dbname={DATABASE}", *arguments], container)
    from ops.stack.connections import database_url

    url = database_url(role=role, stack=stack)
    inside, _, _ = url.partition("?")
    head, _, database = inside.rpartition("/")
    credentials, _, _ = head.rpartition("@")
    password = credentials.rpartition(":")[2]
    login = credentials.removeprefix("postgresql://").partition(":")[0]
    os.environ["PGPASSWORD"] = password
    # The URL is for clients on this machine. Inside the container, psql uses a host name of every server's certificate.
    conninfo = f"host=localhost dbname={database} user={login} sslmode=verify-full sslrootcert=/etc/groundwork/ca.crt"
    _run_psql([*command, "--env", "PGPASSWORD", container, "psql", conninfo, *arguments], container)


@click.command("redis-cli", context_settings=_PASS_ON)
@_stack
@click.option(
    "--role", default="ops", show_default=True, shell_complete=complete_roles, help="app, ops or monitor"
)
@click.option(
    "--service", default=None, help="With replicas: redis, redis-2 or redis-3 [default: the primary]"
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def redis_cli(stack: str, role: str, service: str | None, arguments: Sequence[str]) -> None:
    """Open redis-cli on the stack's Redis

    With replicas, connects to the current primary, or to --service. Further arguments go to redis-cli.
    """
    from urllib.parse import unquote, urlsplit

    from infra.outputs import server_urls
    from infra.spec.redis_replication import SERVER_NAMES
    from ops.errors import Exit, OpsError
    from ops.servers.redis_primary import primary_url
    from ops.stack.connections import environment_of

    if service is not None and service not in SERVER_NAMES:
        raise OpsError(f"unknown server {service!r}; choose one of {', '.join(SERVER_NAMES)}", Exit.USAGE)
    _rows(stack)
    url = environment_of(role, stack).get("REDIS_URL")
    if url is None:
        raise OpsError(f"role {role!r} has no Redis user; use app, ops or monitor", Exit.USAGE)
    if service is None:
        servers = server_urls(url)
        primary = servers.index(primary_url(url, stack)) if len(servers) > 1 else 0
        service = SERVER_NAMES[primary]
    container = _running(stack, service)
    # Passed through the environment, so that the password does not show in the process list.
    os.environ["REDISCLI_AUTH"] = unquote(urlsplit(url).password or "")
    _become(
        [
            *("docker", "exec", "--interactive", *_terminal(), "--env", "REDISCLI_AUTH", container),
            *("redis-cli", "-h", "localhost", "-p", "6379", "--tls", "--cacert", "/etc/groundwork/ca.crt"),
            *("--user", role, *arguments),
        ]
    )


def _run_psql(command: list[str], container: str) -> NoReturn:
    """Run psql by this `docker exec`, and exit with its code. If this process is stopped, end the session first.

    At a terminal, Ctrl-C reaches psql. Otherwise a stopped `docker exec` leaves psql running, and its statement would
    take effect although the command was stopped.
    """
    if "--tty" in command:
        _become(command)
    import subprocess
    import uuid

    name = f"groundwork psql {uuid.uuid4().hex[:12]}"
    sys.stdout.flush()
    with subprocess.Popen([*command[:2], "--env", f"PGAPPNAME={name}", *command[2:]]) as process:
        try:
            code = process.wait()
        except BaseException as stop:
            process.kill()
            _end_session(container, name)
            if isinstance(stop, KeyboardInterrupt):
                raise click.Abort("the session was ended, and its unfinished statement rolled back") from None
            raise
    sys.exit(code if code >= 0 else 128 - code)


def _end_session(container: str, name: str) -> None:
    """End the database session with this application_name, also one that only now connects."""
    from infra.docker.engine import DockerError
    from infra.docker.engine import psql as run_sql

    try:
        run_sql(
            container,
            f"""DO $$ BEGIN FOR _ IN 1..20 LOOP
                PERFORM pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = '{name}';
                PERFORM pg_stat_clear_snapshot(), pg_sleep(0.1);
            END LOOP; END $$""",
            timeout_seconds=30,
        )
    except DockerError as error:
        print_message(f"psql's session may still be running: {error}")


def _reads_commands(arguments: Sequence[str]) -> bool:
    """Return whether psql reads its commands from standard input. With -c, the input may be a table's data."""
    try:
        given, _ = getopt.gnu_getopt(list(arguments), _PSQL_SHORT, _PSQL_LONG)
    except getopt.GetoptError:
        # psql refuses it.
        return False
    actions = [(name, value) for name, value in given if name in _PSQL_ACTIONS]
    return not actions or any(action in (("-f", "-"), ("--file", "-")) for action in actions)


def _check_input() -> None:
    """Raise OpsError if standard input has a NUL byte, at which psql cuts a line off. A terminal is not read."""
    from ops.errors import OpsError

    kind = os.fstat(0).st_mode
    if stat.S_ISREG(kind):
        start = os.lseek(0, 0, os.SEEK_CUR)
        line = _line_with_nul(None)
        os.lseek(0, start, os.SEEK_SET)
    elif stat.S_ISFIFO(kind) or stat.S_ISSOCK(kind):
        # psql begins when all of it is there.
        with tempfile.TemporaryFile() as copy:
            line = _line_with_nul(copy)
            copy.seek(0)
            os.dup2(copy.fileno(), 0)
    else:
        return
    if line is not None:
        raise OpsError(
            f"line {line} of the input has a NUL byte, at which psql would cut the line off; nothing was run. Remove"
            " the byte, or save the file as UTF-8"
        )


def _line_with_nul(copy: IO[bytes] | None) -> int | None:
    """Read standard input to its end, or to a NUL byte. Return the line of the NUL byte, from 1."""
    line = 1
    while chunk := os.read(0, 1 << 20):
        place = chunk.find(0)
        line += chunk.count(b"\n", 0, place if place >= 0 else None)
        if place >= 0:
            return line
        if copy is not None:
            copy.write(chunk)
    if copy is not None:
        copy.flush()
    return None


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
            f"container {row['container']} is {row['health']}; start it with `groundwork up --stack {stack}`,"
            f" or see why it stopped with `groundwork logs --stack {stack} --service {service}`",
            Exit.UNREACHABLE,
        )
    return str(row["container"])


def _primary(stack: str) -> str:
    """Return the container of the Postgres that can be written to. Raise OpsError or NoPrimary (6) without one."""
    from infra.docker.members import WAIT_SECONDS, NoPrimary, member_containers, primary_container
    from infra.spec.checkout import Checkout

    first = Checkout.here().name(stack, "postgres")
    members = set(member_containers(first).values())
    if not members or not any(row["isRunning"] and row["container"] in members for row in _rows(stack)):
        # Without a running member, this raises the error that names the container.
        return _running(stack, "postgres")
    try:
        return primary_container(first, wait_seconds=0)
    except NoPrimary:
        print_line(f"no Postgres is the primary; waiting up to {WAIT_SECONDS:.0f} s for a failover", err=True)
        return primary_container(first)


def _show_lines(command: list[str], stack: str) -> None:
    """Run a command of docker for the stack, and print its output line by line.

    Raise OpsError (6) if it fails, after its own last line.

    Logs quote what strangers sent before they logged in.
    """
    import subprocess

    from ops.errors import Exit, OpsError

    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        assert process.stdout is not None
        try:
            relay_lines(process.stdout)
            failed = process.wait() != 0
        except KeyboardInterrupt as stop:
            # The way to end --follow. There is nothing to resume.
            sys.exit(exit_code(stop))
        finally:
            process.terminate()
    if failed:
        raise OpsError(
            f"`{' '.join(command[:2])}` failed (see above); see `groundwork status --stack {stack}`",
            Exit.UNREACHABLE,
        )


def _become(command: list[str]) -> NoReturn:
    sys.stdout.flush()
    os.execvp(command[0], command)
