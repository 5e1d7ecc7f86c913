"""Temporary Redis servers that replicate each other, with Sentinels, configured and started as in a stack."""

from __future__ import annotations

import hashlib
import random
import tempfile
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import redis as redis_py
from redis.backoff import NoBackoff
from redis.retry import Retry

from cache.tls import closed_on_failure
from infra.certificates import KeyPair, make_authority, make_server_certificate
from infra.docker.container import RESOLVER, RESOLVER_OPTIONS
from infra.docker.engine import DockerError, File, copy_files, docker
from infra.spec import redis, redis_acl
from infra.spec import redis_replication as replication
from tests.containers import LABEL, START_SECONDS, Server, free_port, redis_image, wait_until

# Options of `docker run` for lookups as in a stack.
LOOKUPS = ("--dns", RESOLVER, *(f"--dns-opt={option}" for option in RESOLVER_OPTIONS))
_IDENTITY = "test"
_SETTINGS = {"maxmemory_bytes": 32 * 1024**2, "eviction_policy": "allkeys-lfu", "persistence": "none"}


class _ClosedOnFailure(redis_py.SSLConnection):
    """redis-py's TLS connection, which leaves no socket open if a server that is killed resets it."""

    def _wrap_socket_with_ssl(self, sock: Any) -> Any:
        with closed_on_failure():
            return super()._wrap_socket_with_ssl(sock)  # type: ignore[no-untyped-call]


@dataclass(frozen=True)
class Group:
    """The servers, by position, and what their clients need. User `administrator` may do anything."""

    prefix: str
    servers: list[Server]
    addresses: list[str]
    sentinels: list[str]
    sentinel_addresses: list[str]

    def redis_url(self, user: str, order: list[int] | None = None) -> str:
        """Return the URL with all servers, in this order."""
        first = self.servers[0]
        listed = ",".join(f"localhost:{self.servers[n].port}" for n in order or range(len(self.servers)))
        return (
            f"rediss://{user}:{quote(first.passwords[user])}@{listed}/0"
            f"?ssl_ca_certs={first.ca_file}&ssl_check_hostname=true"
        )

    @contextmanager
    def administrator(self, position: int) -> Iterator[Any]:
        """Connect to a server as user `administrator`, with short limits and no retries."""
        url = self.servers[position].redis_url("administrator")
        options: dict[str, Any] = {
            "socket_timeout": 2,
            "retry": Retry(NoBackoff(), 0),
            "driver_info": None,
            "connection_class": _ClosedOnFailure,
        }
        with redis_py.Redis.from_url(url, **options) as client:
            yield client

    @property
    def maxmemory_bytes(self) -> int:
        return int(str(_SETTINGS["maxmemory_bytes"]))

    def accepts_writes(self, position: int) -> bool:
        """Return whether a server accepts writes now."""
        try:
            with self.administrator(position) as client:
                client.unlink("gwl:test:fence")
        except redis_py.RedisError:
            return False
        return True

    def use_passwords(self, passwords: Mapping[str, str], accepted: Mapping[str, tuple[str, ...]]) -> None:
        """Change all files, reload the servers and restart the Sentinels one by one, as an `up` of a rotation does."""
        passwords, accepted = self.servers[0].passwords | passwords, self.accepted() | accepted
        for server, address in zip(self.servers, self.addresses, strict=True):
            _copy_files(server.container, _server_files(address, passwords, accepted))
            docker("exec", server.container, *redis.RELOAD)
        for container, address in zip(self.sentinels, self.sentinel_addresses, strict=True):
            _copy_files(container, _sentinel_files(address, passwords, accepted))
            docker("restart", container)
            wait_until(lambda each=container: has_quorum(each), START_SECONDS)  # type: ignore[misc]
        self.servers[0].passwords.update(passwords)

    def accepted(self) -> dict[str, tuple[str, ...]]:
        """Return the password of each user, as the only one that is accepted."""
        return {user: (password,) for user, password in self.servers[0].passwords.items()}

    def primary(self) -> int:
        """Wait until one server accepts writes and has all others as replicas, and return its position."""
        found: list[int] = []

        def is_complete() -> bool:
            found[:] = [n for n in range(len(self.servers)) if self.accepts_writes(n)]
            if len(found) != 1:
                return False
            with self.administrator(found[0]) as client:
                replicas = client.info("replication")
            online = [v for k, v in replicas.items() if k.startswith("slave") and v["state"] == "online"]
            return len(online) == len(self.servers) - 1

        wait_until(is_complete, START_SECONDS)
        return found[0]


@contextmanager
def redis_group(*, sentinels: int = replication.SENTINELS) -> Iterator[Group]:
    """Start a primary, its replicas and Sentinels."""
    name = f"gw-test-{uuid.uuid4().hex[:8]}"
    image = redis_image()
    authority = make_authority("groundwork tests")
    passwords = {user.name: uuid.uuid4().hex for user in (*redis_acl.REPLICATED_USERS, redis_acl.PEER)}
    passwords["administrator"] = uuid.uuid4().hex
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="gw-test-"))
        ca_file = Path(folder) / "ca.crt"
        ca_file.write_text(authority.certificate)
        subnet = _create_network(name)
        stack.callback(docker, "network", "rm", name)
        addresses = [f"{subnet}.{replication.FIRST_SERVER_ADDRESS + n}" for n in range(replication.SERVERS)]
        sentinel_addresses = [f"{subnet}.{replication.FIRST_SENTINEL_ADDRESS + n}" for n in range(sentinels)]
        group = Group(f"{name}-", [], addresses, [], sentinel_addresses)
        accepted = {user: (password,) for user, password in passwords.items()}
        for n, address in enumerate(addresses):
            files = _server_files(address, passwords, accepted) | _certificate(authority, address)
            container, port = f"{name}-{replication.SERVER_NAMES[n]}", free_port()
            start = replication.server_entrypoint(_IDENTITY, addresses[0] if n else None)
            stack.callback(docker, "rm", "--force", "--volumes", container)
            _run(container, name, address, image, files, start, [f"--publish=127.0.0.1:{port}:{redis.PORT}"])
            group.servers.append(Server(container, port, ca_file, authority, passwords))
        group.primary()
        for n, address in enumerate(sentinel_addresses):
            files = _sentinel_files(address, passwords, accepted) | _certificate(authority, address)
            container = f"{name}-{replication.SENTINEL_NAMES[n]}"
            stack.callback(docker, "rm", "--force", "--volumes", container)
            start = replication.sentinel_entrypoint(_IDENTITY, addresses[0])
            _run(container, name, address, image, files, start, [])
            group.sentinels.append(container)
        if sentinels:
            wait_until(lambda: all(map(has_quorum, group.sentinels)), 120)
        yield group


def ask_sentinel(container: str, command: str) -> str:
    """Return the answer of a Sentinel to SENTINEL `command` about the group, as user `monitor`."""
    script = (
        f"cd {redis.CONFIG_DIR}; printf 'AUTH monitor %s\\nSENTINEL {command} {replication.GROUP}\\n'"
        f' "$(cat monitor.password)" | redis-cli -p {replication.SENTINEL_PORT} --tls --cacert ca.crt | tail -n +2'
    )
    return docker("exec", container, "sh", "-c", script)


def has_quorum(sentinel: str) -> bool:
    """Return whether a Sentinel reaches enough others to authorize a failover."""
    try:
        return ask_sentinel(sentinel, "ckquorum").startswith("OK")
    except DockerError:
        return False


def _create_network(name: str) -> str:
    """Create a network, and return the first three numbers of its addresses."""
    for _ in range(50):
        # Stacks use 10.192.0.0/10.
        subnet = f"10.{random.randint(128, 190)}.{random.randint(0, 255)}"
        try:
            docker("network", "create", "--label", LABEL, "--subnet", f"{subnet}.0/24", name)
        except DockerError as error:
            if "overlap" not in str(error):
                raise
        else:
            return subnet
    raise AssertionError("no free subnet")


def _server_files(
    address: str, passwords: Mapping[str, str], accepted: Mapping[str, tuple[str, ...]]
) -> dict[str, str]:
    conf = replication.render_server_conf(
        address=address, replica_password=passwords["replica"], buffer_bytes=2**24
    )
    return {
        "redis.conf": redis.render_conf(**_SETTINGS),  # type: ignore[arg-type]
        redis.REPLICATION_FILE: conf + "min-replicas-to-write 1\n",
        "users.acl": _aclfile(passwords, accepted, redis_acl.REPLICATED_USERS),
        **{f"{user}.password": passwords[user] for user in ("monitor", "rotator")},
    }


def _sentinel_files(
    address: str, passwords: Mapping[str, str], accepted: Mapping[str, tuple[str, ...]]
) -> dict[str, str]:
    return {
        replication.SENTINEL_FILE: replication.render_sentinel_conf(
            address=address, sentinel_password=passwords["sentinel"], peer_password=passwords["peer"]
        ),
        "users.acl": _aclfile(passwords, accepted, redis_acl.SENTINEL_USERS),
        "monitor.password": passwords["monitor"],
    }


def _aclfile(
    passwords: Mapping[str, str],
    accepted: Mapping[str, tuple[str, ...]],
    users: Sequence[redis_acl.RedisUser],
) -> str:
    digest = hashlib.sha256(passwords["administrator"].encode()).hexdigest()
    return redis_acl.render_aclfile(accepted, users) + f"user administrator on #{digest} ~* &* +@all\n"


def _copy_files(container: str, files: dict[str, str]) -> None:
    copy_files(container, redis.CONFIG_DIR, {k: File(v, redis.UID, redis.GID) for k, v in files.items()})


def _certificate(authority: KeyPair, address: str) -> dict[str, str]:
    certificate = make_server_certificate(authority, ["localhost", "127.0.0.1", address])
    return {
        "ca.crt": authority.certificate,
        "server.crt": certificate.certificate,
        "server.key": certificate.private_key,
    }


def _run(
    container: str,
    network: str,
    address: str,
    image: str,
    files: dict[str, str],
    entrypoint: list[str],
    options: list[str],
) -> None:
    # Docker's init instead of the image's, because `--entrypoint` takes one word.
    program, *arguments = entrypoint[entrypoint.index("sh") :]
    docker(
        "create", "--name", container, "--label", LABEL, "--network", network, "--ip", address, *options,
        "--memory", "128m", "--memory-swap", "128m", "--pids-limit", "64", "--read-only", "--tmpfs", "/tmp",
        # An anonymous volume, which a restart keeps.
        "--volume", redis.CONFIG_DIR, *LOOKUPS, "--cap-drop", "ALL",
        "--security-opt", "no-new-privileges=true", "--init", "--entrypoint", program, image, *arguments,
    )  # fmt: skip
    _copy_files(container, files)
    docker("start", container)
