"""Checks of security groups, which decide what can reach the servers."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from infra.policy import resource_types as types
from infra.policy.requirement import outside, unknown
from infra.policy.resource import Resource, Resources
from infra.policy.rule import Problem
from infra.policy.value import UNKNOWN, as_bool

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
# The resource types that allow access.
ALLOWING = (types.SECURITY_GROUP, types.DEFAULT_SECURITY_GROUP, types.SECURITY_GROUP_RULE, types.INGRESS_RULE)
# Type of a data store -> the property that names its security groups.
SERVERS = {
    types.RDS_INSTANCE: "vpcSecurityGroupIds",
    types.REDIS_GROUP: "securityGroupIds",
}
# The properties with which the three forms of a rule allow addresses, or lists of addresses.
_ADDRESSES = ("cidrBlocks", "ipv6CidrBlocks", "cidrIpv4", "cidrIpv6")
_LISTS = ("prefixListIds", "prefixListId")
_EVERYBODY = "0.0.0.0/0 or ::/0"


def closed_default_group(vpc: Resource, resources: Resources) -> Iterator[Problem]:
    """Require that the stack manages the VPC's default security group, and that the group has no rules."""
    groups = resources.naming(vpc, "vpcId", types.DEFAULT_SECURITY_GROUP)
    if not groups.is_complete:
        yield outside("defaultSecurityGroup", "whether the group belongs to this VPC")
    elif not groups.found:
        yield Problem("defaultSecurityGroup", "the default group is as AWS creates it: open to its members")
    for group in groups.found:
        for direction in ("ingress", "egress"):
            if group.get(direction) is UNKNOWN:
                yield unknown("defaultSecurityGroup")
            elif group.get(direction):
                yield Problem("defaultSecurityGroup", f"has {direction} rules")


def nobody_from_everywhere(group: Resource, resources: Resources) -> Iterator[Problem]:
    """Require that a security group or a rule does not allow every address, also not in several parts."""
    allowed: dict[int, list[Network]] = {4: [], 6: []}
    for property_, entry in _entries(group):
        if entry is UNKNOWN:
            yield unknown(property_)
            continue
        for address in _addresses(entry):
            if address is UNKNOWN:
                yield unknown(property_)
            elif (network := _network(address)) is not None and not _is_everybody(allowed[network.version]):
                allowed[network.version].append(network)
                if _is_everybody(allowed[network.version]):
                    yield Problem(property_, f"allows {_EVERYBODY}")


def application_alone(server: Resource, resources: Resources) -> Iterator[Problem]:
    """Require that a server's security groups accept only other security groups, and no addresses."""
    property_ = SERVERS[server.type]
    groups = resources.all_named_by(server, property_, types.SECURITY_GROUP)
    if not server.get(property_):
        yield Problem(property_, "must name security groups: the default is the VPC's default group")
    elif not groups.is_complete:
        yield outside(property_, "what its security groups allow")
    for group in groups.found:
        rules = resources.naming(group, "securityGroupId", types.SECURITY_GROUP_RULE, types.INGRESS_RULE)
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
        # Any addresses are a violation, so their values need not be known.
        yield Problem(property_, f"security group {group.name} allows addresses instead of a security group")
    if as_bool(entry.get("self")) is UNKNOWN:
        yield unknown(property_)
    elif as_bool(entry.get("self")):
        yield Problem(property_, f"security group {group.name} allows its own members")


def _entries(source: Resource) -> Iterator[tuple[str, Any]]:
    """Yield what a group or a rule allows, each with its property. The entry is UNKNOWN if it is not known."""
    if source.type in (types.SECURITY_GROUP, types.DEFAULT_SECURITY_GROUP):
        inline = source.get("ingress")
        if inline is UNKNOWN:
            yield "ingress", UNKNOWN
        for entry in inline if isinstance(inline, list) else []:
            yield "ingress", entry if isinstance(entry, Mapping) else UNKNOWN
    elif source.type == types.INGRESS_RULE or source.get("type") == "ingress":
        yield next((name for name in _ADDRESSES if source.get(name)), "type"), source.properties
    elif source.get("type") is UNKNOWN:
        yield "type", UNKNOWN


def _addresses(entry: Mapping[str, Any]) -> Iterator[Any]:
    for name in _ADDRESSES:
        value = entry.get(name)
        yield from value if isinstance(value, list) else () if value in (None, "") else (value,)


def _network(address: Any) -> Network | None:
    try:
        return ipaddress.ip_network(address, strict=False)
    except ValueError:
        return None


def _is_everybody(networks: Sequence[Any]) -> bool:
    """Return whether networks of one version contain all addresses together."""
    return any(each.prefixlen == 0 for each in ipaddress.collapse_addresses(networks))
