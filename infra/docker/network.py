"""The data network: a bridge whose containers reach one another and nothing else."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

import pulumi
import pulumi_docker as docker

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
        subnet = ipaddress.IPv4Network(args.subnet)
        network = docker.Network(
            f"{name}-bridge",
            name=args.world.name(args.stack, "data"),
            driver="bridge",
            ipam_configs=[
                docker.NetworkIpamConfigArgs(
                    subnet=str(subnet),
                    gateway=str(subnet[1]),
                    # The last address before broadcast: Docker keeps it out of what it hands to containers.
                    aux_address={"DefaultGatewayIPv4": str(subnet[-2])},
                )
            ],
            options={
                "com.docker.network.bridge.enable_ip_masquerade": "false",
                "com.docker.network.bridge.host_binding_ipv4": "127.0.0.1",
            },
            labels=[
                docker.NetworkLabelArgs(label=label, value=value)
                for label, value in args.world.labels(args.stack).items()
            ],
            opts=pulumi.ResourceOptions(parent=self, delete_before_replace=True),
        )
        self.name = network.name
        self.register_outputs({"name": self.name})
