"""Temporary servers for the duration of a `with` block: Postgres, by default with the specification's roles, and Redis.

They are separate, so that nothing tried there affects a stack. They contain no data worth keeping, and are removed
after the block in every case, including Ctrl-C, SIGTERM and SIGKILL.

A server runs SQL that was written for another server, such as an INSERT into a foreign table, and therefore has no
network. Its clients connect through a relay (`ops.servers.relay`).
"""

from __future__ import annotations

import os
import secrets
import subprocess
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from urllib.parse import quote

from infra.docker.engine import CONFINED, DockerError, docker, label_options, psql
from infra.docker.health_check import repeated
from infra.docker.ownership import state_labels
from infra.images.build import ensure
from infra.images.context import image_context
from infra.spec import roles
from infra.spec.checkout import Checkout, is_checkout
from ops.errors import OpsError
from ops.servers.relay import relay, socket_volume

_START_SECONDS = 120.0
_LOGIN_CONNECTIONS = 40
_SUPERUSER = "groundwork_temporary"
_IN_MEMORY, _ON_DISK = "/tmp/data", "/var/lib/postgresql/data"
_GIVEN_DATABASES = {"postgres", "template1"}
_SOCKETS = "/run/groundwork-scratch"
# Durability is off, because the data is temporary and speed matters. The socket is for the relay, so it needs a
# password. Only programs in the container reach its 127.0.0.1.
_START = """
initdb --no-sync --pgdata={data} --auth=trust -E UTF8 --locale=C.UTF-8 >/dev/null
printf '%s\\n' 'local all all scram-sha-256' 'host all all 127.0.0.1/32 trust' > {data}/pg_hba.conf
exec postgres -D {data} -c listen_addresses=127.0.0.1 -c fsync=off -c unix_socket_directories={sockets}
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
        """Create a database as a server has it by default. Return its URL for a superuser.

        A database that every server has, such as postgres, is the server's own.
        """
        # Imported late, because most callers make no such database.
        import psycopg
        from psycopg import sql

        create = sql.SQL("CREATE DATABASE {} ENCODING 'UTF8' LOCALE 'C.UTF-8' TEMPLATE template0")
        with psycopg.connect(self.superuser_url(), autocommit=True) as connection:
            if name not in _GIVEN_DATABASES:
                connection.execute(create.format(sql.Identifier(name)))
        return self.superuser_url(name)

    def url(self, database: str, login: str) -> str:
        """Return the URL of a database for one of the specification's logins."""
        address = f"{login}:{self._password}@127.0.0.1:{self._port}"
        return f"postgresql://{address}/{quote(database, safe='')}?sslmode=disable"

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
    start = _START.format(data=_ON_DISK if on_disk else _IN_MEMORY, sockets=_SOCKETS)
    # What programs in the container connect to.
    local = ("--env", "PGHOST=127.0.0.1")
    with (
        _scratch_container("postgres", memory, local, ("bash", "-c", start)) as (name, image),
        relay(name, image, f"{_SOCKETS}/.s.PGSQL.5432", 5432, _labels()) as port,
    ):
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
    sockets = ("--bind", "127.0.0.1", "--unixsocket", f"{_SOCKETS}/redis.sock")
    with _scratch_container("redis", "256m", (), (*command, *sockets)) as (name, image):
        _await(name, "redis-cli", "-e", "PING")
        # On its standard input, so that no list of processes shows it. Until now no client outside reaches Redis.
        docker(
            "exec",
            "--interactive",
            name,
            "redis-cli",
            "-e",
            stdin=f"CONFIG SET requirepass {password}\n".encode(),
        )
        with relay(name, image, f"{_SOCKETS}/redis.sock", 6379, _labels()) as port:
            yield f"redis://:{password}@127.0.0.1:{port}/0"


@contextmanager
def _scratch_container(
    service: str, memory: str, options: Sequence[str], command: Sequence[str]
) -> Iterator[tuple[str, str]]:
    """Run a command in a service's image, without a network, and remove the container after the block.

    Yield its name and image.
    """
    ensure_docker()
    name = f"gw-scratch-{uuid.uuid4().hex[:8]}"
    leash = None
    try:
        image = ensure(image_context(Checkout.here(), service))
        docker(
            *("run", "--detach", "--rm", "--init", "--name", name, *_labels(), *CONFINED),
            *("--memory", memory, "--network", "none", "--tmpfs", "/tmp:rw,exec,mode=1777"),
            *socket_volume(_SOCKETS),
            *options,
            *("--entrypoint", command[0], image, *command[1:]),
        )
        leash = _leash(name)
        yield name, image
    except DockerError as error:
        raise OpsError(f"cannot use a temporary {service} server: {error}") from error
    finally:
        # The container may have stopped already, and a failed removal must not hide the first error.
        with suppress(DockerError):
            docker("rm", "--force", "--volumes", name)
        if leash is not None:
            leash.communicate()


def _labels() -> list[str]:
    return label_options({"groundwork.scratch": str(os.getpid()), **state_labels(Checkout.here())})


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
