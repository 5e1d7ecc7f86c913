"""What the network needs: EC2."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from tests.unit.infra.aws.iam.identities import NEW, OURS, arn
from tests.unit.infra.aws.iam.need import Inputs, Need, Table, each, need, read
from tests.unit.infra.aws.program import EXISTING_VPC

_GIVEN = ",".join(EXISTING_VPC.values())
_GIVEN_TABLE = "rtb-00000001"


def _ec2(actions: str, resource: str, context: dict[str, str] = OURS) -> Iterator[Need]:
    yield from each("ec2", actions, resource, context)


def _created(action: str, kind: str) -> Iterator[Need]:
    """Yield the creation of an EC2 resource, with the tags that it gets."""
    yield from _ec2(action, f"{kind}/*", NEW)
    yield from _ec2("CreateTags", f"{kind}/*", NEW | {"ec2:CreateAction": action})
    yield from _ec2("CreateTags DeleteTags", f"{kind}/x-1", NEW | OURS)


def _parent(action: str, kind: str, identifier: str) -> Iterator[Need]:
    """Yield the permission that a creation needs on an existing resource: one of this stack, or a given one."""
    given = identifier in _GIVEN or identifier == _GIVEN_TABLE
    yield from _ec2(action, f"{kind}/{identifier}", NEW if given else NEW | OURS)


def _default_group(_: Inputs) -> Iterator[Need]:
    # AWS creates it with the VPC, without tags.
    for action in ("RevokeSecurityGroupIngress", "RevokeSecurityGroupEgress"):
        yield need(f"ec2:{action}", arn("ec2", "security-group/sg-default"), set_up=True)
    yield need("ec2:CreateTags", arn("ec2", "security-group/sg-default"), NEW, set_up=True)


def _route_table(i: Inputs) -> Iterator[Need]:
    yield from _created("CreateRouteTable", "route-table")
    yield from _parent("CreateRouteTable", "vpc", i["vpcId"])
    yield from _ec2("DeleteRouteTable", "route-table/rtb-1")
    yield from read("ec2:DescribeRouteTables")


def _association(_: Inputs) -> Iterator[Need]:
    for resource in ("route-table/rtb-1", "subnet/subnet-1"):
        yield from _ec2("AssociateRouteTable ReplaceRouteTableAssociation DisassociateRouteTable", resource)


def _security_group(i: Inputs) -> Iterator[Need]:
    yield from _created("CreateSecurityGroup", "security-group")
    yield from _parent("CreateSecurityGroup", "vpc", i["vpcId"])
    # The provider removes the rule with which AWS creates a group.
    yield from _ec2("RevokeSecurityGroupEgress DeleteSecurityGroup", "security-group/sg-1")
    yield from read("ec2:DescribeSecurityGroups", "ec2:DescribeNetworkInterfaces")


def _subnet(i: Inputs) -> Iterator[Need]:
    yield from _created("CreateSubnet", "subnet")
    yield from _parent("CreateSubnet", "vpc", i["vpcId"])
    yield from _ec2("ModifySubnetAttribute DeleteSubnet", "subnet/subnet-1")
    yield from read("ec2:DescribeSubnets")


def _vpc(_: Inputs) -> Iterator[Need]:
    yield from _created("CreateVpc", "vpc")
    yield from _ec2("ModifyVpcAttribute DeleteVpc", "vpc/vpc-1")
    yield from read("ec2:DescribeVpcs", "ec2:DescribeVpcAttribute", "ec2:DescribeNetworkAcls")


def _endpoint(i: Inputs) -> Iterator[Need]:
    yield from _created("CreateVpcEndpoint", "vpc-endpoint")
    for kind, identifiers in (
        ("vpc", [i["vpcId"]]),
        ("subnet", i.get("subnetIds", [])),
        ("route-table", i.get("routeTableIds", [])),
        ("security-group", i.get("securityGroupIds", [])),
    ):
        for identifier in identifiers:
            yield from _parent("CreateVpcEndpoint", kind, identifier)
            yield from _parent("ModifyVpcEndpoint", kind, identifier)
    yield from _ec2("ModifyVpcEndpoint DeleteVpcEndpoints", "vpc-endpoint/vpce-1")
    yield from read("ec2:DescribeVpcEndpoints", "ec2:DescribePrefixLists")


def _rule(action: str) -> Callable[[Inputs], Iterator[Need]]:
    def needs(_: Inputs) -> Iterator[Need]:
        yield from _ec2(f"Authorize{action}", "security-group/sg-1", OURS | NEW)
        yield from _created(f"Authorize{action}", "security-group-rule")
        # Some versions of the provider tag a rule in a second request.
        yield from _ec2("CreateTags", "security-group-rule/sgr-1", NEW)
        for resource in ("security-group/sg-1", "security-group-rule/sgr-1"):
            yield from _ec2("ModifySecurityGroupRules", resource)
        yield from _ec2(f"Revoke{action}", "security-group/sg-1")
        yield from read("ec2:DescribeSecurityGroupRules")

    return needs


TABLE: Table = {
    "aws:ec2/defaultSecurityGroup:DefaultSecurityGroup": _default_group,
    "aws:ec2/routeTable:RouteTable": _route_table,
    "aws:ec2/routeTableAssociation:RouteTableAssociation": _association,
    "aws:ec2/securityGroup:SecurityGroup": _security_group,
    "aws:ec2/subnet:Subnet": _subnet,
    "aws:ec2/vpc:Vpc": _vpc,
    "aws:ec2/vpcEndpoint:VpcEndpoint": _endpoint,
    "aws:vpc/securityGroupEgressRule:SecurityGroupEgressRule": _rule("SecurityGroupEgress"),
    "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule": _rule("SecurityGroupIngress"),
}
