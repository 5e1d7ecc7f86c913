"""The temporary server: its properties, and that it leaves nothing behind, however its process ends."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_network

import psycopg
import pytest
from redis import Redis

from infra.docker.engine import docker, inspect
from infra.images.context import BASE_IMAGE
from ops.errors import Exit, OpsError
from ops.servers.scratch_server import ScratchServer, scratch_redis, scratch_server
from tests.containers import wait_until
from tests.promises import promise

_RUN = """
import time
from ops.servers.scratch_server import scratch_server
with scratch_server(on_disk=True) as server:
    print(server.container, flush=True)
    time.sleep(600)
"""


def _containers(name: str) -> str:
    return docker("ps", "--all", "--quiet", "--filter", f"name={name}")


@promise("a rehearsal that was stopped leaves nothing behind")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_nothing_stays_when_its_process_is_ended(docker_engine: None, number: signal.Signals) -> None:
    with subprocess.Popen([sys.executable, "-c", _RUN], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        name = process.stdout.readline().strip()
        assert len(_containers(name).split()) == 2
        volumes = {
            mount["Name"]
            for container in inspect("container", name, f"{name}-relay")
            for mount in container["Mounts"]
            if mount["Type"] == "volume"
        }
        # The data, and the socket.
        assert len(volumes) == 2
        assert volumes <= set(docker("volume", "ls", "--quiet").split())
        process.send_signal(number)
    wait_until(lambda: not _containers(name), 60)
    wait_until(lambda: volumes.isdisjoint(docker("volume", "ls", "--quiet").split()), 60)


def test_its_logins_are_the_specifications_and_its_superuser_is_not_reached_from_outside(
    docker_engine: None,
) -> None:
    with scratch_server() as server:
        with psycopg.connect(server.make_database("one")) as connection:
            assert connection.execute("SELECT session_user, current_user").fetchone() == ("migrator", "owner")
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            psycopg.connect(server.url("one", "postgres"))
    assert not _containers(server.container)


@contextmanager
def _listening() -> Iterator[tuple[socket.socket, str, int]]:
    """A service of this machine that a container on Docker's default network reaches. Yield its address there, too."""
    (bridge,) = inspect("network", "bridge")
    (config,) = bridge["IPAM"]["Config"]
    # An engine that made this network itself names its gateway, the first address, only after a restart.
    gateway = config.get("Gateway") or str(next(ip_network(config["Subnet"]).hosts()))
    with socket.create_server(("0.0.0.0", 0)) as service:
        service.settimeout(0)
        yield service, gateway, service.getsockname()[1]


def _has_connection(service: socket.socket) -> bool:
    try:
        service.accept()[0].close()
    except BlockingIOError:
        return False
    return True


@promise("a temporary server has no network, so migrations that run there reach no other server")
@pytest.mark.parametrize("on_disk", [True, False])
def test_sql_on_it_reaches_no_service_of_this_machine_and_no_other_network(
    docker_engine: None, on_disk: bool
) -> None:
    with _listening() as (service, address, port), scratch_server(on_disk=on_disk) as server:
        for statement in (
            f"SELECT dblink_connect('host={address} port={port} connect_timeout=5')",
            f"COPY (SELECT 1) TO PROGRAM 'bash -c \"echo > /dev/tcp/{address}/{port}\"'",
        ):
            with psycopg.connect(server.superuser_url(), autocommit=True) as connection:
                connection.execute("CREATE EXTENSION IF NOT EXISTS dblink")
                with pytest.raises(psycopg.Error):
                    connection.execute(statement.encode())
            assert not _has_connection(service), statement
        assert _interfaces(server) == {"lo"}


def test_the_temporary_redis_reaches_no_other_server(docker_engine: None) -> None:
    with _listening() as (service, address, port), scratch_redis() as url:
        redis = Redis.from_url(url)
        redis.replicaof(address, port)
        wait_until(lambda: redis.info("replication")["master_link_down_since_seconds"] != 0, 60)
        assert not _has_connection(service)


@promise(
    "a temporary server has no network, so migrations that run there reach no other server", control=True
)
def test_a_container_on_the_default_network_reaches_a_service_of_this_machine(docker_engine: None) -> None:
    """Negative control: the same connection from an ordinary container arrives."""
    with _listening() as (service, address, port):
        connect = f"echo > /dev/tcp/{address}/{port}"
        docker("run", "--rm", "--init", BASE_IMAGE, "bash", "-c", connect)
        assert _has_connection(service)


def _interfaces(server: ScratchServer) -> set[str]:
    lines = docker("exec", server.container, "cat", "/proc/net/dev").splitlines()[2:]
    return {line.split(":")[0].strip() for line in lines}


def test_clients_and_the_server_may_both_send_more_than_the_sockets_hold(docker_engine: None) -> None:
    """A relay that sends in one direction at a time would wait forever."""
    size = 5_000_000
    with scratch_server() as server, psycopg.connect(server.superuser_url()) as connection:
        with connection.pipeline():
            cursors = [connection.execute("SELECT %s::text", ["x" * size]) for _ in range(4)]
        assert [len(cursor.fetchone()[0]) for cursor in cursors] == [size] * 4  # type: ignore[index]


def test_a_client_that_is_gone_ends_its_session(docker_engine: None) -> None:
    with scratch_server() as server:
        client = psycopg.connect(server.superuser_url())
        pid = client.info.backend_pid
        client.close()
        wait_until(lambda: not server.psql(f"SELECT FROM pg_stat_activity WHERE pid = {pid}").strip(), 60)


def test_without_an_engine_it_is_one_line_and_6(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:1")
    with pytest.raises(OpsError, match="no Docker engine answers for DOCKER_HOST") as caught:
        with scratch_server():
            pass
    assert caught.value.exit_code == Exit.UNREACHABLE
    assert "\n" not in str(caught.value)
