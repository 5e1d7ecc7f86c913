"""The data network: a bridge whose containers reach one another and nothing else."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pulumi
from pulumi import dynamic

from infra.docker.engine import docker, inspect
from infra.dynamic import Provider
from infra.spec.world import World


@dataclass(frozen=True)
class DataNetworkArgs:
    world: World
    stack: str
    subnet: str


class DataNetwork(pulumi.ComponentResource):
    """A network without egress that can still publish ports on 127.0.0.1.

    An `internal` network cannot publish, and a bridge without masquerading still lets one-way packets out.
    So the containers' default gateway is an address of the subnet that nobody has: what is not for the
    subnet dies at ARP. Published ports are not touched by that: Docker's proxy comes from the subnet's own
    first address.
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
            network_name=args.world.name(args.stack, "data"),
            subnet=ipaddress.IPv4Network(args.subnet),
            labels=args.world.labels(args.stack),
            opts=pulumi.ResourceOptions(parent=self, delete_before_replace=True),
        )
        self.name = network.name
        self.register_outputs({"name": self.name})


class BridgeProvider(Provider):
    """Makes a bridge network by Docker's command: the Docker provider waits 2 s for each (docs/adr/0008)."""

    # Docker changes nothing about a network that exists.
    replacing = frozenset({"name", "subnet", "gateway", "default_gateway", "options", "labels"})

    def create(self, props: dict[str, Any]) -> dynamic.CreateResult:
        network_id = docker(
            *("network", "create", "--driver", "bridge"),
            *("--subnet", props["subnet"], "--gateway", props["gateway"]),
            *("--aux-address", f"DefaultGatewayIPv4={props['default_gateway']}"),
            *(f"--opt={key}={value}" for key, value in props["options"].items()),
            *(f"--label={key}={value}" for key, value in props["labels"].items()),
            props["name"],
        ).strip()
        return dynamic.CreateResult(id_=network_id, outs=dict(props))

    def read(self, id_: str, props: dict[str, Any]) -> dynamic.ReadResult:
        """For `pulumi refresh`: a network that somebody removed is gone, and the next `up` makes it."""
        return dynamic.ReadResult(id_ if inspect("network", id_) else "", dict(props))

    def delete(self, _id: str, _props: dict[str, Any]) -> None:
        if inspect("network", _id):
            docker("network", "rm", _id)


class Bridge(dynamic.Resource, module="docker", name="Network"):
    """A bridge network whose containers get an address that nobody has as their default gateway."""

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
            # The last address before broadcast: Docker keeps it out of what it hands to containers.
            "default_gateway": str(subnet[-2]),
            "options": {
                "com.docker.network.bridge.enable_ip_masquerade": "false",
                "com.docker.network.bridge.host_binding_ipv4": "127.0.0.1",
            },
            "labels": dict(labels),
        }
        super().__init__(BridgeProvider(), resource_name, props, opts)
