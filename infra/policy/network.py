"""Rules for security groups, which decide what can reach the servers."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping
from typing import Any

from infra.policy.example import made
from infra.policy.expectation import outside, unknown
from infra.policy.resource import Resource, Resources
from infra.policy.rule import Problem, Severity, rule
from infra.policy.subnets import VPC
from infra.policy.value import UNKNOWN, as_bool

GROUP = "aws:ec2/securityGroup:SecurityGroup"
DEFAULT_GROUP = "aws:ec2/defaultSecurityGroup:DefaultSecurityGroup"
GROUP_RULE = "aws:ec2/securityGroupRule:SecurityGroupRule"
INGRESS_RULE = "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule"
# Type of a data store -> the property that names its security groups.
SERVERS = {
    "aws:rds/instance:Instance": "vpcSecurityGroupIds",
    "aws:elasticache/replicationGroup:ReplicationGroup": "securityGroupIds",
}
# The properties with which the three forms of a rule allow addresses, or lists of addresses.
_ADDRESSES = ("cidrBlocks", "ipv6CidrBlocks", "cidrIpv4", "cidrIpv6")
_LISTS = ("prefixListIds", "prefixListId")
_EVERYBODY = "0.0.0.0/0 or ::/0"


def _instance(**properties: Any) -> Resource:
    return made("aws:rds/instance:Instance", "postgres", **properties)


def _ingress(**properties: Any) -> Resource:
    return made(INGRESS_RULE, "ingress", securityGroupId="data-id", **properties)


@rule(
    "EC2.2",
    "A VPC's default security group lets nothing in or out",
    Severity.HIGH,
    on=VPC,
    fix="create a DefaultSecurityGroup for the VPC, without ingress and egress",
    good=[made(VPC, "vpc"), made(DEFAULT_GROUP, "default", vpcId="vpc-id", ingress=[], egress=[])],
    bad=[
        [made(VPC, "vpc")],
        [made(VPC, "vpc"), made(DEFAULT_GROUP, "default", vpcId="vpc-id", ingress=[{"self": True}])],
        [
            made(VPC, "vpc"),
            made(DEFAULT_GROUP, "default", vpcId="vpc-id", egress=[{"cidrBlocks": ["10.0.0.0/8"]}]),
        ],
    ],
)
def closed_default_group(vpc: Resource, resources: Resources) -> Iterator[Problem]:
    groups = resources.naming(vpc, "vpcId", DEFAULT_GROUP)
    if not groups.is_complete:
        yield outside("defaultSecurityGroup", "whether the group belongs to this VPC")
    elif not groups.found:
        yield Problem("defaultSecurityGroup", "the default group is as AWS creates it: open to its members")
    for group in groups.found:
        for direction in ("ingress", "egress"):
            if group.get(direction) is UNKNOWN:
                yield unknown("defaultSecurityGroup")
            elif group.get(direction):
                yield Problem("defaultSecurityGroup", f"has {direction}")


@rule(
    "EC2.18",
    "No security group allows access from any address",
    Severity.HIGH,
    on=(GROUP, DEFAULT_GROUP, GROUP_RULE, INGRESS_RULE),
    fix=f"allow a security group or the addresses of a network, never {_EVERYBODY}",
    good=[
        made(GROUP, "group", ingress=[{"securityGroups": ["sg-1"], "fromPort": 5433, "toPort": 5433}]),
        made(GROUP_RULE, "rule", type="ingress", cidrBlocks=["10.0.0.0/16"]),
        _ingress(cidrIpv4="10.0.0.0/16"),
    ],
    bad=[
        [made(GROUP, "group", ingress=[{"cidrBlocks": ["10.0.0.0/8", "0.0.0.0/0"]}])],
        [made(GROUP, "group", ingress=[{"ipv6CidrBlocks": ["::/0"]}])],
        [made(GROUP_RULE, "rule", type="ingress", cidrBlocks=["0.0.0.0/0"])],
        [_ingress(cidrIpv4="0.0.0.0/0")],
        [_ingress(cidrIpv6="0::0/0")],
    ],
    alone=True,
)
def nobody_from_everywhere(group: Resource, resources: Resources) -> Iterator[Problem]:
    for property_, entry in _entries(group):
        if entry is UNKNOWN:
            yield unknown(property_)
            continue
        for address in _addresses(entry):
            if address is UNKNOWN:
                yield unknown(property_)
            elif _is_everybody(address):
                yield Problem(property_, f"allows {_EVERYBODY}")


@rule(
    "EC2.19",
    "Data stores are reachable only from security groups, not from addresses",
    Severity.CRITICAL,
    on=tuple(SERVERS),
    fix="allow security groups in the servers' security group, and no addresses",
    good=[
        _instance(vpcSecurityGroupIds=["data-id"]),
        made(GROUP, "data", ingress=[]),
        _ingress(referencedSecurityGroupId="application-id"),
    ],
    bad=[
        [_instance()],
        [_instance(vpcSecurityGroupIds=["data-id"]), made(GROUP, "data"), _ingress(cidrIpv4="10.0.0.0/16")],
        [
            _instance(vpcSecurityGroupIds=["data-id"]),
            made(GROUP, "data", ingress=[{"cidrBlocks": ["10.0.0.0/16"]}]),
        ],
        [_instance(vpcSecurityGroupIds=["data-id"]), made(GROUP, "data", ingress=[{"self": True}])],
        [_instance(vpcSecurityGroupIds=["data-id"]), made(GROUP, "data"), _ingress(prefixListId="pl-1")],
    ],
)
def application_alone(server: Resource, resources: Resources) -> Iterator[Problem]:
    property_ = SERVERS[server.type]
    groups = resources.all_named_by(server, property_, GROUP)
    if not server.get(property_):
        yield Problem(property_, "must name security groups: the default is the VPC's default group")
    elif not groups.is_complete:
        yield outside(property_, "what its security groups allow")
    for group in groups.found:
        rules = resources.naming(group, "securityGroupId", GROUP_RULE, INGRESS_RULE)
        if not rules.is_complete:
            yield outside(property_, f"what security group {group.name} allows")
        for source in (group, *rules.found):
            for _, entry in _entries(source):
                if entry is UNKNOWN:
                    yield outside(property_, f"what security group {group.name} allows")
                    continue
                yield from _of_group_alone(entry, property_, group)


def _of_group_alone(entry: Mapping[str, Any], property_: str, group: Resource) -> Iterator[Problem]:
    if any(entry.get(name) for name in (*_ADDRESSES, *_LISTS)):
        # A violation for any addresses, known or not.
        yield Problem(property_, f"security group {group.name} allows addresses instead of a security group")
    if as_bool(entry.get("self")) is UNKNOWN:
        yield unknown(property_)
    elif as_bool(entry.get("self")):
        yield Problem(property_, f"security group {group.name} allows its own members")


def _entries(source: Resource) -> Iterator[tuple[str, Any]]:
    """Yield what a group or a rule allows, each with its property. The entry is UNKNOWN if it is not known."""
    if source.type in (GROUP, DEFAULT_GROUP):
        inline = source.get("ingress")
        if inline is UNKNOWN:
            yield "ingress", UNKNOWN
        for entry in inline if isinstance(inline, list) else []:
            yield "ingress", entry if isinstance(entry, Mapping) else UNKNOWN
    elif source.type == INGRESS_RULE or source.get("type") == "ingress":
        yield next((name for name in _ADDRESSES if source.get(name)), "type"), source.properties
    elif source.get("type") is UNKNOWN:
        yield "type", UNKNOWN


def _addresses(entry: Mapping[str, Any]) -> Iterator[Any]:
    for name in _ADDRESSES:
        value = entry.get(name)
        yield from value if isinstance(value, list) else () if value in (None, "") else (value,)


def _is_everybody(address: Any) -> bool:
    try:
        return ipaddress.ip_network(address, strict=False).prefixlen == 0
    except ValueError:
        return False
