"""A throwaway Postgres with the roles of the specification, for as long as a block runs."""

from __future__ import annotations

import os
import secrets
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from infra.docker.engine import DockerError, docker, psql
from infra.spec import roles
from ops.errors import OpsError

_IMAGE = Path(__file__).parents[2] / "infra" / "images" / "postgres"
_START_SECONDS = 60.0
# No data worth keeping and no time to lose; its port is this machine's alone, and the password dies with it.
_START = """
initdb --pgdata=/tmp/data --auth=scram-sha-256 --pwfile=<(echo "$PGPASSWORD") \\
    --encoding=UTF8 --locale=C.UTF-8 >/dev/null
echo 'local all all trust' > /tmp/data/pg_hba.conf
echo 'host all all all scram-sha-256' >> /tmp/data/pg_hba.conf
exec postgres -D /tmp/data -c listen_addresses='*' -c fsync=off -c unix_socket_directories=/run/postgresql
"""


class ScratchServer:
    """The running server. Each database is migrated by whoever asks for it."""

    def __init__(self, container: str, port: int, password: str) -> None:
        self._container = container
        self._port = port
        self._password = password

    def make_database(self, name: str) -> str:
        """A database with schema and grants and no migration; returns its URL as role migrator."""
        psql(self._container, f"CREATE DATABASE {name} ENCODING 'UTF8' LOCALE 'C.UTF-8' TEMPLATE template0")
        psql(self._container, roles.grants_sql(name), database=name)
        return self.url(name, "migrator")

    def url(self, database: str, login: str) -> str:
        """The URL of a database for one of the specification's logins."""
        return f"postgresql://{login}:{self._password}@127.0.0.1:{self._port}/{database}?sslmode=disable"


@contextmanager
def scratch_server() -> Iterator[ScratchServer]:
    """Start one, and remove it whatever happens. OpsError where Docker cannot."""
    name, password = f"gw-scratch-{uuid.uuid4().hex[:8]}", secrets.token_urlsafe(24)
    try:
        image = docker("build", "--quiet", "--network=host", str(_IMAGE), timeout_seconds=600).strip()
        try:
            docker(
                *("run", "--detach", "--name", name, "--label", f"groundwork.scratch={os.getpid()}"),
                *("--publish", "127.0.0.1::5432", "--env", f"PGPASSWORD={password}", "--read-only"),
                *("--tmpfs", "/tmp:rw,exec,mode=1777", "--tmpfs", "/run/postgresql:uid=10010,gid=10010"),
                *("--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--memory", "512m"),
                *("--entrypoint", "bash", image, "-c", _START),
            )
            port = int(docker("port", name).rsplit(":", 1)[1])
            _await(name)
            verifiers = {
                login.name: roles.scram_verifier(password, os.urandom(16))
                for group in roles.LOGINS.values()
                for login in group
            }
            psql(name, roles.roles_sql(verifiers, dict.fromkeys(roles.LOGINS, 10)))
            yield ScratchServer(name, port, password)
        finally:
            docker("rm", "--force", "--volumes", name)
    except DockerError as error:
        raise OpsError(f"no throwaway Postgres could be started: {error}") from error


def _await(container: str) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while True:
        try:
            psql(container, "SELECT 1")
            return
        except DockerError as error:
            if time.monotonic() > deadline:
                raise OpsError(
                    f"the throwaway Postgres did not start in {_START_SECONDS:.0f} s: {error}"
                ) from error
            time.sleep(0.1)
