"""The VPC: private subnets for tasks, isolated ones for Postgres and Redis, and none that is public.

Nothing here has a route out: what tasks need of AWS they reach by VPC endpoints. An existing VPC is taken as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pulumi
import pulumi_aws as aws

from infra.aws.site import Site
from infra.settings.aws import items
from infra.spec.vpc import divide


@dataclass(frozen=True)
class NetworkArgs:
    site: Site


class Network(pulumi.ComponentResource):
    """`vpc_id`; `private` and `isolated` subnets' ids; `route_tables` of the private ones."""

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

    def _make(self, site: Site) -> None:
        child = pulumi.ResourceOptions(parent=self)
        settings = site.settings
        vpc = aws.ec2.Vpc(
            "vpc",
            cidr_block=settings.aws_vpc_cidr,
            # Both are needed for endpoints to answer under AWS's own names.
            enable_dns_support=True,
            enable_dns_hostnames=True,
            tags=site.tags("vpc"),
            opts=child,
        )
        # The group that everything without one would get: it lets nothing in and nothing out.
        aws.ec2.DefaultSecurityGroup("default", vpc_id=vpc.id, tags=site.tags("unused"), opts=child)
        zones = settings.aws_zone_names
        cidrs = divide(settings.aws_vpc_cidr, len(zones))
        self.vpc_id = vpc.id
        self.private, self.route_tables = _subnets(site, "private", vpc.id, zones, cidrs.private, child)
        self.isolated, _ = _subnets(site, "isolated", vpc.id, zones, cidrs.isolated, child)


def _given(text: str) -> list[pulumi.Output[str]]:
    return [pulumi.Output.from_input(item) for item in items(text)]


def _subnets(
    site: Site,
    kind: str,
    vpc_id: pulumi.Output[str],
    zones: Sequence[str],
    cidrs: Sequence[str],
    child: pulumi.ResourceOptions,
) -> tuple[list[pulumi.Output[str]], list[pulumi.Output[str]]]:
    """A subnet in each zone, and the one route table of the kind: it has the VPC's own route and no other."""
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
