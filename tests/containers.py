"""Throwaway servers for tests: our own images, configured by infra.spec, on a port of 127.0.0.1.

Nothing here touches a stack: containers are named and labelled as the test run's own and removed at its
end, with their volumes.
"""

from __future__ import annotations

import hashlib
import os
import random
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from infra.certificates import SERVER_DAYS, KeyPair, make_authority, make_server_certificate
from infra.docker.engine import File, docker, psql, write_files
from infra.spec import postgres, redis, redis_acl, roles

IMAGES = Path(__file__).parents[1] / "infra" / "images"
LABEL = f"groundwork.test={os.getpid()}"
SERVER_NAMES = ("localhost", "127.0.0.1")

# A server starts in two seconds; on a machine that is busy it may take its time.
START_SECONDS = 180.0


@dataclass
class Server:
    """A running container and how to reach it. `passwords` maps users to theirs."""

    container: str
    port: int
    ca_file: Path
    authority: KeyPair
    passwords: dict[str, str] = field(default_factory=dict)
    answers: Callable[[], bool] = lambda: True
    # Clones that their tests are done with.
    left_databases: list[str] = field(default_factory=list)

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
        return psql(self.container, sql, database=database)

    def restart(self, *, kill: bool = False) -> None:
        """Stop it, or kill it, and start it again; returns once it answers; its port may be another."""
        docker("kill" if kill else "stop", self.container)
        docker("start", self.container)
        self.port = _published_port(self.container)
        wait_until(self.answers, START_SECONDS)


def build_image(name: str) -> str:
    """Build one of infra/images (a repeat is a cache hit) and return its id.

    By its id, for another checkout's build takes the tag over; the tag keeps the image from being pruned.
    """
    tag = f"groundwork-test/{name}"
    command = ["build", "--quiet", "--network=host", "--tag", tag, str(IMAGES / name)]
    return docker(*command, timeout_seconds=600).strip()


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
    run_options: Sequence[str] = (),
) -> Iterator[Server]:
    """Postgres 15 with every role of the spec, TLS, and database `groundwork` (empty schema).

    Unlike a stack's, roles may connect to any database of this cluster, so that tests can clone theirs;
    `database=roles.DATABASE` is what a stack says.
    """
    image = build_image("postgres")
    parameters = postgres.parameters(512 * 1024**2, 100, {"fsync": "off"} | (extra_parameters or {}))
    # Durability is not what these tests are about, and fsync is what they would wait for.
    parameters["fsync"] = "off"
    files = {
        "postgresql.conf": postgres.render_conf(parameters),
        "pg_hba.conf": postgres.render_hba(database),
    } | dict(extra_files or {})
    certificate = (certificate_names, certificate_days)
    with _server(
        image,
        postgres.UID,
        files,
        postgres.PORT,
        postgres.CONFIG_DIR,
        "1g",
        certificate,
        keeps_port,
        run_options,
    ) as server:
        server.answers = lambda: _succeeds("docker", "exec", server.container, "pg_isready", "-q")
        # One command that waits inside: to start one takes longer than what it asks.
        until = "until pg_isready --quiet; do sleep 0.05; done"
        docker("exec", server.container, "sh", "-c", until, timeout_seconds=START_SECONDS)
        logins = [login for group in roles.LOGINS.values() for login in group]
        server.passwords = {login.name: uuid.uuid4().hex for login in logins}
        verifiers = {
            name: roles.scram_verifier(password, os.urandom(16))
            for name, password in server.passwords.items()
        }
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
) -> Iterator[Server]:
    """Redis 7 with TLS and the ACL users app, ops and monitor.

    `administrator` adds a user of that name who may everything, which no stack has: to ask the server about
    the others. With `keeps_port` clients find it again after a restart.
    """
    image = build_image("redis")
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
    """Every process of the server stands still: it takes connections, and answers none."""
    docker("pause", server.container)
    try:
        yield
    finally:
        docker("unpause", server.container)


def wait_until(holds: Callable[[], bool], timeout_seconds: float = 30.0) -> None:
    """Poll until `holds()`; AssertionError after the deadline."""
    deadline = time.monotonic() + timeout_seconds
    while not holds():
        assert time.monotonic() < deadline, f"still not so after {timeout_seconds} s"
        time.sleep(0.05)


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
    with tempfile.TemporaryDirectory(prefix="gw-test-") as folder:
        ca_file = Path(folder) / "ca.crt"
        ca_file.write_text(authority.certificate)
        publish = f"127.0.0.1:{_free_port() if keeps_port else ''}:{port}"
        try:
            docker("volume", "create", "--label", LABEL, volume)
            write_files(volume, image, {k: File(v, uid, uid) for k, v in files.items()})
            docker(
                "run", "--detach", "--name", name, "--label", LABEL,
                "--publish", publish, "--memory", memory, "--memory-swap", memory,
                "--volume", f"{volume}:{config_dir}:ro", "--read-only", "--tmpfs", "/tmp",
                "--tmpfs", f"{postgres.SOCKET_DIR}:uid={uid},gid={uid},mode=0755",
                "--cap-drop", "ALL", "--security-opt", "no-new-privileges", *run_options, image,
            )  # fmt: skip
            yield Server(name, _published_port(name), ca_file, authority)
        finally:
            docker("rm", "--force", "--volumes", name)
            docker("volume", "rm", "--force", volume)


def _published_port(container: str) -> int:
    return int(docker("port", container).rsplit(":", 1)[1])


def _free_port() -> int:
    """A port below those that the system gives out by itself, so that nothing takes it during a restart."""
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
    # From inside, where neither the certificate's name nor its end matters.
    asked = subprocess.run(
        ["docker", "exec", "--interactive", server.container, "redis-cli", "--tls", "--insecure"],
        input=f"AUTH monitor {server.passwords['monitor']}\nPING\n".encode(),
        capture_output=True,
        check=False,
    )
    return b"PONG" in asked.stdout
