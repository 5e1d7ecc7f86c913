"""Nothing leaves the data network, shown by counting packets that arrive at a host outside it."""

from __future__ import annotations

import os
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from infra.docker.engine import docker
from infra.spec import monitoring
from tests.infra.conftest import LiveStack

# Set aside for tests of network devices (RFC 2544); both ends are ours.
_OUTSIDE, _NEAR = "198.18.255.2", "198.18.255.1"
_SEND = f"for i in 1 2 3 4 5; do echo probe > /dev/udp/{_OUTSIDE}/9; done"


@dataclass(frozen=True)
class Outside:
    """A host of the test's own, behind a veth pair, that counts what reaches it."""

    namespace: str

    def packets(self) -> int:
        listing = _run("ip", "netns", "exec", self.namespace, "iptables", "-nvxL", "INPUT")
        counts = [line.split()[0] for line in listing.splitlines() if "udp" in line]
        return int(counts[0])


@pytest.fixture(scope="module")
def outside() -> Iterator[Outside]:
    if os.geteuid() != 0 or not (shutil.which("ip") and shutil.which("iptables")):
        pytest.skip("a network namespace needs root, iproute2 and iptables")
    name = f"gwt{uuid.uuid4().hex[:6]}"
    _run("ip", "netns", "add", name)
    try:
        _run("ip", "link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", name)
        _run("ip", "addr", "add", f"{_NEAR}/30", "dev", name)
        _run("ip", "link", "set", name, "up")
        inside = ("ip", "netns", "exec", name)
        _run(*inside, "ip", "addr", "add", f"{_OUTSIDE}/30", "dev", "eth0")
        _run(*inside, "ip", "link", "set", "eth0", "up")
        _run(*inside, "iptables", "-A", "INPUT", "-p", "udp", "-d", _OUTSIDE, "--dport", "9")
        yield Outside(name)
    finally:
        subprocess.run(["ip", "link", "del", name], check=False, capture_output=True)
        _run("ip", "netns", "del", name)


@pytest.mark.parametrize("service", ["postgres", "redis", "access", *monitoring.SERVICES])
def test_no_packet_of_a_service_reaches_a_host_outside(
    live_stack: LiveStack, outside: Outside, service: str
) -> None:
    before = outside.packets()
    live_stack.host(service).run("bash -c %s", _SEND)
    assert outside.packets() == before


@pytest.mark.parametrize("masquerade", ["true", "false"])
def test_a_bridge_with_a_gateway_lets_packets_out_masqueraded_or_not(
    outside: Outside, masquerade: str
) -> None:
    """The negative control: the same packets from an ordinary bridge do arrive."""
    name = f"gw-test-{uuid.uuid4().hex[:8]}"
    option = f"com.docker.network.bridge.enable_ip_masquerade={masquerade}"
    docker("network", "create", "--opt", option, name)
    before = outside.packets()
    try:
        docker("run", "--rm", "--network", name, "debian:bookworm-slim", "bash", "-c", _SEND)
    finally:
        docker("network", "rm", name)
    assert outside.packets() > before


def _run(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout
