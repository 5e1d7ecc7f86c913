"""Security groups. Their rules refer to groups, never to addresses.

Everything that uses the data is in the group `application`: the stack's tasks, and the application. The groups of
Postgres, Redis, the access service and the endpoints allow connections only from this group.
"""

from __future__ import annotations

from dataclasses import dataclass

import pulumi
import pulumi_aws as aws

from infra.aws.site import AwsSite
from infra.spec import access, rds, redis

HTTPS = 443
_ANYWHERE = "0.0.0.0/0"
# The groups that the application's group may reach: group -> (port, description). EC2 refuses apostrophes in
# descriptions.
_REACHED = {
    "postgres": (rds.PORT, "Postgres"),
    "redis": (redis.PORT, "Redis"),
    "access": (access.PORT, "the access service"),
    "endpoints": (HTTPS, "the services of AWS"),
}


@dataclass(frozen=True)
class FirewallArgs:
    site: AwsSite
    vpc_id: pulumi.Input[str]


class Firewall(pulumi.ComponentResource):
    """The ids of the groups. Each rule is a separate resource, so that a preview shows which one changes."""

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
        """Allow connections from the application's group to a gateway endpoint, which has no security group."""
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
        """Allow HTTPS from the application's group to any address, for an existing VPC with its own route to AWS."""
        aws.vpc.SecurityGroupEgressRule(
            "application-to-aws",
            security_group_id=self.application,
            cidr_ipv4=_ANYWHERE,
            ip_protocol="tcp",
            from_port=HTTPS,
            to_port=HTTPS,
            description="To the services of AWS, by the route of the VPC",
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
            description="From the group application",
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
