"""The faults of `groundwork chaos` on a real server: each takes effect, is undone, and most end automatically."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from zlib import crc32

import pytest

from infra.docker.engine import DockerError, docker, inspect, label_options, remove_container
from infra.spec.checkout import STATE_LABEL
from infra.spec.redis import DATA_DIR
from ops.chaos import network
from ops.chaos.faults import FaultInjector
from ops.chaos.journal import ActiveFault
from ops.chaos.plan import FILL, FREEZE, KILL, PARTITION, RESTART, SLOW
from tests import containers
from tests.containers import Server, build_image, redis_image, wait_until
from tests.promises import promise

pytestmark = pytest.mark.usefixtures("docker_engine")
_LABELS = {STATE_LABEL: "test", "groundwork.test": str(os.getpid())}
# Longer than a test: what ends earlier was undone.
_LONG, _SHORT = 600, 1
_WAIT_SECONDS = 120.0


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with containers.redis_server(keeps_port=True) as server:
        yield server


@pytest.fixture
def injector(server: Server) -> FaultInjector:
    (found,) = inspect("container", server.container)
    gateway = found["NetworkSettings"]["Gateway"]
    return FaultInjector(_LABELS, lambda: build_image("chaos"), lambda service: [gateway], lambda _: None)


@pytest.fixture
def idle() -> Iterator[str]:
    """A container of Redis's image without a server, and with its data in a volume that outlives it."""
    name = f"gw-test-{os.getpid()}-idle"
    options = (
        *label_options(_LABELS),
        "--volume",
        f"{name}-data:{DATA_DIR}",
        "--init",
        "--entrypoint",
        "sleep",
    )
    docker("run", "--detach", "--name", name, *options, redis_image(), "infinity")
    try:
        yield name
    finally:
        for container in (name, f"{name}-data-chaos"):
            remove_container(container, _LABELS[STATE_LABEL])
        docker("volume", "rm", "--force", f"{name}-data")


def active(server: Server, fault: str) -> ActiveFault:
    # Each fault has a marker of its own, as in a run.
    return ActiveFault(f"{crc32(fault.encode()):08x}", fault, "redis", server.container, time.time())


def network_helper(server: Server) -> str:
    return network.helper_of(server.container, _LABELS).name


def is_frozen(server: Server) -> bool:
    listed = docker("top", server.container, "-eo", "pid,stat,args").splitlines()
    (state,) = (line.split()[1] for line in listed if "redis-server" in line and "tini" not in line)
    return state.startswith("T")


def is_reached(server: Server) -> bool:
    """Return whether the server sends anything, for example the refusal of a connection without TLS."""
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.settimeout(0.5)
        try:
            connection.sendall(b"PING\r\n")
            connection.recv(1)
        except TimeoutError:
            return False
        except ConnectionError:
            pass
        return True


def fill_file_exists(server: Server) -> bool:
    return "groundwork-chaos.fill" in docker("exec", server.container, "ls", DATA_DIR)


def network_rules(server: Server) -> str:
    """Return the routes and queues of a container that chaos has made."""
    script = "ip route show type blackhole; tc qdisc show dev eth0 | grep -E 'netem|tbf' || true"
    shared = ("--network", f"container:{server.container}", "--cap-drop", "ALL")
    return docker("run", "--rm", *shared, build_image("chaos"), "-c", script)


@promise("chaos undoes each of its faults")
def test_a_frozen_server_is_thawed(server: Server, injector: FaultInjector) -> None:
    fault = active(server, FREEZE)
    injector.cause(fault, _LONG)
    wait_until(lambda: is_frozen(server), _WAIT_SECONDS)
    injector.undo(fault)
    assert not is_frozen(server)
    injector.undo(fault)
    assert server.answers()


@promise("chaos undoes each of its faults")
@pytest.mark.parametrize("fault", [KILL, RESTART])
def test_a_server_that_does_not_run_is_started(server: Server, injector: FaultInjector, fault: str) -> None:
    started = inspect("container", server.container)[0]["State"]["StartedAt"]
    injector.cause(active(server, fault), _LONG)
    is_running = inspect("container", server.container)[0]["State"]["Running"]
    assert is_running == (fault == RESTART)
    injector.undo(active(server, fault))
    wait_until(server.answers, _WAIT_SECONDS)
    assert inspect("container", server.container)[0]["State"]["StartedAt"] != started


@promise("chaos undoes each of its faults")
def test_a_partition_is_undone_without_its_helper(server: Server, injector: FaultInjector) -> None:
    fault = active(server, PARTITION)
    injector.cause(fault, _LONG)
    assert not is_reached(server)
    # Nothing is left that could undo it when its time is over.
    docker("kill", network_helper(server))
    assert not is_reached(server)
    injector.undo(fault)
    wait_until(lambda: is_reached(server), _WAIT_SECONDS)
    assert inspect("container", network_helper(server)) == []


@promise("chaos undoes each of its faults")
@promise("only the helper of a network fault has a capability, NET_ADMIN, and it mounts nothing")
def test_a_slow_network_is_undone(server: Server, injector: FaultInjector) -> None:
    fault = active(server, SLOW)
    assert injector.cause(fault, _LONG) in ("delay of 200 ms", "256 kbit/s")
    (helper,) = inspect("container", network_helper(server))
    host = helper["HostConfig"]
    assert (host["CapDrop"], host["CapAdd"], host["Privileged"]) == (["ALL"], ["CAP_NET_ADMIN"], False)
    assert host["ReadonlyRootfs"]
    assert (host["Binds"], helper["Mounts"]) == (None, [])
    assert helper["Config"]["Labels"].items() >= _LABELS.items()
    injector.undo(fault)
    assert network_rules(server) == ""


@promise("chaos undoes each of its faults")
def test_a_filled_disk_is_emptied(server: Server, injector: FaultInjector) -> None:
    fault = active(server, FILL)
    assert injector.cause(fault, _LONG).endswith(" MB")
    wait_until(lambda: fill_file_exists(server), _WAIT_SECONDS)
    injector.undo(fault)
    assert not fill_file_exists(server)


@promise("a frozen server, a network fault and a full disk end automatically")
def test_faults_end_when_their_time_is_over(server: Server, injector: FaultInjector) -> None:
    helper = network_helper(server)
    for fault in (FILL, PARTITION, FREEZE):
        injector.cause(active(server, fault), _SHORT)
    wait_until(lambda: not is_frozen(server) and not fill_file_exists(server), _WAIT_SECONDS)
    wait_until(lambda: not inspect("container", helper)[0]["State"]["Running"], _WAIT_SECONDS)
    assert network_rules(server) == ""
    for fault in (FILL, PARTITION):
        injector.undo(active(server, fault))


@promise("a frozen server, a network fault and a full disk end automatically")
def test_a_full_disk_ends_although_its_server_has_died(server: Server, injector: FaultInjector) -> None:
    recorded: list[ActiveFault] = []
    replace(injector, record=recorded.append).cause(active(server, FILL), 5)
    docker("kill", server.container)
    docker("wait", f"{recorded[-1].volume}-chaos")
    docker("start", server.container)
    wait_until(server.answers, _WAIT_SECONDS)
    assert not fill_file_exists(server)
    injector.undo(active(server, FILL))


@promise("chaos undoes each of its faults")
def test_the_file_of_a_full_disk_is_deleted_although_its_container_was_removed(
    idle: str, injector: FaultInjector
) -> None:
    recorded: list[ActiveFault] = []
    fault = ActiveFault("0a1b2c3d", FILL, "redis", idle, time.time())
    replace(injector, record=recorded.append).cause(fault, _LONG)
    for container in (idle, f"{idle}-data-chaos"):
        docker("rm", "--force", "--volumes", container)
    look = ("run", "--rm", "--volume", f"{idle}-data:/mnt", build_image("chaos"), "-c", "ls /mnt")
    assert "groundwork-chaos.fill" in docker(*look)
    injector.undo(recorded[-1])
    assert docker(*look) == ""


@pytest.mark.parametrize(
    ("fault", "obstacle", "reason"),
    [
        (FREEZE, "mkdir /tmp/groundwork-chaos-0a1b2c3d", "[Dd]irectory"),
        (FILL, f"mkdir {DATA_DIR}/groundwork-chaos.fill", "fallocate"),
    ],
)
def test_a_fault_that_does_not_take_effect_fails(
    idle: str, injector: FaultInjector, fault: str, obstacle: str, reason: str
) -> None:
    docker("exec", idle, "sh", "-c", obstacle)
    with pytest.raises(DockerError, match=reason):
        injector.cause(ActiveFault("0a1b2c3d", fault, "redis", idle, time.time()), _LONG)


def test_undoing_a_fault_of_a_removed_container_does_nothing(injector: FaultInjector) -> None:
    for fault in (FREEZE, KILL, PARTITION, FILL):
        injector.undo(ActiveFault("0a1b2c3d", fault, "redis", "gw-test-no-such-container", 0))
