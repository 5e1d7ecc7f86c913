"""Security groups: who reaches whom, by group and never by address.

`application` is worn by whatever uses the data: the tasks here, and the application behind them. Postgres, Redis,
the access service and the endpoints let in nobody else.
"""

from __future__ import annotations

from dataclasses import dataclass

import pulumi
import pulumi_aws as aws

from infra.aws.site import Site
from infra.spec import access, rds, redis

HTTPS = 443
_ANYWHERE = "0.0.0.0/0"
# What the application's group may reach, and at which port: group -> (port, what it is).
_REACHED = {
    "postgres": (rds.PORT, "Postgres"),
    "redis": (redis.PORT, "Redis"),
    "access": (access.PORT, "the access service"),
    "endpoints": (HTTPS, "AWS's services"),
}


@dataclass(frozen=True)
class FirewallArgs:
    site: Site
    vpc_id: pulumi.Input[str]


class Firewall(pulumi.ComponentResource):
    """The groups' ids. Each rule is a resource of its own, so that a preview names the one that changes."""

    application: pulumi.Output[str]
    postgres: pulumi.Output[str]
    redis: pulumi.Output[str]
    access: pulumi.Output[str]
    endpoints: pulumi.Output[str]

    def __init__(self, name: str, args: FirewallArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("groundwork:aws:Firewall", name, None, opts)
        self._site, self._vpc_id = args.site, args.vpc_id
        self.application = self._group("application", "Whatever uses the data of this stack")
        reached = {
            group: self._group(group, f"Lets the application reach {what}")
            for group, (_, what) in _REACHED.items()
        }
        self.postgres, self.redis = reached["postgres"], reached["redis"]
        self.access, self.endpoints = reached["access"], reached["endpoints"]
        for group, (port, what) in _REACHED.items():
            self._allow(group, reached[group], port, what)
        self.register_outputs({"application": self.application})

    def allow_prefix_list(self, name: str, prefix_list: pulumi.Input[str]) -> None:
        """Let the application's group out to a gateway endpoint, which has no group."""
        aws.vpc.SecurityGroupEgressRule(
            f"application-to-{name}",
            security_group_id=self.application,
            prefix_list_id=prefix_list,
            ip_protocol="tcp",
            from_port=HTTPS,
            to_port=HTTPS,
            description=f"To {name}",
            opts=pulumi.ResourceOptions(parent=self),
        )

    def allow_https(self) -> None:
        """Let the application's group out by HTTPS: to AWS by a VPC's own way, whose groups nobody here knows."""
        aws.vpc.SecurityGroupEgressRule(
            "application-to-aws",
            security_group_id=self.application,
            cidr_ipv4=_ANYWHERE,
            ip_protocol="tcp",
            from_port=HTTPS,
            to_port=HTTPS,
            description="To AWS's services, by the VPC's own way",
            opts=pulumi.ResourceOptions(parent=self),
        )

    def _group(self, name: str, description: str) -> pulumi.Output[str]:
        group = aws.ec2.SecurityGroup(
            name,
            vpc_id=self._vpc_id,
            description=description,
            tags=self._site.tags(name),
            opts=pulumi.ResourceOptions(parent=self),
        )
        return group.id

    def _allow(self, name: str, group: pulumi.Output[str], port: int, what: str) -> None:
        child = pulumi.ResourceOptions(parent=self)
        aws.vpc.SecurityGroupIngressRule(
            f"{name}-from-application",
            security_group_id=group,
            referenced_security_group_id=self.application,
            ip_protocol="tcp",
            from_port=port,
            to_port=port,
            description="From the application's group",
            opts=child,
        )
        aws.vpc.SecurityGroupEgressRule(
            f"application-to-{name}",
            security_group_id=self.application,
            referenced_security_group_id=group,
            ip_protocol="tcp",
            from_port=port,
            to_port=port,
            description=f"To {what}",
            opts=child,
        )
