"""The data network in a real engine: which addresses Docker gives to containers without a static one."""

from __future__ import annotations

import secrets
from ipaddress import IPv4Address, IPv4Network

import pytest

from infra.docker.engine import docker, inspect
from infra.docker.network import BridgeProvider
from infra.images.context import BASE_IMAGE
from infra.spec.redis_replication import FIRST_SENTINEL_ADDRESS
from tests.promises import promise
from tests.redis_group import LOOKUPS


@pytest.mark.parametrize(("size", "is_divided"), [(25, True), (26, False)])
def test_a_container_does_not_get_the_address_of_a_stopped_server(
    docker_engine: None, size: int, is_divided: bool
) -> None:
    name = f"gw-test-{secrets.token_hex(4)}"
    # In TEST-NET-2, which no other network has.
    subnet = IPv4Network(f"198.51.100.0/{size}")
    props = {
        "name": name,
        "subnet": str(subnet),
        "gateway": str(subnet[1]),
        "default_gateway": str(subnet[-2]),
        "options": {},
        "labels": {"groundwork.test": name},
    }
    network = BridgeProvider().create(props).id
    assert network is not None
    try:
        container = docker("run", "--detach", "--network", name, BASE_IMAGE, "sleep", "60").strip()
        try:
            (found,) = inspect("container", container)
            address = IPv4Address(found["NetworkSettings"]["Networks"][name]["IPAddress"])
        finally:
            docker("rm", "--force", container)
    finally:
        BridgeProvider().delete(network, props)
    assert address in list(subnet.subnets())[1 if is_divided else 0]
    # The three Sentinels have the last static addresses.
    assert not is_divided or address > subnet[FIRST_SENTINEL_ADDRESS + 2]


@promise("the lookup of a stopped server's name ends before a scrape does")
def test_a_lookup_of_a_name_that_nobody_has_ends(docker_engine: None) -> None:
    name = f"gw-test-{secrets.token_hex(4)}"
    docker("network", "create", "--internal", "--label", f"groundwork.test={name}", name)
    try:
        # A scrape ends after 10 s. Without the options, `timeout` ends the lookup with 124.
        lookup = "timeout 10 getent hosts gone || echo $?"
        ended = docker("run", "--rm", "--init", "--network", name, *LOOKUPS, BASE_IMAGE, "sh", "-c", lookup)
        assert ended.strip() == "2"
    finally:
        docker("network", "rm", name)
