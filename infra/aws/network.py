"""The VPC, with private subnets for tasks and isolated subnets for Postgres and Redis. There are no public subnets.

No subnet has a route to the internet; tasks reach AWS's services through VPC endpoints. An existing VPC is used without
changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pulumi
import pulumi_aws as aws

from infra.aws.site import AwsSite
from infra.settings.aws import items
from infra.spec.vpc import divide


@dataclass(frozen=True)
class NetworkArgs:
    site: AwsSite


class Network(pulumi.ComponentResource):
    """The ids of the VPC, of its private and isolated subnets, and of the private subnets' route tables."""

    vpc_id: pulumi.Output[str]
    private: list[pulumi.Output[str]]
    isolated: list[pulumi.Output[str]]
    route_tables: list[pulumi.Output[str]]

    def __init__(self, name: str, args: NetworkArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("groundwork:aws:Network", name, None, opts)
        settings = args.site.settings
        if settings.aws_vpc_id:
            self.vpc_id = pulumi.Output.from_input(settings.aws_vpc_id)
            self.private = _given(settings.aws_private_subnets)
            self.isolated = _given(settings.aws_isolated_subnets)
            self.route_tables = _given(settings.aws_route_tables)
        else:
            self._make(args.site)
        self.register_outputs({"vpcId": self.vpc_id, "private": self.private, "isolated": self.isolated})

    def _make(self, site: AwsSite) -> None:
        child = pulumi.ResourceOptions(parent=self)
        settings = site.settings
        vpc = aws.ec2.Vpc(
            "vpc",
            cidr_block=settings.aws_vpc_cidr,
            # Endpoints need both to answer under the services' public names.
            enable_dns_support=True,
            enable_dns_hostnames=True,
            tags=site.tags("vpc"),
            opts=child,
        )
        # Resources without a security group get the default one, so it allows no traffic.
        aws.ec2.DefaultSecurityGroup("default", vpc_id=vpc.id, tags=site.tags("unused"), opts=child)
        zones = settings.aws_zone_names
        cidrs = divide(settings.aws_vpc_cidr, len(zones))
        self.vpc_id = vpc.id
        self.private, self.route_tables = _subnets(
            site, "private", vpc.id, zones=zones, cidrs=cidrs.private, child=child
        )
        self.isolated, _ = _subnets(site, "isolated", vpc.id, zones=zones, cidrs=cidrs.isolated, child=child)


def _given(text: str) -> list[pulumi.Output[str]]:
    return [pulumi.Output.from_input(item) for item in items(text)]


def _subnets(
    site: AwsSite,
    kind: str,
    vpc_id: pulumi.Output[str],
    zones: Sequence[str],
    cidrs: Sequence[str],
    child: pulumi.ResourceOptions,
) -> tuple[list[pulumi.Output[str]], list[pulumi.Output[str]]]:
    """Create a subnet in each zone, and one route table for them, which has only the VPC's local route."""
    table = aws.ec2.RouteTable(kind, vpc_id=vpc_id, tags=site.tags(kind), opts=child)
    made = []
    for zone, cidr in zip(zones, cidrs, strict=True):
        name = f"{kind}-{zone[-1]}"
        subnet = aws.ec2.Subnet(
            name,
            vpc_id=vpc_id,
            availability_zone=zone,
            cidr_block=cidr,
            map_public_ip_on_launch=False,
            tags=site.tags(name),
            opts=child,
        )
        aws.ec2.RouteTableAssociation(name, subnet_id=subnet.id, route_table_id=table.id, opts=child)
        made.append(subnet.id)
    return made, [table.id]
