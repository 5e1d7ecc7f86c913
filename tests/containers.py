"""Temporary servers for tests: our own images, configured by infra.spec, on a port of 127.0.0.1.

Nothing here changes a stack. Containers are named and labelled as belonging to the test run, and are removed at its
end with their volumes.
"""

from __future__ import annotations

import fcntl
import functools
import hashlib
import inspect
import os
import random
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from redis import Redis, RedisError

from infra.certificates import SERVER_DAYS, KeyPair, make_authority, make_server_certificate
from infra.docker.engine import File, copy_files, docker
from infra.images.build import ensure
from infra.images.context import IMAGES, ImageContext, assemble, image_context
from infra.spec import postgres, redis, redis_acl, roles
from infra.spec.checkout import Checkout
from tests.superuser import Superuser

LABEL = f"groundwork.test={os.getpid()}"
# Options of redis-py with which it sends no CLIENT SETINFO. It has `driver_info` since 7.2.
_HAS_DRIVER_INFO = "driver_info" in inspect.signature(Redis).parameters
QUIET: dict[str, Any] = {"driver_info": None} if _HAS_DRIVER_INFO else {"lib_name": None, "lib_version": None}
SERVER_NAMES = ("localhost", "127.0.0.1")
# The engine of every Redis of the tests: redis, or valkey, which a stack on AWS may have instead.
REDIS_ENGINE = os.environ.get("REDIS_ENGINE", "redis")

# A server starts in two seconds, but takes longer on a busy machine.
START_SECONDS = 180.0
# CBC with SHA-1 or SHA-256, and CCM with a short tag. The servers' keys are for ECDSA.
WEAK_CIPHERS = ("ECDHE-ECDSA-AES256-SHA", "ECDHE-ECDSA-AES128-SHA256", "ECDHE-ECDSA-AES256-CCM8")


@dataclass
class Server:
    """A running container and how to reach it. `passwords` and `verifiers` map users to theirs."""

    container: str
    port: int
    ca_file: Path
    authority: KeyPair
    passwords: dict[str, str] = field(default_factory=dict)
    verifiers: dict[str, str] = field(default_factory=dict)
    answers: Callable[[], bool] = lambda: True
    # Cloned databases whose tests have finished.
    left_databases: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.superuser = Superuser(self.container)

    def database_url(self, login: str, database: str = roles.DATABASE) -> str:
        return (
            f"postgresql://{login}:{quote(self.passwords[login])}@localhost:{self.port}/{database}"
            f"?sslmode=verify-full&sslrootcert={self.ca_file}"
        )

    def redis_url(self, user: str) -> str:
        return (
            f"rediss://{user}:{quote(self.passwords[user])}@localhost:{self.port}/0"
            f"?ssl_ca_certs={self.ca_file}&ssl_check_hostname=true"
        )

    def psql(self, sql: str, database: str = "postgres") -> str:
        """Run SQL as the superuser and return its output."""
        return self.superuser.run(sql, database)

    def restart(self, *, kill: bool = False) -> None:
        """Stop or kill the server, start it again, and wait until it answers. Its port may change."""
        docker("kill" if kill else "stop", self.container)
        docker("start", self.container)
        self.port = _published_port(self.container)
        wait_until(self.answers, START_SECONDS)


@functools.cache
def build_image(name: str) -> str:
    """Build an image of infra/images, once per process, and return its id.

    Callers use the id, because another checkout's build takes over the tag. The tag keeps the image from being pruned.
    """
    tag = f"groundwork-test/{name}"
    context = _valkey_context() if name == "valkey" else image_context(Checkout.here(), name)
    folder = os.open(context.folder, os.O_RDONLY)
    try:
        # Every worker would install the same packages at once.
        fcntl.flock(folder, fcntl.LOCK_EX)
        image = ensure(context)
        docker("tag", image, tag)
        return image
    finally:
        os.close(folder)


def redis_image(engine: str = REDIS_ENGINE) -> str:
    """Build the image of an engine, redis or valkey, and return its id."""
    assert engine in ("redis", "valkey"), f"$REDIS_ENGINE is {engine!r}: set it to redis or valkey"
    return build_image(engine)


def _valkey_context() -> ImageContext:
    dockerfile = Path(__file__).parent / "valkey" / "Dockerfile"
    scripts = (IMAGES / "redis").glob("groundwork-*")
    entries = {Path(path.name): path for path in (dockerfile, *scripts)}
    return ImageContext("valkey", *assemble(Checkout.here(), entries))


@contextmanager
def postgres_server(
    extra_parameters: dict[str, str] | None = None,
    *,
    database: str = "all",
    connection_limits: Mapping[str, int] | None = None,
    certificate_names: Sequence[str] = SERVER_NAMES,
    certificate_days: int = SERVER_DAYS,
    extra_files: Mapping[str, str] | None = None,
    keeps_port: bool = False,
    in_memory: bool = False,
    scram_iterations: int = roles.SCRAM_ITERATIONS,
    run_options: Sequence[str] = (),
) -> Iterator[Server]:
    """Postgres 15 with every role of the spec, TLS, and database `groundwork` (empty schema).

    Unlike in a stack, roles may connect to any database of this server, so that tests can clone theirs. Stacks use
    `database=roles.DATABASE`. A server that is never stopped may have its data `in_memory`: on disk a clone creates a
    thousand files, and their inodes take more CPU time than the test.
    """
    image = build_image("postgres")
    parameters = postgres.parameters(512 * 1024**2, 100, {"fsync": "off"} | (extra_parameters or {}))
    # These tests do not test durability, and would spend most of their time in fsync.
    parameters["fsync"] = "off"
    files = {
        "postgresql.conf": postgres.render_conf(parameters),
        "pg_hba.conf": postgres.render_hba(database),
    } | dict(extra_files or {})
    certificate = (certificate_names, certificate_days)
    if in_memory:
        data = f"{postgres.DATA_DIR}:uid={postgres.UID},gid={postgres.GID},mode=0700"
        run_options = [*run_options, "--tmpfs", data]
    with _server(
        image,
        postgres.UID,
        files,
        postgres.PORT,
        postgres.CONFIG_DIR,
        "2g" if in_memory else "1g",
        certificate,
        keeps_port,
        run_options,
    ) as server:
        server.answers = lambda: _succeeds("docker", "exec", server.container, "pg_isready", "-q")
        # One command that waits in the container, because starting a command takes longer than its query.
        until = "until pg_isready --quiet; do sleep 0.05; done"
        docker("exec", server.container, "sh", "-c", until, timeout_seconds=START_SECONDS)
        server.passwords = {login: uuid.uuid4().hex for login in roles.ALL_LOGINS}
        verifiers = {
            name: roles.scram_verifier(password, os.urandom(16), scram_iterations)
            for name, password in server.passwords.items()
        }
        server.verifiers = verifiers
        server.psql(
            roles.roles_sql(verifiers, dict.fromkeys(roles.LOGINS, 60) | dict(connection_limits or {}))
            + roles.database_sql()
            + f"\\connect {roles.DATABASE}\n{roles.grants_sql()}"
        )
        yield server


@contextmanager
def redis_server(
    *,
    maxmemory: int = 64 * 1024**2,
    eviction_policy: str = "allkeys-lfu",
    persistence: str = "none",
    memory: str = "128m",
    administrator: bool = False,
    keeps_port: bool = False,
    extra_settings: Mapping[str, str] | None = None,
    certificate_names: Sequence[str] = SERVER_NAMES,
    certificate_days: int = SERVER_DAYS,
    engine: str = REDIS_ENGINE,
) -> Iterator[Server]:
    """Redis 7, or Valkey, with TLS and the ACL users app, ops and monitor.

    `administrator` adds a user of that name with all permissions, which no stack has, to inspect the other users.
    With `keeps_port` the server has the same port after a restart.
    """
    image = redis_image(engine)
    passwords = {user.name: uuid.uuid4().hex for user in redis_acl.LOCAL_USERS}
    files = {
        "redis.conf": redis.render_conf(
            maxmemory_bytes=maxmemory,
            eviction_policy=eviction_policy,
            persistence=persistence,
        )
        + "".join(f"{key} {value}\n" for key, value in (extra_settings or {}).items()),
        "users.acl": redis_acl.render_aclfile({name: (pw,) for name, pw in passwords.items()}),
    }
    if administrator:
        passwords["administrator"] = uuid.uuid4().hex
        digest = hashlib.sha256(passwords["administrator"].encode()).hexdigest()
        files["users.acl"] += f"user administrator on #{digest} ~* &* +@all\n"
    certificate = (certificate_names, certificate_days)
    with _server(
        image, redis.UID, files, redis.PORT, redis.CONFIG_DIR, memory, certificate, keeps_port
    ) as server:
        server.passwords = passwords
        server.answers = lambda: _redis_answers(server)
        wait_until(server.answers, START_SECONDS)
        yield server


@contextmanager
def frozen(server: Server) -> Iterator[None]:
    """Freeze every process of the server: connections are accepted by the kernel, but never answered."""
    pause(server.container)
    try:
        yield
    finally:
        docker("unpause", server.container)


@contextmanager
def stopped_postmaster(server: Server, *, has_init: bool = True) -> Iterator[None]:
    """Stop the postmaster alone: connected clients are served, and new ones are not accepted."""

    def send(name: str) -> None:
        if has_init:
            script = f'read -r pid _ < "$PGDATA/postmaster.pid"; kill -{name} "$pid"'
            docker("exec", server.container, "sh", "-c", script)
        else:
            docker("kill", "--signal", name, server.container)

    send("STOP")
    try:
        yield
    finally:
        send("CONT")


def pause(container: str) -> None:
    """Freeze a container's processes, with retries: on a busy machine the kernel may exceed the engine's limit."""
    wait_until(lambda: _succeeds("docker", "pause", container))


def wait_until(holds: Callable[[], bool], timeout_seconds: float = 30.0) -> None:
    """Poll until `holds()` is true. Raises AssertionError after the deadline.

    Of the time, a condition takes at most a third, because it may take a second of CPU time itself.
    """
    deadline = time.monotonic() + timeout_seconds
    while True:
        began = time.monotonic()
        if holds():
            return
        ended = time.monotonic()
        assert ended < deadline, f"condition is still false after {timeout_seconds} s"
        time.sleep(max(0.05, min(2 * (ended - began), 2.0)))


@contextmanager
def _server(
    image: str,
    uid: int,
    files: dict[str, str],
    port: int,
    config_dir: str,
    memory: str,
    certificate_terms: tuple[Sequence[str], int],
    keeps_port: bool = False,
    run_options: Sequence[str] = (),
) -> Iterator[Server]:
    name = f"gw-test-{uuid.uuid4().hex[:8]}"
    volume = f"{name}-config"
    authority = make_authority("groundwork tests")
    certificate = make_server_certificate(authority, *certificate_terms)
    files = files | {
        "ca.crt": authority.certificate,
        "server.crt": certificate.certificate,
        "server.key": certificate.private_key,
    }
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="gw-test-"))
        ca_file = Path(folder) / "ca.crt"
        ca_file.write_text(authority.certificate)
        publish = f"127.0.0.1:{free_port() if keeps_port else ''}:{port}"
        try:
            docker("volume", "create", "--label", LABEL, volume)
            docker(
                "create", "--name", name, "--label", LABEL,
                "--publish", publish, "--memory", memory, "--memory-swap", memory,
                # Writable, unlike a stack's, so that the files can be copied before the start.
                "--volume", f"{volume}:{config_dir}", "--read-only", "--tmpfs", "/tmp",
                "--tmpfs", f"{postgres.SOCKET_DIR}:uid={uid},gid={uid},mode=0755",
                "--cap-drop", "ALL", "--security-opt", "no-new-privileges=true", *run_options, image,
            )  # fmt: skip
            copy_files(name, config_dir, {k: File(v, uid, uid) for k, v in files.items()})
            docker("start", name)
            server = Server(name, _published_port(name), ca_file, authority)
            stack.callback(server.superuser.close)
            yield server
        finally:
            docker("rm", "--force", "--volumes", name)
            docker("volume", "rm", "--force", volume)


def _published_port(container: str) -> int:
    return int(docker("port", container).rsplit(":", 1)[1])


def free_port() -> int:
    """Return a port below the ephemeral range, so that no other process gets it during a restart."""
    while True:
        port = random.randint(20_000, 32_000)
        with socket.socket() as listener:
            try:
                listener.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def _succeeds(*command: str) -> bool:
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _redis_answers(server: Server) -> bool:
    # Neither the certificate's name nor its expiry matters here.
    client = Redis(
        host="127.0.0.1", port=server.port, username="monitor", password=server.passwords["monitor"],
        ssl=True, ssl_cert_reqs="none", ssl_check_hostname=False, retry=None, socket_timeout=5, **QUIET,
    )  # fmt: skip
    with client:
        try:
            return bool(client.ping())
        except RedisError:
            return False
