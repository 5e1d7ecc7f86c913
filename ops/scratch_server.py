"""A throwaway Postgres with the roles of the specification, for as long as a block runs.

It is a cluster of its own, so that nothing tried on it reaches the database that is asked about. It holds no
data worth keeping, and is gone after the block whatever happens: also after Ctrl-C, SIGTERM and SIGKILL.
"""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

from infra.docker.engine import DockerError, docker, psql
from infra.spec import roles
from infra.spec.world import World
from ops.errors import OpsError

_IMAGE = Path(__file__).parents[1] / "infra" / "images" / "postgres"
_START_SECONDS = 120.0
_LOGIN_CONNECTIONS = 40
_IN_MEMORY, _ON_DISK = "/tmp/data", "/var/lib/postgresql/data"
# No data worth keeping and no time to lose; its port is this machine's alone, and the passwords die with it.
_START = """
initdb --pgdata={data} --auth-local=trust --auth-host=scram-sha-256 --encoding=UTF8 --locale=C.UTF-8 >/dev/null
echo 'host all all all scram-sha-256' >> {data}/pg_hba.conf
exec postgres -D {data} -c listen_addresses='*' -c fsync=off -c unix_socket_directories=/run/postgresql
"""
# Its standard input ends when this process does, however that ends; an immediate shutdown is the server's answer.
_LEASH = "cat > /dev/null; kill -QUIT 1"


class ScratchServer:
    """The running server. Each database is migrated by whoever asks for it."""

    def __init__(self, container: str, image: str, port: int, password: str) -> None:
        self.container = container
        self.image = image
        self._port = port
        self._password = password

    def make_database(self, name: str) -> str:
        """A database with schema and grants and no migration; returns its URL as role migrator."""
        self.psql(f"CREATE DATABASE {name} ENCODING 'UTF8' LOCALE 'C.UTF-8' TEMPLATE template0")
        self.psql(roles.grants_sql(name), name)
        return self.url(name, "migrator")

    def url(self, database: str, login: str) -> str:
        """The URL of a database for one of the specification's logins."""
        return f"postgresql://{login}:{self._password}@127.0.0.1:{self._port}/{database}?sslmode=disable"

    def psql(self, sql: str, database: str = "postgres") -> str:
        """Run SQL as the superuser. DockerError with the server's own words."""
        return psql(self.container, sql, database=database)


@contextmanager
def scratch_server(*, on_disk: bool = False, memory: str = "512m") -> Iterator[ScratchServer]:
    """Start one, and remove it whatever happens. `on_disk` is for more data than memory should hold.

    OpsError (6) where no Docker engine is to be had, OpsError (1) where it starts no server.
    """
    _ensure_docker()
    name, password = f"gw-scratch-{uuid.uuid4().hex[:8]}", secrets.token_urlsafe(24)
    leash = None
    with _terminated_as_interrupted():
        try:
            image = docker("build", "--quiet", "--network=host", str(_IMAGE), timeout_seconds=600).strip()
            docker(
                *("run", "--detach", "--rm", "--name", name, "--label", f"groundwork.scratch={os.getpid()}"),
                *("--publish", "127.0.0.1::5432", "--read-only", "--memory", memory),
                *("--tmpfs", "/tmp:rw,exec,mode=1777", "--tmpfs", "/run/postgresql:uid=10010,gid=10010"),
                *("--cap-drop", "ALL", "--security-opt", "no-new-privileges"),
                *("--entrypoint", "bash", image),
                *("-c", _START.format(data=_ON_DISK if on_disk else _IN_MEMORY)),
            )
            leash = _leash(name)
            port = int(docker("port", name).rsplit(":", 1)[1])
            _await(name)
            verifiers = {
                login.name: roles.scram_verifier(password, os.urandom(16))
                for group in roles.LOGINS.values()
                for login in group
            }
            psql(name, roles.roles_sql(verifiers, dict.fromkeys(roles.LOGINS, _LOGIN_CONNECTIONS)))
            yield ScratchServer(name, image, port, password)
        except DockerError as error:
            raise OpsError(f"no throwaway Postgres could be used: {error}") from error
        finally:
            # It is gone already where it ended by itself, and its end must not hide the error before it.
            with suppress(DockerError):
                docker("rm", "--force", "--volumes", name)
            if leash is not None:
                leash.communicate()


def _ensure_docker() -> None:
    from ops.toolchain import base_image, docker_engine
    from ops.toolchain.progress import Progress

    progress = Progress(None)
    engine, _ = docker_engine.ensure(World.here(), progress)
    base_image.ensure(World.here(), engine, progress)


def _leash(container: str) -> subprocess.Popen[bytes]:
    # A session of its own: Ctrl-C on our terminal is ours to answer, and not to be killed by.
    return subprocess.Popen(
        ["docker", "exec", "--interactive", container, "sh", "-c", _LEASH],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


@contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """SIGTERM unwinds as Ctrl-C does; by default it would end the process and nothing else."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


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
