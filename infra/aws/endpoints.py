"""VPC endpoints, through which tasks reach the AWS services that they use, and no others, without the internet."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import pulumi
import pulumi_aws as aws

from infra.aws.firewall import Firewall
from infra.aws.site import AwsSite

# For pulling images, writing logs and reading the administrator's password. Signing IAM tokens needs no service.
SERVICES = ("ecr.api", "ecr.dkr", "logs", "secretsmanager")


@dataclass(frozen=True)
class EndpointsArgs:
    site: AwsSite
    vpc_id: pulumi.Input[str]
    subnets: Sequence[pulumi.Input[str]]
    route_tables: Sequence[pulumi.Input[str]]
    firewall: Firewall


class Endpoints(pulumi.ComponentResource):
    """An interface endpoint for each service, and a gateway endpoint to S3, where ECR stores image layers."""

    def __init__(self, name: str, args: EndpointsArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("groundwork:aws:Endpoints", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        site = args.site
        for service in SERVICES:
            aws.ec2.VpcEndpoint(
                service,
                vpc_id=args.vpc_id,
                vpc_endpoint_type="Interface",
                service_name=f"com.amazonaws.{site.region}.{service}",
                subnet_ids=list(args.subnets),
                security_group_ids=[args.firewall.endpoints],
                private_dns_enabled=True,
                policy=site.account.apply(_own_account),
                tags=site.tags(service),
                opts=child,
            )
        s3 = aws.ec2.VpcEndpoint(
            "s3",
            vpc_id=args.vpc_id,
            vpc_endpoint_type="Gateway",
            service_name=f"com.amazonaws.{site.region}.s3",
            route_table_ids=list(args.route_tables),
            policy=site.partition.apply(lambda partition: _image_layers(partition, site.region)),
            tags=site.tags("s3"),
            opts=child,
        )
        args.firewall.allow_prefix_list("s3", s3.prefix_list_id)
        self.register_outputs({})


def _own_account(account: str) -> str:
    """Return an endpoint policy for principals of this account only.

    So the endpoint cannot be used to send data to another account with that account's credentials.
    """
    return json.dumps(
        {
            "Version": "2012-10-17",
            "Statement": [
                {
                    "Effect": "Allow",
                    "Principal": "*",
                    "Action": "*",
                    "Resource": "*",
                    "Condition": {"StringEquals": {"aws:PrincipalAccount": account}},
                }
            ],
        }
    )


def _image_layers(partition: str, region: str) -> str:
    """Return an endpoint policy that only allows reading ECR's bucket of image layers, all that tasks need from S3."""
    return json.dumps(
        {
            "Version": "2012-10-17",
            "Statement": [
                {
                    "Effect": "Allow",
                    "Principal": "*",
                    "Action": "s3:GetObject",
                    "Resource": f"arn:{partition}:s3:::prod-{region}-starport-layer-bucket/*",
                }
            ],
        }
    )
