"""No packet leaves the data network. The tests count packets that arrive at a host outside it."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address, ip_network

import pytest

from infra import outputs
from infra.docker.engine import docker, inspect
from infra.images.context import BASE_IMAGE
from infra.spec import monitoring
from tests.infra.conftest import LiveStack
from tests.promises import promise

SERVICES = ("postgres", "redis", "access", *monitoring.SERVICES)
# Reserved for tests of network devices (RFC 2544). Both ends belong to the test.
_OUTSIDE, _NEAR = "198.18.255.2", "198.18.255.1"
_SEND = f"for i in 1 2 3 4 5; do echo probe > /dev/udp/{_OUTSIDE}/9; done"


@dataclass(frozen=True)
class Outside:
    """A host behind a veth pair that counts the packets that reach it."""

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


@promise("no packet of a container reaches a host outside")
def test_no_packet_of_a_service_reaches_an_outside_host(live_stack: LiveStack, outside: Outside) -> None:
    for service in SERVICES:
        before = outside.packets()
        live_stack.host(service).run("bash -c %s", _SEND)
        assert outside.packets() == before, service


@promise("no packet of a container reaches a host outside", control=True)
@pytest.mark.parametrize("masquerade", ["true", "false"])
def test_bridge_with_a_gateway_lets_packets_out_with_and_without_masquerading(
    outside: Outside, masquerade: str
) -> None:
    """Negative control: the same packets from an ordinary bridge arrive."""
    name = f"gw-test-{uuid.uuid4().hex[:8]}"
    option = f"com.docker.network.bridge.enable_ip_masquerade={masquerade}"
    docker("network", "create", "--opt", option, name)
    before = outside.packets()
    try:
        docker("run", "--rm", "--init", "--network", name, BASE_IMAGE, "bash", "-c", _SEND)
    finally:
        docker("network", "rm", name)
    assert outside.packets() > before


@promise("of the host, containers reach only what listens on all addresses")
def test_a_container_reaches_what_listens_on_all_of_the_hosts_addresses_and_nothing_else(
    live_stack: LiveStack,
) -> None:
    """docs/security.md says so. Docker cannot close this without a firewall rule of the host."""
    (network,) = inspect("network", live_stack.outputs[outputs.CONTAINERS]["network"])
    subnet = ip_network(network["IPAM"]["Config"][0]["Subnet"])
    (bridge,) = [
        address["local"]
        for link in json.loads(_run("ip", "-json", "address"))
        for address in link["addr_info"]
        if address["family"] == "inet" and ip_address(address["local"]) in subnet
    ]
    with (
        socket.create_server(("0.0.0.0", 0), backlog=len(SERVICES)) as on_all,
        socket.create_server(("127.0.0.1", 0)) as on_one,
    ):
        opened, closed = (listener.getsockname()[1] for listener in (on_all, on_one))
        connect = f"for port in {opened} {closed}; do (exec 3<>/dev/tcp/{bridge}/$port) && echo $port; done"
        for service in SERVICES:
            reached = live_stack.host(service).run("bash -c %s", connect).stdout.split()
            assert reached == [str(opened)], service


def _run(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout
