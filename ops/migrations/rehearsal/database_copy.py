"""Copy a database to the temporary server: pg_dump piped to pg_restore, without an intermediate file.

The login of the migrations dumps the database, in a container of the temporary server's image: a superuser's dump would
read what the owner defined. No password is on a command line or in a container's environment.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
import uuid
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from psycopg.conninfo import conninfo_to_dict, make_conninfo

from db.migrator.connection import open_connection
from db.migrator.ledger import Ledger
from infra.docker.engine import DockerError, docker, label_options
from infra.docker.ownership import state_labels
from infra.docker_command import DOCKER_OVERRIDES
from infra.spec import roles
from infra.spec.checkout import Checkout
from ops.errors import Exit, OpsError
from ops.migrations.database_setup import DatabaseSetup, read_setup
from ops.migrations.scratch_database import create_scratch_database
from ops.servers.scratch_server import ScratchServer

_SERVICE = "source"
# Standard input is the service file, a zero byte, the CA's certificate, and another zero byte.
_DUMP = """
set -eu; umask 077
IFS= read -r -d '' service; IFS= read -r -d '' ca
printf '%s' "$service" > /tmp/service; printf '%s' "$ca" > /tmp/ca.crt
export PGSERVICEFILE=/tmp/service
exec pg_dump --dbname=service=source "$@" < /dev/null
"""


@dataclass(frozen=True)
class SourceDatabase:
    """The database to copy, with the login of the migrations. `setup` is None if groundwork provisioned it."""

    conninfo: str
    setup: DatabaseSetup | None = None

    @classmethod
    def at(cls, conninfo: str) -> SourceDatabase:
        """Return the database with its setup. Raise Unreachable."""
        return cls(conninfo, read_setup(conninfo))

    def ledger(self) -> str | None:
        """Return the name of the ledger with its schema, or None if nothing was ever applied."""
        with open_connection(self.conninfo) as connection:
            found = Ledger.find(connection)
            return None if found is None else found.name

    def size_bytes(self) -> int:
        """Return the database's size on disk."""
        with open_connection(self.conninfo) as connection:
            # The session starts as the owner, who lacks the CONNECT privilege that the function checks.
            connection.execute("SET ROLE NONE")
            row = connection.execute("SELECT pg_database_size(current_database())").fetchone()
        return int(str(row and row[0]))


@dataclass(frozen=True)
class DatabaseCopy:
    """The URLs of a copy, for the migrations and for the application's queries.

    `search_path` is that of the queries; None stands for that of the URL.
    """

    url: str
    caller_url: str
    search_path: str | None


def copy_database(source: SourceDatabase, server: ScratchServer, *, with_rows: bool) -> DatabaseCopy:
    """Create a copy with the name of the original. The ledger's rows are always copied.

    Raise OpsError with the message of pg_dump or pg_restore.
    """
    if source.setup is not None:
        url = create_scratch_database(server, source.setup, is_copied=True).url
        given = conninfo_to_dict(url)
        _copy(source, server, str(given["dbname"]), str(given["user"]), (), with_rows=with_rows)
        copy = DatabaseCopy(url, url, None)
    else:
        name = roles.DATABASE
        server.psql(f"CREATE DATABASE {name} ENCODING 'UTF8' LOCALE 'C.UTF-8' TEMPLATE template0")
        # The dump creates the schema.
        server.psql(f"GRANT CREATE ON DATABASE {name} TO {roles.OWNER}")
        # Role migrator restores too: what the owner defined must not run as superuser.
        _copy(source, server, name, "migrator", (f"--schema={roles.SCHEMA}",), with_rows=with_rows)
        server.psql(f"REVOKE CREATE ON DATABASE {name} FROM {roles.OWNER}")
        # A dump of one schema includes neither the extensions nor the privilege to connect.
        server.psql(roles.grants_sql(name), name)
        copy = DatabaseCopy(server.url(name, "migrator"), server.url(name, "app_a"), roles.SCHEMA)
    with open_connection(copy.url) as connection:
        connection.execute("ANALYZE")
    return copy


def _copy(
    source: SourceDatabase,
    server: ScratchServer,
    name: str,
    user: str,
    options: Sequence[str],
    *,
    with_rows: bool,
) -> None:
    restore = ["docker", "exec", "--interactive", server.container, "pg_restore", "--exit-on-error"]
    restore += [f"--username={user}", "--no-password", f"--dbname={make_conninfo(dbname=name)}"]
    if with_rows:
        _transfer(source, server, restore, *options)
        return
    _transfer(source, server, restore, "--schema-only", *options)
    if (ledger := source.ledger()) is not None:
        _transfer(source, server, restore, "--data-only", f"--table={ledger}", *options)


def _transfer(source: SourceDatabase, server: ScratchServer, restore: list[str], *options: str) -> None:
    dumper = f"{server.container}-dump-{uuid.uuid4().hex[:6]}"
    options = ("--format=custom", "--compress=0", "--no-publications", "--no-subscriptions", *options)
    command = [
        *("docker", "run", "--rm", "--init", "--interactive", "--name", dumper, "--network", "host"),
        *("--read-only", *label_options(state_labels(Checkout.here()))),
        *("--tmpfs", "/tmp:mode=1777", "--cap-drop", "ALL", "--security-opt", "no-new-privileges=true"),
        *("--entrypoint", "bash", server.image, "-c", _DUMP, "dump", *options),
    ]
    try:
        _pipe(command, _service(source.conninfo), restore)
    finally:
        with suppress(DockerError):
            docker("rm", "--force", "--volumes", dumper)


def _pipe(dump: list[str], stdin: bytes, restore: list[str]) -> None:
    with tempfile.TemporaryFile() as said, tempfile.TemporaryFile() as answered:
        with (
            subprocess.Popen(
                dump,
                env=os.environ | DOCKER_OVERRIDES,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=said,
            ) as source,
            subprocess.Popen(restore, stdin=source.stdout, stdout=answered, stderr=answered) as target,
        ):
            assert source.stdin is not None
            assert source.stdout is not None
            try:
                # Close our end, so that each process notices when the other one exits.
                source.stdout.close()
                with suppress(BrokenPipeError):
                    source.stdin.write(stdin)
                    source.stdin.close()
                target.wait()
                source.wait()
            except BaseException:
                source.kill()
                target.kill()
                raise
        failures = {
            what: _first_line(file) or f"exit status {process.returncode}"
            for what, process, file in (("pg_restore", target, answered), ("pg_dump", source, said))
            if process.returncode != 0
        }
    # If one exits early, the other fails too: pg_restore at the end of its input, pg_dump at a closed pipe.
    if "pg_dump" in failures and "input file" in failures.get("pg_restore", "input file"):
        failures.pop("pg_restore", None)
    for what, reason in failures.items():
        raise OpsError(f"cannot copy the database: {what} failed: {reason}")


def _first_line(file: IO[bytes]) -> str:
    file.seek(0)
    lines = file.read().decode(errors="replace").strip().splitlines()
    return lines[0] if lines else ""


def _service(conninfo: str) -> bytes:
    from db.session import HONOURED, without_environment

    # The container has neither this process's variables nor its password file, and its libpq knows fewer parameters.
    parameters = conninfo_to_dict(conninfo)
    known = {*parameters, *HONOURED} - {"passfile"}
    given = {
        key: str(value) for key, value in without_environment(parameters).items() if value and key in known
    }
    authority = b""
    if path := given.get("sslrootcert"):
        try:
            authority = Path(path).read_bytes()
        except OSError as error:
            raise OpsError(f"cannot read sslrootcert {path}: {error.strerror}", Exit.USAGE) from error
        given["sslrootcert"] = "/tmp/ca.crt"
    lines = [f"[{_SERVICE}]", *(f"{key}={value}" for key, value in given.items())]
    return "\n".join(lines).encode() + b"\n\0" + authority + b"\0"
