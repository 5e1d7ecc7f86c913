"""Temporary servers for the duration of a `with` block: Postgres, by default with the specification's roles, and Redis.

They are separate, so that nothing tried there affects a stack. They contain no data worth keeping, and are removed
after the block in every case, including Ctrl-C, SIGTERM and SIGKILL.
"""

from __future__ import annotations

import os
import secrets
import subprocess
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from infra.docker.engine import DockerError, docker, label_options, psql
from infra.docker.health_check import repeated
from infra.docker.ownership import state_labels
from infra.images.build import ensure
from infra.images.context import image_context
from infra.spec import roles
from infra.spec.checkout import Checkout, is_checkout
from ops.errors import OpsError

_START_SECONDS = 120.0
_LOGIN_CONNECTIONS = 40
_SUPERUSER = "groundwork_temporary"
_IN_MEMORY, _ON_DISK = "/tmp/data", "/var/lib/postgresql/data"
# Durability is off, because the data is temporary and speed matters.
_START = """
initdb --no-sync --pgdata={data} --auth-local=trust --auth-host=scram-sha-256 -E UTF8 --locale=C.UTF-8 >/dev/null
echo 'host all all all scram-sha-256' >> {data}/pg_hba.conf
exec postgres -D {data} -c listen_addresses='*' -c fsync=off -c unix_socket_directories=/run/postgresql
"""
# The leash's standard input closes when this process ends, even by SIGKILL. The container's init forwards both signals:
# SIGTERM ends the shell if the server has not started yet, SIGQUIT shuts the server down immediately.
_LEASH = "cat > /dev/null; kill -TERM 1; kill -QUIT 1"


class ScratchServer:
    """A running temporary server. Callers migrate the databases they create."""

    def __init__(self, container: str, image: str, port: int, password: str) -> None:
        self.container = container
        self.image = image
        self._port = port
        self._password = password
        self._has_superuser = False

    def make_database(self, name: str) -> str:
        """Create a database with schema and grants but no migrations. Return its URL for role migrator."""
        self.psql(f"CREATE DATABASE {name} ENCODING 'UTF8' LOCALE 'C.UTF-8' TEMPLATE template0")
        self.psql(roles.grants_sql(name), name)
        return self.url(name, "migrator")

    def make_plain_database(self, name: str) -> str:
        """Create a database as a server has it by default. Return its URL for a superuser."""
        # Imported late, because most callers make no such database.
        import psycopg

        with psycopg.connect(self.superuser_url(), autocommit=True) as connection:
            connection.execute(
                f"CREATE DATABASE {name} ENCODING 'UTF8' LOCALE 'C.UTF-8' TEMPLATE template0".encode()
            )
        return self.superuser_url(name)

    def url(self, database: str, login: str) -> str:
        """Return the URL of a database for one of the specification's logins."""
        return f"postgresql://{login}:{self._password}@127.0.0.1:{self._port}/{database}?sslmode=disable"

    def psql(self, sql: str, database: str = "postgres") -> str:
        """Run SQL as the superuser. Raise DockerError with the server's message."""
        return psql(self.container, sql, database=database)

    def superuser_url(self, database: str = "postgres") -> str:
        """Return the URL of a database for a superuser that can connect from outside the container."""
        if not self._has_superuser:
            verifier = roles.scram_verifier(self._password, os.urandom(16))
            self.psql(f"CREATE ROLE {_SUPERUSER} LOGIN SUPERUSER PASSWORD '{verifier}'")
            self._has_superuser = True
        return self.url(database, _SUPERUSER)


@contextmanager
def scratch_server(
    *, on_disk: bool = False, memory: str = "512m", has_roles: bool = True
) -> Iterator[ScratchServer]:
    """Start a temporary Postgres, and remove it after the block. Use `on_disk` for data that does not fit in memory.

    `has_roles`: the server has the specification's roles, which `make_database` needs.

    Raise OpsError (6) without a Docker engine, OpsError (1) if the server does not start.
    """
    password = secrets.token_urlsafe(24)
    start = _START.format(data=_ON_DISK if on_disk else _IN_MEMORY)
    sockets = ("--tmpfs", "/run/postgresql:uid=10010,gid=10010")
    with _scratch_container("postgres", 5432, memory, sockets, ("bash", "-c", start)) as (name, image, port):
        _await(name, "pg_isready", "--quiet")
        if has_roles:
            verifiers = {login: roles.scram_verifier(password, os.urandom(16)) for login in roles.ALL_LOGINS}
            psql(name, roles.roles_sql(verifiers, dict.fromkeys(roles.LOGINS, _LOGIN_CONNECTIONS)))
        yield ScratchServer(name, image, port, password)


@contextmanager
def scratch_redis() -> Iterator[str]:
    """Start a temporary Redis in memory, and remove it after the block. Yield its URL.

    Raise OpsError (6) without a Docker engine, OpsError (1) if the server does not start.
    """
    password = secrets.token_urlsafe(24)
    command = ("redis-server", "--save", "", "--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lfu")
    with _scratch_container("redis", 6379, "256m", (), command) as (name, _, port):
        _await(name, "redis-cli", "-e", "PING")
        # On its standard input, so that no list of processes shows it. Until now Redis accepts only local clients.
        docker(
            "exec",
            "--interactive",
            name,
            "redis-cli",
            "-e",
            stdin=f"CONFIG SET requirepass {password}\n".encode(),
        )
        yield f"redis://:{password}@127.0.0.1:{port}/0"


@contextmanager
def _scratch_container(
    service: str, port: int, memory: str, options: Sequence[str], command: Sequence[str]
) -> Iterator[tuple[str, str, int]]:
    """Run a command in a service's image, and remove the container after the block. Yield its name, image and port."""
    ensure_docker()
    name = f"gw-scratch-{uuid.uuid4().hex[:8]}"
    leash = None
    try:
        image = ensure(image_context(Checkout.here(), service))
        docker(
            *("run", "--detach", "--rm", "--init", "--name", name),
            *label_options({"groundwork.scratch": str(os.getpid()), **state_labels(Checkout.here())}),
            *("--publish", f"127.0.0.1::{port}", "--read-only", "--memory", memory),
            *("--tmpfs", "/tmp:rw,exec,mode=1777", *options),
            *("--cap-drop", "ALL", "--security-opt", "no-new-privileges=true"),
            *("--entrypoint", command[0], image, *command[1:]),
        )
        leash = _leash(name)
        yield name, image, int(docker("port", name).rsplit(":", 1)[1])
    except DockerError as error:
        raise OpsError(f"cannot use a temporary {service} server: {error}") from error
    finally:
        # The container may have stopped already, and a failed removal must not hide the first error.
        with suppress(DockerError):
            docker("rm", "--force", "--volumes", name)
        if leash is not None:
            leash.communicate()


def ensure_docker() -> None:
    """Provide a Docker engine and the base image for a temporary container.

    Raise OpsError (6) without an engine, OpsError (1) without a checkout, which has the images.
    """
    if not is_checkout():
        raise OpsError(
            "this command needs a checkout of groundwork with Docker, to start a temporary server; run it in the same"
            " folder with the checkout's .venv/bin/groundwork (docs/migrate-only.md)"
        )
    from ops.toolchain import base_image, docker_engine
    from ops.toolchain.progress import Progress

    progress = Progress(None)
    engine, _ = docker_engine.ensure(Checkout.here(), progress)
    base_image.ensure(Checkout.here(), engine, progress)


def _leash(container: str) -> subprocess.Popen[bytes]:
    # In a separate session, so that Ctrl-C in the terminal does not end it.
    return subprocess.Popen(
        ["docker", "exec", "--interactive", container, "sh", "-c", _LEASH],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def _await(container: str, *check: str) -> None:
    """Return when a command in the container succeeds. Raise OpsError after the deadline, or if the container ends."""
    try:
        docker("exec", container, *repeated(check, _START_SECONDS), timeout_seconds=_START_SECONDS + 30)
    except DockerError as error:
        raise OpsError(
            f"the temporary server {container} did not start within {_START_SECONDS:.0f} s, or ended: {error}"
        ) from error
