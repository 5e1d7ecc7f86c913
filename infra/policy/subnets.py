"""Checks of subnet groups: whether a subnet has a route to the internet. Only routes of the stack are known."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from infra.policy import resource_types as types
from infra.policy.requirement import must_name, outside, the_one, unknown
from infra.policy.resource import Resource, Resources
from infra.policy.rule import Check, Problem
from infra.policy.value import UNKNOWN, as_bool


def must_choose_group(property_: str, group_type: str) -> Check:
    """Require that a server's property names a subnet group other than the default one."""

    def check(server: Resource, resources: Resources) -> Iterator[Problem]:
        yield from must_name(property_, group_type, "must be set")(server, resources)
        if server.get(property_) == "default":
            yield Problem(property_, "is the default group of the default VPC")

    return check


def must_be_private(property_: str, group_type: str) -> Check:
    """Require that no subnet of the subnet group that a server's property names has a route to the internet."""

    def check(server: Resource, resources: Resources) -> Iterator[Problem]:
        if server.get(property_) is None:
            return
        group = the_one(resources.named_by(server, property_, group_type))
        if group is None:
            yield outside(property_, "the subnet group")
            return
        subnets = resources.all_named_by(group, "subnetIds", types.SUBNET)
        if not subnets.is_complete or not subnets.found:
            yield outside(property_, f"which subnets {group.name} has")
        for subnet in subnets.found:
            yield from _of_subnet(subnet, property_, resources)

    return check


def _of_subnet(subnet: Resource, property_: str, resources: Resources) -> Iterator[Problem]:
    public = as_bool(subnet.get("mapPublicIpOnLaunch"))
    if public is UNKNOWN:
        yield unknown(property_)
    elif public:
        yield Problem(property_, f"subnet {subnet.name} assigns public addresses")
    for reason in _ways_out(subnet, resources):
        if reason is UNKNOWN:
            yield outside(property_, f"where the routes of subnet {subnet.name} lead")
        else:
            yield Problem(property_, f"subnet {subnet.name} has a route to an internet gateway")


def _ways_out(subnet: Resource, resources: Resources) -> Iterator[object]:
    """Yield True for each of a subnet's routes to the internet, and UNKNOWN for each that may lead there."""
    associations = resources.naming(subnet, "subnetId", types.ASSOCIATION)
    if not associations.is_complete:
        yield UNKNOWN
        return
    if not associations.found:
        yield from _of_main_table(subnet, resources)
    for association in associations.found:
        table = resources.named_by(association, "routeTableId", types.ROUTE_TABLE, types.DEFAULT_ROUTE_TABLE)
        if not (table.is_complete and table.found):
            yield UNKNOWN
        for each in table.found:
            yield from _of_table(each, resources)


def _of_main_table(subnet: Resource, resources: Resources) -> Iterator[object]:
    """Check the VPC's main route table, which applies to a subnet without its own. In a new VPC it is only local."""
    vpc = resources.named_by(subnet, "vpcId", types.VPC)
    if not (vpc.is_complete and vpc.found) or resources.of(types.MAIN_ASSOCIATION):
        yield UNKNOWN
    for table in resources.of(types.DEFAULT_ROUTE_TABLE):
        yield from _of_table(table, resources)


def _of_table(table: Resource, resources: Resources) -> Iterator[object]:
    inline = table.get("routes")
    if inline is UNKNOWN:
        yield UNKNOWN
    for entry in inline if isinstance(inline, list) else []:
        if not isinstance(entry, Mapping):
            yield UNKNOWN
        elif leads := _leads_out(entry, table, "routes", resources):
            yield leads
    routes = resources.naming(table, "routeTableId", types.ROUTE)
    if not routes.is_complete:
        yield UNKNOWN
    for route in routes.found:
        if leads := _leads_out(route.properties, route, "gatewayId", resources):
            yield leads


def _leads_out(entry: Mapping[str, Any], owner: Resource, property_: str, resources: Resources) -> object:
    """Return True for a route to an internet gateway, UNKNOWN for one that may be, None for any other route."""
    gateway = entry.get("gatewayId")
    if gateway in (None, "", "local"):
        return None
    if isinstance(gateway, str):
        gateways = {r.id for r in resources.of(types.INTERNET_GATEWAY)}
        if gateway.startswith("igw-") or gateway in gateways:
            return True
        if gateway.startswith(("vgw-", "vpce-", "lgw-")):
            return None
    made_from = set(owner.dependencies.get(property_, ()))
    if made_from & {r.urn for r in resources.of(types.INTERNET_GATEWAY)}:
        return True
    return UNKNOWN
