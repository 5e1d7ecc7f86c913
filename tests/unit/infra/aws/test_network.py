"""The network on AWS: access only from the application's group, egress only to endpoints, nothing public."""

from __future__ import annotations

import json
from ipaddress import IPv4Network

from infra.aws.endpoints import SERVICES
from infra.spec import rds
from tests.aws_outputs import ACCOUNT
from tests.cases import in_case
from tests.promises import promise
from tests.unit.infra.aws.program import TYPES, document, one
from tests.unit.infra.program import Program, all_texts

PUBLIC = ("0.0.0.0/0", "::/0")
NETWORKING = ("aws:ec2/internetGateway", "aws:ec2/natGateway", "aws:ec2/route:", "aws:ec2/eip")


def test_each_of_three_zones_has_a_private_and_an_isolated_subnet(program: Program) -> None:
    zones = {name: r.inputs["availabilityZone"] for name, r in program.of_type(TYPES["subnet"]).items()}
    assert zones == {
        f"{kind}-{letter}": f"eu-central-1{letter}" for kind in ("private", "isolated") for letter in "abc"
    }


def test_subnets_are_inside_the_vpc_and_do_not_overlap(program: Program) -> None:
    vpc = IPv4Network(one(program, "vpc")["cidrBlock"])
    networks = [IPv4Network(r.inputs["cidrBlock"]) for r in program.of_type(TYPES["subnet"]).values()]
    assert all(network.subnet_of(vpc) for network in networks)
    assert not any(a.overlaps(b) for a in networks for b in networks if a is not b)


@promise(
    "on AWS there is no route to the internet, and only the application's security group reaches the servers"
)
def test_no_subnet_assigns_public_addresses_or_has_a_route_to_the_internet(program: Program) -> None:
    assert not any(r.inputs["mapPublicIpOnLaunch"] for r in program.of_type(TYPES["subnet"]).values())
    assert not [r.urn for r in program.resources if r.type.startswith(NETWORKING)]


def test_no_rule_contains_an_address(program: Program) -> None:
    rules = program.of_type(TYPES["ingress"]) | program.of_type(TYPES["egress"])
    for rule in rules.values():
        assert not {"cidrIpv4", "cidrIpv6"} & rule.inputs.keys(), rule.urn
    for resource in program.resources:
        assert not [text for text in all_texts(resource.inputs) if text in PUBLIC], resource.urn


def test_no_group_has_inline_rules(program: Program) -> None:
    for group in program.of_type(TYPES["security group"]).values():
        assert not {"ingress", "egress"} & group.inputs.keys(), group.urn


@promise(
    "on AWS there is no route to the internet, and only the application's security group reaches the servers"
)
def test_a_group_allows_only_the_applications_group_on_one_port(program: Program) -> None:
    cases: list[tuple[str, int]] = [
        ("postgres", rds.PORT),
        ("redis", 6379),
        ("access", 8080),
        ("endpoints", 443),
    ]
    for group, port in cases:
        with in_case(group, port):
            rules = [
                r.inputs
                for r in program.of_type(TYPES["ingress"]).values()
                if r.inputs["securityGroupId"] == f"{group}-id"
            ]
            assert [
                (r["referencedSecurityGroupId"], r["fromPort"], r["toPort"], r["ipProtocol"]) for r in rules
            ] == [("application-id", port, port, "tcp")]


def test_the_applications_group_allows_no_ingress(program: Program) -> None:
    groups = {r.inputs["securityGroupId"] for r in program.of_type(TYPES["ingress"]).values()}
    assert "application-id" not in groups


def test_only_the_applications_group_has_egress_and_only_to_what_it_uses(program: Program) -> None:
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


def test_the_vpcs_default_group_is_empty(program: Program) -> None:
    (group,) = program.of_type("aws:ec2/defaultSecurityGroup:DefaultSecurityGroup").values()
    assert not {"ingress", "egress"} & group.inputs.keys()


def test_tasks_reach_aws_services_through_endpoints(program: Program) -> None:
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


def test_an_existing_vpc_is_not_changed(existing_vpc: Program) -> None:
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


def test_tasks_can_use_an_existing_vpcs_own_route_to_aws(own_way_out: Program) -> None:
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


def test_every_aws_resource_belongs_to_a_component_and_has_a_name(program: Program) -> None:
    for resource in program.resources:
        if resource.type.startswith("aws:"):
            assert "groundwork:aws:" in resource.urn, resource.urn
    for group in program.of_type(TYPES["security group"]).values():
        assert group.inputs["tags"]["Name"] == f"groundwork-unit-{group.name}"
        assert json.dumps(group.inputs["description"]).isascii()
