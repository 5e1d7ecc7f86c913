"""The requests with which the provider creates the program's resources, built from the resources' properties.

Members have the names of the properties, but for the renames of the tables, which follow the provider's code
(hashicorp/terraform-provider-aws, internal/service). A property that no table knows is an error.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from botocore.model import ListShape, Shape, StructureShape
from pulumi.runtime import rpc

from tests.unit.infra.aws.models.shapes import service

Inputs = dict[str, Any]


@dataclass(frozen=True)
class Request:
    """A request to an API, and the properties that it contains."""

    service: str
    operation: str
    members: Inputs

    @property
    def shape(self) -> StructureShape:
        return service(self.service).operation_model(self.operation).input_shape


@dataclass(frozen=True)
class Call:
    """How a resource's properties become a request. `prepare` changes what is not a mere renaming."""

    service: str
    operation: str
    # Property -> member. A dotted member is inside structures.
    renames: Mapping[str, str] = field(default_factory=dict)
    # Properties of the provider, and those that only other requests contain.
    beside: str = ""
    prepare: Callable[[Inputs], Inputs] = dict

    def request(self, inputs: Inputs) -> Request:
        shape = service(self.service).operation_model(self.operation).input_shape
        members: Inputs = {}
        given = self.prepare(_plain(inputs))
        for name, value in given.items():
            if name in self.beside.split():
                continue
            target, current = members, shape
            *outer, last = self.renames.get(name, name).split(".")
            for step in outer:
                target, current = target.setdefault(step, {}), current.members[step]
            member = _member(last, current)
            target[member] = (
                _converted(value, current.members[member]) if member in current.members else value
            )
        return Request(self.service, self.operation, members)


def _plain(value: Any) -> Any:
    """Return a value without Pulumi's wrappers of secrets."""
    if isinstance(value, dict):
        if value.get(rpc._special_sig_key) == rpc._special_secret_sig:
            return value["value"]
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list) else value


def _member(name: str, shape: StructureShape) -> str:
    for member in shape.members:
        if member.lower() == name.lower():
            return str(member)
    return name


def _converted(value: Any, shape: Shape) -> Any:
    """Return a value in the API's form: whole numbers, lists of tags, members by their names."""
    if isinstance(shape, StructureShape) and isinstance(value, dict):
        found = {}
        for name, item in value.items():
            member = _member(name, shape)
            found[member] = _converted(item, shape.members[member]) if member in shape.members else item
        return found
    if isinstance(shape, ListShape):
        if isinstance(value, dict):
            names = _member("key", shape.member), _member("value", shape.member)
            if "Name" in getattr(shape.member, "members", {}):
                names = "Name", "Value"
            return [dict(zip(names, pair, strict=True)) for pair in value.items()]
        return [_converted(item, shape.member) for item in value]
    if isinstance(value, float) and value.is_integer() and shape.type_name in ("integer", "long"):
        return int(value)
    return value


def _tagged(kind: str) -> Callable[[Inputs], Inputs]:
    def prepare(inputs: Inputs) -> Inputs:
        tags = [{"Key": key, "Value": value} for key, value in inputs.pop("tags", {}).items()]
        return inputs | {"tagSpecifications": [{"ResourceType": kind, "Tags": tags}]}

    return prepare


def _rule(inputs: Inputs) -> Inputs:
    permission: Inputs = {"IpProtocol": inputs["ipProtocol"]}
    permission |= {"FromPort": int(inputs["fromPort"]), "ToPort": int(inputs["toPort"])}
    about = {"Description": inputs["description"]}
    for name, member, key in (
        ("referencedSecurityGroupId", "UserIdGroupPairs", "GroupId"),
        ("prefixListId", "PrefixListIds", "PrefixListId"),
        ("cidrIpv4", "IpRanges", "CidrIp"),
    ):
        if name in inputs:
            permission[member] = [{key: inputs[name]} | about]
    return {"groupId": inputs["securityGroupId"], "ipPermissions": [permission]}


def _replication_group(inputs: Inputs) -> Inputs:
    for log in inputs["logDeliveryConfigurations"]:
        log["destinationDetails"] = {"CloudWatchLogsDetails": {"LogGroup": log.pop("destination")}}
    return inputs


def _task(inputs: Inputs) -> Inputs:
    return inputs | {"containerDefinitions": json.loads(inputs["containerDefinitions"])}


def _service(inputs: Inputs) -> Inputs:
    network = inputs["networkConfiguration"]
    network = network | {"assignPublicIp": "ENABLED" if network["assignPublicIp"] else "DISABLED"}
    return inputs | {
        "networkConfiguration": {"awsvpcConfiguration": network},
        "serviceRegistries": [inputs["serviceRegistries"]],
    }


def _repository(inputs: Inputs) -> Inputs:
    (encryption,) = inputs.pop("encryptionConfigurations")
    return inputs | {"encryptionConfiguration": encryption}


def _metric_filter(inputs: Inputs) -> Inputs:
    counted = inputs.pop("metricTransformation")
    names = {"namespace": "metricNamespace", "name": "metricName", "value": "metricValue"}
    return inputs | {"metricTransformations": [{names[key]: value for key, value in counted.items()}]}


def _topic(inputs: Inputs) -> Inputs:
    key = inputs.pop("kmsMasterKeyId", None)
    return inputs | ({"attributes": {"KmsMasterKeyId": key}} if key else {})


def _topic_policy(inputs: Inputs) -> Inputs:
    return {"topicArn": inputs["arn"], "attributeName": "Policy", "attributeValue": inputs["policy"]}


def _secret(inputs: Inputs) -> Inputs:
    # The provider appends a suffix of 26 characters.
    return inputs | {"name": inputs.pop("namePrefix") + "0" * 26}


def _group_name(kind: str) -> Callable[[Inputs], Inputs]:
    def prepare(inputs: Inputs) -> Inputs:
        return _tagged(kind)(inputs) | {"groupName": "generated"}

    return prepare


_INSTANCE = {
    "identifier": "DBInstanceIdentifier",
    "instanceClass": "DBInstanceClass",
    "maintenanceWindow": "PreferredMaintenanceWindow",
    "backupWindow": "PreferredBackupWindow",
    "parameterGroupName": "DBParameterGroupName",
    "caCertIdentifier": "CACertificateIdentifier",
    "iamDatabaseAuthenticationEnabled": "EnableIAMDatabaseAuthentication",
    "performanceInsightsEnabled": "EnablePerformanceInsights",
    "enabledCloudwatchLogsExports": "EnableCloudwatchLogsExports",
    "username": "MasterUsername",
    "passwordWo": "MasterUserPassword",
    "replicateSourceDb": "SourceDBInstanceIdentifier",
}
_OF_EVERY_INSTANCE = (
    "applyImmediately deleteAutomatedBackups skipFinalSnapshot finalSnapshotIdentifier allowMajorVersionUpgrade"
    " passwordWoVersion"
)
# What a replica has from its source, and what the provider sets by a second request.
_NOT_OF_A_NEW_REPLICA = "storageEncrypted maintenanceWindow"


# The other properties follow in a second request.
_OF_A_RESTORE = "engine dbSubnetGroupName port publiclyAccessible tags"


def _restored(inputs: Inputs) -> Inputs:
    given = ("identifier", "snapshotIdentifier", "instanceClass", "multiAz", *_OF_A_RESTORE.split())
    return {name: inputs[name] for name in given}


def _instance(inputs: Inputs) -> Iterator[Call]:
    if "replicateSourceDb" in inputs:
        beside = f"{_OF_EVERY_INSTANCE} {_NOT_OF_A_NEW_REPLICA}"
        yield Call("rds", "CreateDBInstanceReadReplica", _INSTANCE, beside)
        window = ("identifier", "maintenanceWindow")
        yield Call("rds", "ModifyDBInstance", _INSTANCE, prepare=lambda i: {name: i[name] for name in window})
    elif "snapshotIdentifier" in inputs:
        renames = _INSTANCE | {"snapshotIdentifier": "DBSnapshotIdentifier"}
        yield Call("rds", "RestoreDBInstanceFromDBSnapshot", renames, prepare=_restored)
        of_the_snapshot = "kmsKeyId storageEncrypted username snapshotIdentifier"
        beside = f"{_OF_EVERY_INSTANCE} {of_the_snapshot} {_OF_A_RESTORE} enabledCloudwatchLogsExports"
        yield Call("rds", "ModifyDBInstance", _INSTANCE, beside)
    else:
        yield Call("rds", "CreateDBInstance", _INSTANCE, _OF_EVERY_INSTANCE)


def _backup_copies(_: Inputs) -> Iterator[Call]:
    renames = {"retentionPeriod": "BackupRetentionPeriod"}
    # The provider sends the request in that region.
    yield Call("rds", "StartDBInstanceAutomatedBackupsReplication", renames, "region")


def _subscription_name(_: Inputs) -> Iterator[Call]:
    yield Call("rds", "CreateEventSubscription", {"name": "SubscriptionName", "snsTopic": "SnsTopicArn"})


def _always(*calls: Call) -> Callable[[Inputs], Iterator[Call]]:
    return lambda _: iter(calls)


# Type of a resource -> the requests that create it.
CALLS: dict[str, Callable[[Inputs], Iterator[Call]]] = {
    "aws:cloudwatch/dashboard:Dashboard": _always(Call("cloudwatch", "PutDashboard")),
    "aws:cloudwatch/logGroup:LogGroup": _always(
        Call("logs", "CreateLogGroup", {"name": "logGroupName"}, "retentionInDays"),
        Call("logs", "PutRetentionPolicy", {"name": "logGroupName"}, "kmsKeyId tags"),
    ),
    "aws:cloudwatch/logMetricFilter:LogMetricFilter": _always(
        Call(
            "logs",
            "PutMetricFilter",
            {"name": "filterName", "pattern": "filterPattern"},
            prepare=_metric_filter,
        )
    ),
    "aws:cloudwatch/metricAlarm:MetricAlarm": _always(
        Call("cloudwatch", "PutMetricAlarm", {"name": "AlarmName"})
    ),
    "aws:ec2/routeTable:RouteTable": _always(Call("ec2", "CreateRouteTable", prepare=_tagged("route-table"))),
    "aws:ec2/routeTableAssociation:RouteTableAssociation": _always(Call("ec2", "AssociateRouteTable")),
    "aws:ec2/securityGroup:SecurityGroup": _always(
        Call("ec2", "CreateSecurityGroup", prepare=_group_name("security-group"))
    ),
    "aws:ec2/subnet:Subnet": _always(
        Call("ec2", "CreateSubnet", beside="mapPublicIpOnLaunch", prepare=_tagged("subnet"))
    ),
    "aws:ec2/vpc:Vpc": _always(
        Call("ec2", "CreateVpc", beside="enableDnsSupport enableDnsHostnames", prepare=_tagged("vpc"))
    ),
    "aws:ec2/vpcEndpoint:VpcEndpoint": _always(
        Call("ec2", "CreateVpcEndpoint", {"policy": "PolicyDocument"}, prepare=_tagged("vpc-endpoint"))
    ),
    "aws:ecr/lifecyclePolicy:LifecyclePolicy": _always(
        Call("ecr", "PutLifecyclePolicy", {"repository": "repositoryName", "policy": "lifecyclePolicyText"})
    ),
    "aws:ecr/repository:Repository": _always(
        Call("ecr", "CreateRepository", {"name": "repositoryName"}, "forceDelete", _repository)
    ),
    "aws:ecs/cluster:Cluster": _always(Call("ecs", "CreateCluster", {"name": "clusterName"})),
    "aws:ecs/service:Service": _always(
        Call(
            "ecs",
            "CreateService",
            {
                "name": "serviceName",
                "deploymentMaximumPercent": "deploymentConfiguration.maximumPercent",
                "deploymentMinimumHealthyPercent": "deploymentConfiguration.minimumHealthyPercent",
                "deploymentCircuitBreaker": "deploymentConfiguration.deploymentCircuitBreaker",
            },
            "waitForSteadyState",
            _service,
        )
    ),
    "aws:ecs/taskDefinition:TaskDefinition": _always(
        Call("ecs", "RegisterTaskDefinition", beside="skipDestroy", prepare=_task)
    ),
    "aws:elasticache/parameterGroup:ParameterGroup": _always(
        Call(
            "elasticache",
            "CreateCacheParameterGroup",
            {"name": "CacheParameterGroupName", "family": "CacheParameterGroupFamily"},
            "parameters",
        ),
        Call(
            "elasticache",
            "ModifyCacheParameterGroup",
            {"name": "CacheParameterGroupName", "parameters": "ParameterNameValues"},
            "family description tags",
            lambda inputs: (
                inputs
                | {
                    "parameters": [
                        {"ParameterName": p["name"], "ParameterValue": p["value"]}
                        for p in inputs["parameters"]
                    ]
                }
            ),
        ),
    ),
    "aws:elasticache/replicationGroup:ReplicationGroup": _always(
        Call(
            "elasticache",
            "CreateReplicationGroup",
            {
                "description": "ReplicationGroupDescription",
                "nodeType": "CacheNodeType",
                "parameterGroupName": "CacheParameterGroupName",
                "subnetGroupName": "CacheSubnetGroupName",
                "maintenanceWindow": "PreferredMaintenanceWindow",
            },
            "applyImmediately finalSnapshotIdentifier",
            _replication_group,
        )
    ),
    "aws:elasticache/subnetGroup:SubnetGroup": _always(
        Call(
            "elasticache",
            "CreateCacheSubnetGroup",
            {"name": "CacheSubnetGroupName", "description": "CacheSubnetGroupDescription"},
        )
    ),
    "aws:elasticache/user:User": _always(Call("elasticache", "CreateUser")),
    "aws:elasticache/userGroup:UserGroup": _always(Call("elasticache", "CreateUserGroup")),
    "aws:iam/policy:Policy": _always(
        Call("iam", "CreatePolicy", {"name": "PolicyName", "policy": "PolicyDocument"})
    ),
    "aws:iam/role:Role": _always(
        Call("iam", "CreateRole", {"name": "RoleName", "assumeRolePolicy": "AssumeRolePolicyDocument"})
    ),
    "aws:iam/rolePolicy:RolePolicy": _always(
        Call(
            "iam",
            "PutRolePolicy",
            {"role": "RoleName", "name": "PolicyName", "policy": "PolicyDocument"},
            prepare=lambda inputs: {"name": "generated"} | inputs,
        )
    ),
    "aws:iam/rolePolicyAttachment:RolePolicyAttachment": _always(
        Call("iam", "AttachRolePolicy", {"role": "RoleName"})
    ),
    "aws:kms/alias:Alias": _always(Call("kms", "CreateAlias", {"name": "AliasName"})),
    "aws:kms/key:Key": _always(
        Call(
            "kms",
            "CreateKey",
            beside="enableKeyRotation deletionWindowInDays",
            prepare=lambda i: i | {"tags": [{"TagKey": k, "TagValue": v} for k, v in i["tags"].items()]},
        ),
    ),
    "aws:rds/eventSubscription:EventSubscription": _subscription_name,
    "aws:rds/instance:Instance": _instance,
    "aws:rds/instanceAutomatedBackupsReplication:InstanceAutomatedBackupsReplication": _backup_copies,
    "aws:rds/parameterGroup:ParameterGroup": _always(
        Call(
            "rds",
            "CreateDBParameterGroup",
            {"name": "DBParameterGroupName", "family": "DBParameterGroupFamily"},
            "parameters",
        ),
        Call(
            "rds",
            "ModifyDBParameterGroup",
            {"name": "DBParameterGroupName"},
            "family description tags",
            lambda inputs: (
                inputs
                | {
                    "parameters": [
                        {
                            "ParameterName": p["name"],
                            "ParameterValue": p["value"],
                            "ApplyMethod": p["applyMethod"],
                        }
                        for p in inputs["parameters"]
                    ]
                }
            ),
        ),
    ),
    "aws:rds/subnetGroup:SubnetGroup": _always(
        Call(
            "rds",
            "CreateDBSubnetGroup",
            {"name": "DBSubnetGroupName", "description": "DBSubnetGroupDescription"},
        )
    ),
    "aws:secretsmanager/secret:Secret": _always(
        Call("secretsmanager", "CreateSecret", beside="recoveryWindowInDays", prepare=_secret)
    ),
    "aws:secretsmanager/secretVersion:SecretVersion": _always(
        Call("secretsmanager", "PutSecretValue", {"secretStringWo": "SecretString"}, "secretStringWoVersion")
    ),
    "aws:servicediscovery/privateDnsNamespace:PrivateDnsNamespace": _always(
        Call("servicediscovery", "CreatePrivateDnsNamespace")
    ),
    "aws:servicediscovery/service:Service": _always(
        Call("servicediscovery", "CreateService", beside="forceDestroy")
    ),
    "aws:sns/topic:Topic": _always(Call("sns", "CreateTopic", prepare=_topic)),
    "aws:sns/topicPolicy:TopicPolicy": _always(Call("sns", "SetTopicAttributes", prepare=_topic_policy)),
    "aws:sns/topicSubscription:TopicSubscription": _always(Call("sns", "Subscribe", {"topic": "TopicArn"})),
    "aws:vpc/securityGroupEgressRule:SecurityGroupEgressRule": _always(
        Call("ec2", "AuthorizeSecurityGroupEgress", prepare=_rule)
    ),
    "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule": _always(
        Call("ec2", "AuthorizeSecurityGroupIngress", prepare=_rule)
    ),
}
# AWS creates the default security group with its VPC, so there is no request to check.
WITHOUT_REQUEST = {"aws:ec2/defaultSecurityGroup:DefaultSecurityGroup"}


def requests(type_: str, inputs: Inputs) -> Iterator[Request]:
    """Yield the requests that create a resource."""
    for call in CALLS[type_](inputs):
        yield call.request(inputs)
