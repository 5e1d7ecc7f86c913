"""Checks for the network settings of a stack on AWS: region, zones, and a new or existing VPC."""

from __future__ import annotations

import re
from ipaddress import IPv4Network

from infra.settings.aws import AwsSettings, items
from infra.settings.checks import PRIVATE_NETWORKS, require_match, require_network
from infra.settings.declaration import full
from infra.spec import vpc
from infra.spec.errors import SettingError

# A VPC may also have the addresses of carrier-grade NAT (RFC 6598).
_NETWORKS = (*PRIVATE_NETWORKS, IPv4Network("100.64.0.0/10"))
# The settings for an existing VPC: (key, pattern of an item, minimum number of items, example of an item).
_OF_EXISTING_VPC = (
    ("awsPrivateSubnets", r"subnet-[0-9a-f]{8,17}", 2, "subnet-0123456789abcdef0"),
    ("awsIsolatedSubnets", r"subnet-[0-9a-f]{8,17}", 2, "subnet-0123456789abcdef0"),
    ("awsRouteTables", r"rtb-[0-9a-f]{8,17}", 1, "rtb-0123456789abcdef0"),
)


def check(settings: AwsSettings) -> None:
    """Raise SettingError for the first of these settings that is invalid."""
    if not settings.aws_region:
        raise SettingError(full("awsRegion"), "it is not set", "set it to a region, like eu-central-1")
    require_match("awsRegion", settings.aws_region, r"[a-z]{2}(-[a-z]+)+-[0-9]", "region", "eu-central-1")
    if re.match(r"cn-|[a-z]{2}-iso", settings.aws_region):
        raise SettingError(
            full("awsRegion"),
            f"AWS's services have other names in {settings.aws_region}, which groundwork does not support",
            "use a region outside of China and of AWS's isolated partitions, like eu-central-1",
        )
    _check_zones(settings)
    if settings.aws_vpc_id:
        _check_existing_vpc(settings)
    else:
        _check_new_vpc(settings)


def _check_zones(settings: AwsSettings) -> None:
    letters = items(settings.aws_zones)
    if len(set(letters)) < len(letters) or any(len(item) != 1 or not "a" <= item <= "f" for item in letters):
        raise SettingError(
            full("awsZones"), f"{settings.aws_zones!r} is not a list of zone letters", "write it like a,b,c"
        )
    if not 2 <= len(letters) <= 4:
        raise SettingError(
            full("awsZones"), f"{len(letters)} zones are too few or too many", "set two to four, like a,b,c"
        )


def _check_new_vpc(settings: AwsSettings) -> None:
    values = _of_existing_vpc(settings)
    for key, value in values.items():
        if value:
            raise SettingError(
                full(key),
                f"it is for an existing VPC, but {full('awsVpcId')} is not set",
                f"remove it, or set {full('awsVpcId')}",
            )
    if not settings.aws_vpc_endpoints:
        raise SettingError(
            full("awsVpcEndpoints"),
            "a new VPC has no other route to AWS's services",
            f"set it to true, or set {full('awsVpcId')} to a VPC that has a route",
        )
    cidr = require_network("awsVpcCidr", settings.aws_vpc_cidr, "10.60.0.0/16")
    zones = len(items(settings.aws_zones))
    longest = vpc.longest_prefix(zones)
    if not any(map(cidr.subnet_of, _NETWORKS)) or cidr.prefixlen < vpc.SHORTEST_PREFIX:
        raise SettingError(
            full("awsVpcCidr"),
            f"{cidr} is public, reserved or larger than AWS allows",
            f"use a private network of /{vpc.SHORTEST_PREFIX} to /{longest}, like 10.60.0.0/16",
        )
    if cidr.prefixlen > longest:
        raise SettingError(
            full("awsVpcCidr"),
            f"{cidr} is too small for {2 * zones} subnets of {vpc.LEAST_ADDRESSES} addresses",
            f"use a network of /{longest} or larger, or fewer {full('awsZones')}",
        )


def _check_existing_vpc(settings: AwsSettings) -> None:
    require_match("awsVpcId", settings.aws_vpc_id, r"vpc-[0-9a-f]{8,17}", "VPC id", "vpc-0123456789abcdef0")
    _refuse_without_effect(settings)
    values = _of_existing_vpc(settings)
    for key, pattern, least, example in _OF_EXISTING_VPC:
        found = items(values[key])
        if key == "awsRouteTables" and not settings.aws_vpc_endpoints:
            least = 0
        for item in found:
            require_match(key, item, pattern, "id", example)
        if len(set(found)) < least:
            raise SettingError(
                full(key),
                f"{full('awsVpcId')} is set, which needs at least {least} here, but there are {len(set(found))}",
                f"write a comma-separated list of ids in different zones, like {example},..."
                if least > 1
                else f"write it like {example}, or set {full('awsVpcEndpoints')} to false",
            )
    both = set(items(settings.aws_private_subnets)) & set(items(settings.aws_isolated_subnets))
    if both:
        raise SettingError(
            full("awsIsolatedSubnets"),
            f"{', '.join(sorted(both))} is in {full('awsPrivateSubnets')} too",
            "use separate subnets for Postgres and Redis",
        )


def _refuse_without_effect(settings: AwsSettings) -> None:
    """Refuse settings that have no effect together with an existing VPC."""
    of_new_vpc = (
        ("awsVpcCidr", settings.aws_vpc_cidr, AwsSettings.aws_vpc_cidr),
        ("awsZones", settings.aws_zones, AwsSettings.aws_zones),
    )
    for key, value, default in of_new_vpc:
        if value != default:
            raise SettingError(
                full(key),
                f"it is for a new VPC, but {full('awsVpcId')} names an existing one",
                f"remove it; the zones are those of {full('awsPrivateSubnets')}",
            )
    if settings.aws_route_tables and not settings.aws_vpc_endpoints:
        raise SettingError(
            full("awsRouteTables"),
            f"it is for endpoints, but {full('awsVpcEndpoints')} is false",
            f"remove it, or set {full('awsVpcEndpoints')} to true",
        )


def _of_existing_vpc(settings: AwsSettings) -> dict[str, str]:
    return {
        "awsPrivateSubnets": settings.aws_private_subnets,
        "awsIsolatedSubnets": settings.aws_isolated_subnets,
        "awsRouteTables": settings.aws_route_tables,
    }
