"""The network: no way in but for the application's group, no way out but to AWS's endpoints, nothing public."""

from __future__ import annotations

import json
from ipaddress import IPv4Network

import pytest

from infra.aws.endpoints import SERVICES
from infra.spec import rds
from tests.aws_outputs import ACCOUNT
from tests.unit.infra.aws.program import TYPES, document, one
from tests.unit.infra.program import Program, all_texts

PUBLIC = ("0.0.0.0/0", "::/0")
NETWORKING = ("aws:ec2/internetGateway", "aws:ec2/natGateway", "aws:ec2/route:", "aws:ec2/eip")


def test_there_are_a_private_and_an_isolated_subnet_in_each_of_three_zones(program: Program) -> None:
    zones = {name: r.inputs["availabilityZone"] for name, r in program.of_type(TYPES["subnet"]).items()}
    assert zones == {
        f"{kind}-{letter}": f"eu-central-1{letter}" for kind in ("private", "isolated") for letter in "abc"
    }


def test_subnets_lie_inside_the_vpc_and_apart(program: Program) -> None:
    vpc = IPv4Network(one(program, "vpc")["cidrBlock"])
    networks = [IPv4Network(r.inputs["cidrBlock"]) for r in program.of_type(TYPES["subnet"]).values()]
    assert all(network.subnet_of(vpc) for network in networks)
    assert not any(a.overlaps(b) for a in networks for b in networks if a is not b)


def test_no_subnet_gives_public_addresses_and_nothing_leads_to_the_internet(program: Program) -> None:
    assert not any(r.inputs["mapPublicIpOnLaunch"] for r in program.of_type(TYPES["subnet"]).values())
    assert not [r.urn for r in program.resources if r.type.startswith(NETWORKING)]


def test_no_rule_names_an_address(program: Program) -> None:
    rules = program.of_type(TYPES["ingress"]) | program.of_type(TYPES["egress"])
    for rule in rules.values():
        assert not {"cidrIpv4", "cidrIpv6"} & rule.inputs.keys(), rule.urn
    for resource in program.resources:
        assert not [text for text in all_texts(resource.inputs) if text in PUBLIC], resource.urn


def test_no_group_has_rules_of_its_own_inline(program: Program) -> None:
    for group in program.of_type(TYPES["security group"]).values():
        assert not {"ingress", "egress"} & group.inputs.keys(), group.urn


@pytest.mark.parametrize(
    ("group", "port"), [("postgres", rds.PORT), ("redis", 6379), ("access", 8080), ("endpoints", 443)]
)
def test_a_group_lets_in_the_applications_group_at_one_port_and_nobody_else(
    program: Program, group: str, port: int
) -> None:
    rules = [
        r.inputs
        for r in program.of_type(TYPES["ingress"]).values()
        if r.inputs["securityGroupId"] == f"{group}-id"
    ]
    assert [(r["referencedSecurityGroupId"], r["fromPort"], r["toPort"], r["ipProtocol"]) for r in rules] == [
        ("application-id", port, port, "tcp")
    ]


def test_the_applications_group_lets_nobody_in(program: Program) -> None:
    groups = {r.inputs["securityGroupId"] for r in program.of_type(TYPES["ingress"]).values()}
    assert "application-id" not in groups


def test_only_the_applications_group_gets_out_and_only_to_what_it_uses(program: Program) -> None:
    rules = [r.inputs for r in program.of_type(TYPES["egress"]).values()]
    assert {r["securityGroupId"] for r in rules} == {"application-id"}
    reached = {(r.get("referencedSecurityGroupId") or r["prefixListId"], r["fromPort"]) for r in rules}
    assert reached == {
        ("postgres-id", rds.PORT),
        ("redis-id", 6379),
        ("access-id", 8080),
        ("endpoints-id", 443),
        ("pl-s3", 443),
    }


def test_the_vpcs_default_group_is_emptied(program: Program) -> None:
    (group,) = program.of_type("aws:ec2/defaultSecurityGroup:DefaultSecurityGroup").values()
    assert not {"ingress", "egress"} & group.inputs.keys()


def test_tasks_reach_what_they_need_of_aws_by_endpoints(program: Program) -> None:
    endpoints = program.of_type(TYPES["endpoint"])
    assert set(endpoints) == {*SERVICES, "s3"}
    for service in SERVICES:
        inputs = endpoints[service].inputs
        assert inputs["vpcEndpointType"] == "Interface"
        assert inputs["privateDnsEnabled"] is True
        assert inputs["securityGroupIds"] == ["endpoints-id"]
        assert len(inputs["subnetIds"]) == 3
        (statement,) = document(inputs["policy"])
        assert statement["Condition"] == {"StringEquals": {"aws:PrincipalAccount": ACCOUNT}}
    gateway = endpoints["s3"].inputs
    assert gateway["vpcEndpointType"] == "Gateway"
    (statement,) = document(gateway["policy"])
    assert statement["Action"] == "s3:GetObject"
    assert statement["Resource"].endswith(":s3:::prod-eu-central-1-starport-layer-bucket/*")


def test_an_existing_vpc_is_taken_as_it_is(existing_vpc: Program) -> None:
    assert not existing_vpc.of_type(TYPES["vpc"])
    assert not existing_vpc.of_type(TYPES["subnet"])
    assert not existing_vpc.of_type("aws:ec2/defaultSecurityGroup:DefaultSecurityGroup")
    group = one(existing_vpc, "security group", "postgres")
    assert group["vpcId"] == "vpc-0123456789abcdef0"
    (subnets,) = existing_vpc.of_type("aws:rds/subnetGroup:SubnetGroup").values()
    assert subnets.inputs["subnetIds"] == ["subnet-00000003", "subnet-00000004"]
    service = one(existing_vpc, "service")["networkConfiguration"]
    assert service["subnets"] == ["subnet-00000001", "subnet-00000002"]
    assert one(existing_vpc, "endpoint", "s3")["routeTableIds"] == ["rtb-00000001"]


def test_a_vpc_with_its_own_way_to_aws_lets_the_tasks_take_it(own_way_out: Program) -> None:
    assert not own_way_out.of_type(TYPES["endpoint"])
    rules = [r.inputs for r in own_way_out.of_type(TYPES["egress"]).values() if "cidrIpv4" in r.inputs]
    assert [(r["securityGroupId"], r["cidrIpv4"], r["fromPort"], r["toPort"]) for r in rules] == [
        ("application-id", "0.0.0.0/0", 443, 443)
    ]
    assert not [r for r in own_way_out.of_type(TYPES["ingress"]).values() if "cidrIpv4" in r.inputs]


def test_servers_are_in_the_isolated_subnets_and_tasks_in_the_private_ones(program: Program) -> None:
    isolated = [f"isolated-{letter}-id" for letter in "abc"]
    private = [f"private-{letter}-id" for letter in "abc"]
    for type_ in ("aws:rds/subnetGroup:SubnetGroup", "aws:elasticache/subnetGroup:SubnetGroup"):
        (group,) = program.of_type(type_).values()
        assert group.inputs["subnetIds"] == isolated, group.urn
    assert one(program, "service")["networkConfiguration"]["subnets"] == private
    assert one(program, "task run")["subnets"] == private


def test_every_resource_of_aws_hangs_below_a_component_and_is_named(program: Program) -> None:
    for resource in program.resources:
        if resource.type.startswith("aws:"):
            assert "groundwork:aws:" in resource.urn, resource.urn
    for group in program.of_type(TYPES["security group"]).values():
        assert group.inputs["tags"]["Name"] == f"groundwork-unit-{group.name}"
        assert json.dumps(group.inputs["description"]).isascii()
