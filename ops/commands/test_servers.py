"""`groundwork test-servers`: temporary Postgres and Redis for the tests of an application."""

from __future__ import annotations

import click


@click.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.argument("program")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def test_servers(program: str, arguments: tuple[str, ...]) -> None:
    """Run a program with temporary servers for its tests

    Starts an empty Postgres and an empty Redis, and runs PROGRAM with GROUNDWORK_TEST_DATABASE_URL and
    GROUNDWORK_TEST_REDIS_URL, which the pytest plugin of groundwork-client reads. Afterwards it removes the servers,
    and exits with the exit code of PROGRAM.
    """
    import os
    import shutil
    import subprocess

    from ops.errors import Exit, OpsError
    from ops.servers.scratch_server import scratch_redis, scratch_server

    if shutil.which(program) is None:
        raise OpsError(f"cannot run {program!r}: it is not on PATH, or not an executable file", Exit.USAGE)
    with scratch_server(memory="1g") as postgres, scratch_redis() as redis_url:
        servers = {
            "GROUNDWORK_TEST_DATABASE_URL": postgres.superuser_url(),
            "GROUNDWORK_TEST_REDIS_URL": redis_url,
        }
        try:
            code = subprocess.run([program, *arguments], env=os.environ | servers, check=False).returncode
        except OSError as error:
            raise OpsError(f"cannot run {program!r}: {error.strerror}", Exit.USAGE) from error
    # As a shell does for a program that a signal ended.
    raise SystemExit(code if code >= 0 else 128 - code)
