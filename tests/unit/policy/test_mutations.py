"""A compliant stack, with each property that a rule reads changed in turn: exactly that property's rule fires."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import pytest

from infra.policy.plan import Plan
from infra.policy.resource import Resource, Resources
from infra.policy.rules import RULES, judge
from infra.policy.value import UNKNOWN
from tests.policy_stack import Declared, Ref, Secret, Stack, changed, good_stack, preview, without
from tests.promises import promise

# Resource, its changed properties (None: removed), the rule that must fire.
FLIPS: list[tuple[str, dict[str, Any], str]] = [
    ("postgres", {"publiclyAccessible": True}, "RDS.2"),
    ("replica", {"publiclyAccessible": True}, "RDS.2"),
    ("postgres", {"storageEncrypted": False}, "RDS.3"),
    ("postgres", {"kmsKeyId": None}, "RDS.3"),
    ("postgres", {"multiAz": False}, "RDS.5"),
    ("postgres", {"monitoringInterval": 0}, "RDS.6"),
    ("postgres", {"monitoringRoleArn": None}, "RDS.6"),
    ("postgres", {"deletionProtection": False}, "RDS.8"),
    ("postgres", {"skipFinalSnapshot": True}, "RDS.8"),
    ("postgres", {"finalSnapshotIdentifier": None}, "RDS.8"),
    ("postgres", {"protect": False}, "RDS.8"),
    ("postgres", {"enabledCloudwatchLogsExports": ["postgresql"]}, "RDS.9"),
    ("postgres", {"enabledCloudwatchLogsExports": ["upgrade"]}, "RDS.36"),
    ("postgres", {"iamDatabaseAuthenticationEnabled": False}, "RDS.10"),
    ("postgres", {"backupRetentionPeriod": 6}, "RDS.11"),
    ("postgres", {"autoMinorVersionUpgrade": False}, "RDS.13"),
    ("postgres", {"copyTagsToSnapshot": False}, "RDS.17"),
    ("postgres", {"dbSubnetGroupName": None}, "RDS.18"),
    ("isolated-b", {"mapPublicIpOnLaunch": True}, "RDS.46"),
    ("isolated", {"routes": [{"cidrBlock": "0.0.0.0/0", "gatewayId": Ref("gateway")}]}, "RDS.46"),
    ("isolated-c-routes", {"routeTableId": Ref("public")}, "RDS.46"),
    ("way-out", {"routeTableId": Ref("isolated")}, "RDS.46"),
    ("db-instance-events", {"eventCategories": ["maintenance", "failure"]}, "RDS.20"),
    ("db-instance-events", {"enabled": False}, "RDS.20"),
    ("db-instance-events", {"sourceType": "db-snapshot"}, "RDS.20"),
    ("db-instance-events", {"sourceIds": ["another"]}, "RDS.20"),
    ("db-instance-events", {"snsTopic": None}, "RDS.20"),
    ("db-parameter-group-events", {"eventCategories": ["failure"]}, "RDS.21"),
    ("db-security-group-events", {"eventCategories": ["failure"]}, "RDS.22"),
    ("postgres", {"port": 5432}, "RDS.23"),
    ("postgres", {"username": "postgres"}, "RDS.25"),
    ("postgres-parameters", {"parameters": [{"name": "rds.force_ssl", "value": "0"}]}, "RDS.38"),
    ("postgres", {"parameterGroupName": None}, "RDS.38"),
    ("postgres", {"manageMasterUserPassword": False}, "RDS.managed-password"),
    ("postgres", {"password": Secret("mine")}, "RDS.managed-password"),
    ("postgres", {"passwordWo": Secret("mine")}, "RDS.managed-password"),
    ("redis", {"snapshotRetentionLimit": 0}, "ElastiCache.1"),
    ("redis", {"autoMinorVersionUpgrade": False}, "ElastiCache.2"),
    ("redis", {"automaticFailoverEnabled": False}, "ElastiCache.3"),
    ("redis", {"multiAzEnabled": False}, "ElastiCache.3"),
    ("redis", {"atRestEncryptionEnabled": False}, "ElastiCache.4"),
    ("redis", {"transitEncryptionEnabled": False}, "ElastiCache.5"),
    ("redis", {"transitEncryptionMode": "preferred"}, "ElastiCache.5"),
    ("redis", {"userGroupIds": None}, "ElastiCache.6"),
    ("redis-users", {"userIds": [Ref("app-user", "userId")]}, "ElastiCache.6"),
    ("redis-users", {"userIds": ["default", Ref("app-user", "userId")]}, "ElastiCache.6"),
    ("default-user", {"accessString": "on ~* +@all"}, "ElastiCache.6"),
    ("default-user", {"userName": "nobody"}, "ElastiCache.6"),
    ("redis", {"subnetGroupName": None}, "ElastiCache.7"),
    (
        "redis-parameters",
        {"parameters": [{"name": "reserved-memory-percent", "value": "24"}]},
        "ElastiCache.reserved-memory",
    ),
    (
        "redis-parameters",
        {
            "parameters": [
                {"name": "maxmemory-policy", "value": "sometimes"},
                {"name": "reserved-memory-percent", "value": "25"},
            ]
        },
        "ElastiCache.maxmemory-policy",
    ),
    ("nobody", {"ingress": [{"self": True, "protocol": "-1"}]}, "EC2.2"),
    ("nobody", {"egress": [{"cidrBlocks": ["10.0.0.0/8"]}]}, "EC2.2"),
    ("application-group", {"ingress": [{"cidrBlocks": ["0.0.0.0/0"], "fromPort": 443}]}, "EC2.18"),
    ("application-group", {"ingress": [{"ipv6CidrBlocks": ["::/0"], "fromPort": 443}]}, "EC2.18"),
    ("postgres", {"vpcSecurityGroupIds": None}, "EC2.19"),
    ("postgres-ingress", {"cidrIpv4": "10.20.0.0/16"}, "EC2.19"),
    ("postgres-ingress", {"cidrIpv6": "2001:db8::/32"}, "EC2.19"),
    ("postgres-ingress", {"prefixListId": "pl-1"}, "EC2.19"),
    ("redis-ingress", {"cidrBlocks": ["10.20.0.0/16"]}, "EC2.19"),
    ("redis-ingress", {"ipv6CidrBlocks": ["2001:db8::/32"]}, "EC2.19"),
    ("redis-ingress", {"prefixListIds": ["pl-1"]}, "EC2.19"),
    ("redis-ingress", {"self": True}, "EC2.19"),
    ("redis-group", {"ingress": [{"cidrBlocks": ["10.20.0.0/16"]}]}, "EC2.19"),
    ("redis", {"securityGroupIds": None}, "EC2.19"),
    ("data-key", {"enableKeyRotation": False}, "KMS.4"),
    ("token-keys-rotation", {"rotationRules": {"automaticallyAfterDays": 91}}, "SecretsManager.4"),
    ("token-keys-rotation", {"rotationRules": {"scheduleExpression": "rate(91 days)"}}, "SecretsManager.4"),
]
# Resource to remove, the rule that must fire.
REMOVALS = [
    ("nobody", "EC2.2"),
    ("db-instance-events", "RDS.20"),
    ("db-parameter-group-events", "RDS.21"),
    ("db-security-group-events", "RDS.22"),
    ("token-keys-rotation", "SecretsManager.1"),
]
# Properties that identify resources and need no change here: test_references.py and removals cover them.
NAMES = {
    *(
        "vpcId",
        "subnetId",
        "subnetIds",
        "securityGroupId",
        "secretId",
        "gatewayId",
        "replicateSourceDb",
        "type",
    ),
    *("arn", "name", "identifier", "userId", "userGroupId"),
    # Inherited by replicas together with the others, but not read by any rule.
    "instanceClass",
    # Keys are symmetric by default.
    "customerMasterKeySpec",
}


def violated(stack: Stack, *, is_made: bool = True) -> set[str]:
    plan = Plan.parse(json.dumps(preview(stack if is_made else [], stack)))
    found = judge(plan.resources)
    assert [f.rule for f in found if f.status == "undetermined"] == []
    return {finding.rule for finding in found}


def flipped(name: str, properties: Mapping[str, Any]) -> Stack:
    values = dict(properties)
    return changed(good_stack(), name, protect=values.pop("protect", None), **values)


@promise("each rule accepts its good example and reports each bad one", control=True)
@pytest.mark.parametrize("is_made", [True, False], ids=["made", "planned"])
def test_the_compliant_stack_has_no_findings(is_made: bool) -> None:
    assert violated(good_stack(), is_made=is_made) == set()


@promise("each rule accepts its good example and reports each bad one")
@pytest.mark.parametrize("is_made", [True, False], ids=["made", "planned"])
def test_exactly_the_propertys_rule_fires(is_made: bool) -> None:
    for name, properties, rule in FLIPS:
        assert violated(flipped(name, properties), is_made=is_made) == {rule}, (name, properties)


def test_exactly_the_rule_for_a_removed_resource_fires() -> None:
    for name, rule in REMOVALS:
        assert violated(without(good_stack(), name)) == {rule}, name


def test_a_data_store_without_rules_is_reported() -> None:
    cluster = Declared("aws:rds/cluster:Cluster", "aurora", {"engine": "aurora-postgresql"})
    assert violated([*good_stack(), cluster]) == {"Groundwork.coverage"}


def test_every_rule_is_tested_with_a_change() -> None:
    rules = {rule for *_, rule in (*FLIPS, *REMOVALS)} | {"Groundwork.coverage"}
    assert rules == {rule.id for rule in RULES}


class Recorded(Mapping[str, Any]):
    """Properties that record which of them were read."""

    def __init__(self, properties: Mapping[str, Any], read: set[str]) -> None:
        self._properties = properties
        self._read = read

    def __getitem__(self, key: str) -> Any:
        self._read.add(key)
        return self._properties[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._properties)

    def __len__(self) -> int:
        return len(self._properties)


def test_every_property_that_a_rule_reads_is_changed() -> None:
    read: set[str] = set()
    plan = Plan.parse(json.dumps(preview(good_stack(), good_stack())))
    resources: list[Resource] = [
        replace(resource, properties=Recorded(resource.properties, read)) for resource in plan.resources
    ]
    judge(Resources(resources))
    flips = {name for _, properties, _ in FLIPS for name in properties}
    assert read - flips - NAMES == set()


def test_an_unknown_value_never_passes_a_rule() -> None:
    # `protect` is an option in the program, and always known.
    for name, properties, rule in (flip for flip in FLIPS if "protect" not in flip[1]):
        stack = flipped(name, dict.fromkeys(properties, UNKNOWN))
        found = judge(Plan.parse(json.dumps(preview(stack, stack))).resources)
        assert rule in {finding.rule for finding in found}, (name, properties)
