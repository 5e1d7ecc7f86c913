"""The data network: a bridge network whose containers can reach only each other."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pulumi
from pulumi import dynamic

from infra.docker import ownership
from infra.docker.engine import docker, inspect, label_options
from infra.dynamic import Provider
from infra.spec.checkout import Checkout

# The static addresses end at .52, which is in the upper half of a /26.
_LONGEST_DIVIDED_PREFIX = 25


@dataclass(frozen=True)
class DataNetworkArgs:
    checkout: Checkout
    stack: str
    subnet: str


class DataNetwork(pulumi.ComponentResource):
    """A network without egress that can still publish ports on 127.0.0.1.

    An `internal` network cannot publish ports, and a bridge without masquerading still lets one-way packets out.
    Therefore the containers' default gateway is an unused address of the subnet: packets to other networks are dropped
    because ARP does not resolve it. Published ports still work, because Docker's proxy connects from the first address
    of the subnet.
    """

    name: pulumi.Output[str]

    def __init__(
        self,
        name: str,
        args: DataNetworkArgs,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("groundwork:docker:DataNetwork", name, None, opts)
        network = Bridge(
            f"{name}-bridge",
            network_name=args.checkout.name(args.stack, "data"),
            subnet=ipaddress.IPv4Network(args.subnet),
            labels=ownership.labels(args.checkout, args.stack),
            opts=pulumi.ResourceOptions(parent=self, delete_before_replace=True),
        )
        self.name = network.name
        self.register_outputs({"name": self.name})


class BridgeProvider(Provider):
    """Creates a bridge network with the docker command; the Docker provider would take 2 s longer (docs/adr/0008)."""

    # Docker cannot change an existing network.
    replacing = frozenset({"name", "subnet", "gateway", "default_gateway", "options", "labels"})

    def create(self, props: dict[str, Any]) -> dynamic.CreateResult:
        network_id = docker(
            *("network", "create", "--driver", "bridge"),
            *("--subnet", props["subnet"], "--gateway", props["gateway"]),
            *_automatic_addresses(ipaddress.IPv4Network(props["subnet"])),
            *("--aux-address", f"DefaultGatewayIPv4={props['default_gateway']}"),
            *(f"--opt={key}={value}" for key, value in props["options"].items()),
            *label_options(props["labels"]),
            props["name"],
        ).strip()
        return dynamic.CreateResult(id_=network_id, outs=dict(props))

    def read(self, id_: str, props: dict[str, Any]) -> dynamic.ReadResult:
        """Return an empty id if the network was removed, so that after `pulumi refresh` the next `up` creates it."""
        return dynamic.ReadResult(id_ if inspect("network", id_) else "", dict(props))

    def delete(self, _id: str, _props: dict[str, Any]) -> None:
        if inspect("network", _id):
            docker("network", "rm", _id)


def _automatic_addresses(subnet: ipaddress.IPv4Network) -> list[str]:
    """Return the options by which Docker assigns only addresses of the subnet's upper half.

    The servers with static addresses are in the lower half. Docker reserves no address for a container that is stopped,
    so another container could get it, and the server could not start. A /26, the smallest subnet for replicas, is not
    divided: its static addresses are in both halves.
    """
    return (
        ["--ip-range", str(list(subnet.subnets())[1])] if subnet.prefixlen <= _LONGEST_DIVIDED_PREFIX else []
    )


class Bridge(dynamic.Resource, module="docker", name="Network"):
    """A bridge network whose containers get an unused address as their default gateway."""

    name: pulumi.Output[str]

    def __init__(
        self,
        resource_name: str,
        *,
        network_name: str,
        subnet: ipaddress.IPv4Network,
        labels: Mapping[str, str],
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        props = {
            "name": network_name,
            "subnet": str(subnet),
            "gateway": str(subnet[1]),
            # The last address before the broadcast address. Docker does not assign it to containers.
            "default_gateway": str(subnet[-2]),
            "options": {
                "com.docker.network.bridge.enable_ip_masquerade": "false",
                "com.docker.network.bridge.host_binding_ipv4": "127.0.0.1",
            },
            "labels": dict(labels),
        }
        super().__init__(BridgeProvider(), resource_name, props, opts)
