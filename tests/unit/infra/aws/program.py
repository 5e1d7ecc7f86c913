"""Run the AWS program against a recording engine, which stores the registered resources, options and outputs.

There is no engine, provider or account. The outputs of a resource are its inputs, plus the values that AWS would add
(ids, ARNs, addresses), derived from its name.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import pulumi
from pulumi.runtime import mocks

from infra.aws.snapshot import Snapshot
from infra.aws.stack import AwsStack
from infra.settings import StackSettings
from infra.spec.checkout import Checkout
from tests.aws_outputs import ACCOUNT, IDENTITY, REGION, computed
from tests.unit.infra.program import Monitor, Program, event_loop

PUSHED = "pulumi-python:dynamic/aws:PushedImage"
# Settings that name an existing VPC.
EXISTING_VPC = {
    "awsVpcId": "vpc-0123456789abcdef0",
    "awsPrivateSubnets": "subnet-00000001,subnet-00000002",
    "awsIsolatedSubnets": "subnet-00000003,subnet-00000004",
}
# A key in another region.
BACKUP_KEY = f"arn:aws:kms:eu-west-1:{ACCOUNT}:key/2222-copies"
SNAPSHOT_KEY = f"arn:aws:kms:{REGION}:{ACCOUNT}:key/3333-snapshot"
SETTINGS: dict[str, Any] = {"target": "aws", "awsRegion": REGION, "protectData": "true"}
# The types, in the short form that tests use.
TYPES = {
    "instance": "aws:rds/instance:Instance",
    "backup copies": "aws:rds/instanceAutomatedBackupsReplication:InstanceAutomatedBackupsReplication",
    "replication group": "aws:elasticache/replicationGroup:ReplicationGroup",
    "user": "aws:elasticache/user:User",
    "user group": "aws:elasticache/userGroup:UserGroup",
    "key": "aws:kms/key:Key",
    "subnet": "aws:ec2/subnet:Subnet",
    "endpoint": "aws:ec2/vpcEndpoint:VpcEndpoint",
    "ingress": "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule",
    "egress": "aws:vpc/securityGroupEgressRule:SecurityGroupEgressRule",
    "security group": "aws:ec2/securityGroup:SecurityGroup",
    "log group": "aws:cloudwatch/logGroup:LogGroup",
    "metric filter": "aws:cloudwatch/logMetricFilter:LogMetricFilter",
    "alarm": "aws:cloudwatch/metricAlarm:MetricAlarm",
    "dashboard": "aws:cloudwatch/dashboard:Dashboard",
    "task": "aws:ecs/taskDefinition:TaskDefinition",
    "service": "aws:ecs/service:Service",
    "policy": "aws:iam/policy:Policy",
    "role": "aws:iam/role:Role",
    "role policy": "aws:iam/rolePolicy:RolePolicy",
    "attachment": "aws:iam/rolePolicyAttachment:RolePolicyAttachment",
    "postgres parameters": "aws:rds/parameterGroup:ParameterGroup",
    "redis parameters": "aws:elasticache/parameterGroup:ParameterGroup",
    "events": "aws:rds/eventSubscription:EventSubscription",
    "repository": "aws:ecr/repository:Repository",
    "topic": "aws:sns/topic:Topic",
    "vpc": "aws:ec2/vpc:Vpc",
    "task run": "pulumi-python:dynamic/aws:TaskRun",
}


class Outputs(mocks.Mocks):
    """Adds the outputs that AWS would add to a resource's inputs."""

    def new_resource(self, args: mocks.MockResourceArgs) -> tuple[str | None, dict[str, Any]]:
        pushed = {"reference": f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/access@sha256:{'0' * 64}"}
        found = pushed if args.typ == PUSHED else computed(args.typ, args.name)
        # In this order, so that a name that the program chose is kept.
        return f"{args.name}-id", found | dict(args.inputs)

    def call(self, args: mocks.MockCallArgs) -> Any:
        assert args.token == "aws:index/getCallerIdentity:getCallerIdentity", args.token
        return IDENTITY


def run_aws_program(
    folder: Path,
    stack: str = "unit",
    topic: dict[str, str] | None = None,
    **settings: Any,
) -> Program:
    """Declare a stack on AWS with these settings. `folder` contains its state.

    `topic` has the attributes of the topic of awsAlarmTopic. A snapshot of awsPostgresSnapshot exists.
    """
    given = settings.get("awsPostgresSnapshot")
    snapshot = Snapshot(given, SNAPSHOT_KEY) if given else None
    checkout = replace(Checkout.here(), state_dir=folder, cache_dir=folder)
    program = Program(checkout)
    monitor = Monitor(program, Outputs())
    with (
        event_loop(),
        mock.patch("infra.aws.notices.topic_attributes", return_value=topic or {}),
        mock.patch("infra.aws.snapshot.Snapshot.for_new_instance", return_value=snapshot),
    ):
        pulumi.runtime.set_mocks(
            monitor.mocks, project="groundwork", stack=stack, preview=False, monitor=monitor
        )

        @mocks.test  # type: ignore[untyped-decorator]
        def declare() -> Any:
            parsed = StackSettings.parse(SETTINGS | settings)
            return program.collect(AwsStack(checkout, stack, parsed).declare())

        declare()
    return program


def one(program: Program, kind: str, name: str | None = None) -> dict[str, Any]:
    """Return the inputs of the only resource of a kind, or of the one with a name, as plain data."""
    found = program.of_type(TYPES[kind])
    if name is None:
        assert len(found) == 1, f"{kind}: {sorted(found)}"
        (name,) = found
    return found[name].inputs


def document(text: str) -> list[dict[str, Any]]:
    """Return the statements of a policy document."""
    statements: list[dict[str, Any]] = json.loads(text)["Statement"]
    return statements
