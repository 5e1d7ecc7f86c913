"""A stack on AWS that satisfies every rule of infra/policy, as data that tests check, change and run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from infra.policy.value import UNKNOWN
from tests.aws_outputs import computed

PROJECT = "groundwork"
STACK = "prod"
UNKNOWN_TEXT = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"
CANARY = "canary-7f3a9c"


@dataclass(frozen=True)
class Ref:
    """An output of another resource."""

    name: str
    output: str = "id"


@dataclass(frozen=True)
class Secret:
    """A value that is secret."""

    value: Any


@dataclass(frozen=True)
class Declared:
    """A resource as a program declares it."""

    type: str
    name: str
    properties: Mapping[str, Any] = field(default_factory=dict)
    protect: bool = False

    @property
    def urn(self) -> str:
        return f"urn:pulumi:{STACK}::{PROJECT}::{self.type}::{self.name}"


Stack = Sequence[Declared]


def good_stack() -> Stack:
    return [*_network(), *_around(), *_postgres(), *_redis()]


def _network() -> Iterator[Declared]:
    vpc = Ref("vpc")
    yield Declared("aws:ec2/vpc:Vpc", "vpc", {"cidrBlock": "10.20.0.0/16"})
    yield Declared(
        "aws:ec2/defaultSecurityGroup:DefaultSecurityGroup",
        "nobody",
        {"vpcId": vpc, "ingress": [], "egress": []},
    )
    yield Declared("aws:ec2/internetGateway:InternetGateway", "gateway", {"vpcId": vpc})
    yield Declared("aws:ec2/routeTable:RouteTable", "public", {"vpcId": vpc})
    yield Declared(
        "aws:ec2/route:Route",
        "way-out",
        {"routeTableId": Ref("public"), "destinationCidrBlock": "0.0.0.0/0", "gatewayId": Ref("gateway")},
    )
    yield Declared("aws:ec2/routeTable:RouteTable", "isolated", {"vpcId": vpc, "routes": []})
    for zone in "abc":
        yield Declared(
            "aws:ec2/subnet:Subnet",
            f"isolated-{zone}",
            {"vpcId": vpc, "availabilityZone": f"eu-west-1{zone}", "mapPublicIpOnLaunch": False},
        )
        yield Declared(
            "aws:ec2/routeTableAssociation:RouteTableAssociation",
            f"isolated-{zone}-routes",
            {"subnetId": Ref(f"isolated-{zone}"), "routeTableId": Ref("isolated")},
        )
    for name in ("application-group", "postgres-group", "redis-group"):
        yield Declared("aws:ec2/securityGroup:SecurityGroup", name, {"vpcId": vpc, "ingress": []})
    yield Declared(
        "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule",
        "postgres-ingress",
        {
            "securityGroupId": Ref("postgres-group"),
            "referencedSecurityGroupId": Ref("application-group"),
            "ipProtocol": "tcp",
            "fromPort": 5433,
            "toPort": 5433,
        },
    )
    yield Declared(
        "aws:ec2/securityGroupRule:SecurityGroupRule",
        "redis-ingress",
        {
            "type": "ingress",
            "securityGroupId": Ref("redis-group"),
            "sourceSecurityGroupId": Ref("application-group"),
            "protocol": "tcp",
            "fromPort": 6379,
            "toPort": 6379,
        },
    )


def _around() -> Iterator[Declared]:
    yield Declared(
        "aws:kms/key:Key", "data-key", {"enableKeyRotation": True, "deletionWindowInDays": 30}, protect=True
    )
    yield Declared("aws:sns/topic:Topic", "alarms")
    yield Declared("aws:iam/role:Role", "monitoring-role", {"assumeRolePolicy": "{}"})
    yield Declared(
        "aws:secretsmanager/secret:Secret",
        "token-keys",
        {"recoveryWindowInDays": 30, "kmsKeyId": Ref("data-key", "arn")},
    )
    yield Declared(
        "aws:secretsmanager/secretVersion:SecretVersion",
        "token-keys-version",
        {"secretId": Ref("token-keys"), "secretString": Secret(f"k1:{CANARY}")},
    )
    yield Declared(
        "aws:secretsmanager/secretRotation:SecretRotation",
        "token-keys-rotation",
        {"secretId": Ref("token-keys"), "rotationRules": {"automaticallyAfterDays": 30}},
    )


def _postgres() -> Iterator[Declared]:
    subnets = [Ref(f"isolated-{zone}") for zone in "abc"]
    yield Declared(
        "aws:rds/subnetGroup:SubnetGroup", "postgres-subnets", {"name": "postgres", "subnetIds": subnets}
    )
    yield Declared(
        "aws:rds/parameterGroup:ParameterGroup",
        "postgres-parameters",
        {
            "name": "groundwork-postgres15",
            "family": "postgres15",
            "parameters": [
                {"name": "log_connections", "value": "1"},
                {"name": "rds.force_ssl", "value": "1"},
            ],
        },
    )
    common = {
        "instanceClass": "db.m7g.large",
        "publiclyAccessible": False,
        "monitoringInterval": 60,
        "monitoringRoleArn": Ref("monitoring-role", "arn"),
        "enabledCloudwatchLogsExports": ["postgresql", "upgrade"],
        "iamDatabaseAuthenticationEnabled": True,
        "copyTagsToSnapshot": True,
        "vpcSecurityGroupIds": [Ref("postgres-group")],
    }
    yield Declared(
        "aws:rds/instance:Instance",
        "postgres",
        {
            **common,
            "engine": "postgres",
            "engineVersion": "15.8",
            "identifier": "groundwork-prod",
            "username": "groundwork_master",
            "manageMasterUserPassword": True,
            "allocatedStorage": 100,
            "storageEncrypted": True,
            "kmsKeyId": Ref("data-key", "arn"),
            "multiAz": True,
            "deletionProtection": True,
            "skipFinalSnapshot": False,
            "finalSnapshotIdentifier": "groundwork-prod-final",
            "backupRetentionPeriod": 14,
            "autoMinorVersionUpgrade": True,
            "port": 5433,
            "dbSubnetGroupName": Ref("postgres-subnets", "name"),
            "parameterGroupName": Ref("postgres-parameters", "name"),
        },
        protect=True,
    )
    yield Declared(
        "aws:rds/instance:Instance",
        "replica",
        {**common, "replicateSourceDb": Ref("postgres", "identifier"), "skipFinalSnapshot": True},
    )
    for source, categories in {
        "db-instance": ["maintenance", "configuration change", "failure", "low storage"],
        "db-parameter-group": ["configuration change"],
        "db-security-group": ["configuration change", "failure"],
    }.items():
        yield Declared(
            "aws:rds/eventSubscription:EventSubscription",
            f"{source}-events",
            {"snsTopic": Ref("alarms", "arn"), "sourceType": source, "eventCategories": categories},
        )


def _redis() -> Iterator[Declared]:
    subnets = [Ref(f"isolated-{zone}") for zone in "abc"]
    yield Declared(
        "aws:elasticache/subnetGroup:SubnetGroup", "redis-subnets", {"name": "redis", "subnetIds": subnets}
    )
    yield Declared(
        "aws:elasticache/parameterGroup:ParameterGroup",
        "redis-parameters",
        {
            "name": "groundwork-redis7",
            "family": "redis7",
            "parameters": [
                {"name": "maxmemory-policy", "value": "allkeys-lfu"},
                {"name": "reserved-memory-percent", "value": "25"},
            ],
        },
    )
    for name, user, access in (
        ("default-user", "default", "off -@all"),
        ("app-user", "app", "on ~gw:* -@all +get"),
    ):
        yield Declared(
            "aws:elasticache/user:User",
            name,
            {"userId": f"groundwork-{user}", "userName": user, "engine": "redis", "accessString": access},
        )
    yield Declared(
        "aws:elasticache/userGroup:UserGroup",
        "redis-users",
        {
            "userGroupId": "groundwork",
            "engine": "redis",
            "userIds": [Ref("default-user", "userId"), Ref("app-user", "userId")],
        },
    )
    yield Declared(
        "aws:elasticache/replicationGroup:ReplicationGroup",
        "redis",
        {
            "engineVersion": "7.1",
            "nodeType": "cache.m7g.large",
            "numCacheClusters": 2,
            "snapshotRetentionLimit": 7,
            "finalSnapshotIdentifier": "groundwork-redis-final",
            "autoMinorVersionUpgrade": True,
            "automaticFailoverEnabled": True,
            "multiAzEnabled": True,
            "atRestEncryptionEnabled": True,
            "transitEncryptionEnabled": True,
            "transitEncryptionMode": "required",
            "userGroupIds": [Ref("redis-users", "userGroupId")],
            "subnetGroupName": Ref("redis-subnets", "name"),
            "parameterGroupName": Ref("redis-parameters", "name"),
            "securityGroupIds": [Ref("redis-group")],
        },
        protect=True,
    )


def changed(stack: Stack, name: str, *, protect: bool | None = None, **properties: Any) -> Stack:
    """Return the stack with some properties of one resource changed. None removes a property."""
    assert name in {each.name for each in stack}
    return [_changed(each, protect, properties) if each.name == name else each for each in stack]


def _changed(each: Declared, protect: bool | None, properties: Mapping[str, Any]) -> Declared:
    values = {key: value for key, value in {**each.properties, **properties}.items() if value is not None}
    return replace(each, properties=values, protect=each.protect if protect is None else protect)


def without(stack: Stack, *names: str) -> Stack:
    assert set(names) <= {each.name for each in stack}
    return [each for each in stack if each.name not in names]


def preview(old: Stack, new: Stack, *, replaced: Mapping[str, Sequence[str]] | None = None) -> dict[str, Any]:
    """Return what `pulumi preview --json --show-sames` prints for the change from `old` to `new`.

    `replaced` maps names to the properties that cannot change in place. tests/infra/policy compares the shape with the
    real engine's.
    """
    before, after = {each.name: each for each in old}, {each.name: each for each in new}
    # A part of a stack may refer to resources outside it.
    types = {each.name: each.type for each in (*good_stack(), *old, *new)}
    steps = [_step("same", "pulumi:pulumi:Stack", None, None)]
    for name, declared in after.items():
        was = before.get(name)
        op = "create" if was is None else "same" if was == declared else "update"
        steps.append(
            _step("replace" if name in (replaced or {}) else op, declared.type, was, declared, before, types)
        )
        if reasons := (replaced or {}).get(name):
            steps[-1]["replaceReasons"] = list(reasons)
    steps += [
        _step("delete", was.type, was, None, before, types)
        for name, was in before.items()
        if name not in after
    ]
    counts: dict[str, int] = {}
    for step in steps:
        counts[step["op"]] = counts.get(step["op"], 0) + 1
    return {"steps": steps, "diagnostics": [], "duration": 1, "changeSummary": counts}


def _step(
    op: str,
    type_: str,
    old: Declared | None,
    new: Declared | None,
    before: Mapping[str, Declared] | None = None,
    types: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    urn = next(
        (each.urn for each in (new, old) if each),
        f"urn:pulumi:{STACK}::{PROJECT}::{type_}::{PROJECT}-{STACK}",
    )
    step: dict[str, Any] = {"op": op, "urn": urn, "detailedDiff": None}
    if old is not None:
        step["oldState"] = _state(old, before or {}, types or {}, has_id=True)
    if new is not None:
        step["newState"] = _state(new, before or {}, types or {}, has_id=old is not None)
    if old is None and new is None:
        step["newState"] = {"urn": urn, "custom": False, "type": type_}
    return step


def _state(
    declared: Declared, before: Mapping[str, Declared], types: Mapping[str, str], *, has_id: bool
) -> dict[str, Any]:
    made_from = {
        key: sorted({ref.name for ref in _refs(value)}) for key, value in declared.properties.items()
    }
    return {
        "urn": declared.urn,
        "custom": True,
        **({"id": f"{declared.name}-id"} if has_id else {}),
        "type": declared.type,
        "inputs": {key: _shown(value, before) for key, value in declared.properties.items()},
        **({"protect": True} if declared.protect else {}),
        "propertyDependencies": {
            key: [f"urn:pulumi:{STACK}::{PROJECT}::{types[name]}::{name}" for name in names]
            for key, names in made_from.items()
        },
        "sourcePosition": "project:///infra/aws/stack.py#12",
    }


def _refs(value: Any) -> Iterator[Ref]:
    if isinstance(value, Ref):
        yield value
    elif isinstance(value, list | Mapping):
        for item in value.values() if isinstance(value, Mapping) else value:
            yield from _refs(item)


def _shown(value: Any, before: Mapping[str, Declared]) -> Any:
    """Return a value as the engine prints it: outputs of existing resources are known."""
    if isinstance(value, Ref):
        target = before.get(value.name)
        if target is None:
            return UNKNOWN_TEXT
        outputs = computed(target.type, target.name) | dict(target.properties)
        return outputs.get(value.output, f"{value.name}-{value.output}")
    if isinstance(value, Secret):
        return "[secret]"
    if value is UNKNOWN:
        return UNKNOWN_TEXT
    if isinstance(value, list):
        return [_shown(item, before) for item in value]
    if isinstance(value, Mapping):
        return {key: _shown(item, before) for key, item in value.items()}
    return value
