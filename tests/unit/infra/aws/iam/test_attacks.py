"""What a stolen deploy or preview role could try. Each attack has a request that the policies in docs/iam must deny."""

from __future__ import annotations

import pytest

from tests.cases import in_case
from tests.promises import promise
from tests.unit.infra.aws.iam.evaluator import REGION, Request, Statement, Unsupported, allowed, load
from tests.unit.infra.aws.iam.identities import (
    BOUNDED,
    DEPLOY,
    EXISTING_VPC,
    NEW,
    OURS,
    PREVIEW,
    SET_UP,
    STATE_KEY,
    arn,
)

ADMIN = "arn:aws:iam::aws:policy/AdministratorAccess"
ECS = {"iam:PassedToService": "ecs-tasks.amazonaws.com"}
ALIEN = arn("iam", "role/company-admin")
OWN_ROLE = arn("iam", "role/ci-groundwork-deploy-unit")
ROLE = arn("iam", "role/groundwork-unit-access")
PROD = {"aws:ResourceTag/project": "groundwork", "aws:ResourceTag/stack": "prod"}


def on(action: str, resource: str, context: dict[str, str] | None = None) -> Request:
    service = action.partition(":")[0]
    return Request(
        action, resource if resource.startswith(("arn:", "*")) else arn(service, resource), context or {}
    )


# What it would do -> the request that it needs.
AS_DEPLOY = {
    "tag a role of the account as ours": on("iam:TagRole", ALIEN, NEW),
    "tag a policy of the account as ours": on("iam:TagPolicy", arn("iam", "policy/company"), NEW),
    "write a policy into a role of the account": on("iam:PutRolePolicy", ALIEN, BOUNDED | OURS),
    "attach a policy to a role of the account": on(
        "iam:AttachRolePolicy",
        ALIEN,
        BOUNDED | OURS | {"iam:PolicyARN": arn("iam", "policy/groundwork-unit-x")},
    ),
    "change who may assume a role of the account": on("iam:UpdateAssumeRolePolicy", ALIEN, BOUNDED | OURS),
    "delete a role of the account": on("iam:DeleteRole", ALIEN, OURS),
    "change a policy of the account": on("iam:CreatePolicyVersion", arn("iam", "policy/company"), OURS),
    "create a role without a boundary": on("iam:CreateRole", ROLE, NEW),
    "create a role with a boundary of its own": on(
        "iam:CreateRole",
        ROLE,
        NEW | {"iam:PermissionsBoundary": arn("iam", "policy/groundwork-unit-boundary")},
    ),
    "create a role under another name": on("iam:CreateRole", arn("iam", "role/helper"), NEW | BOUNDED),
    "attach AdministratorAccess": on("iam:AttachRolePolicy", ROLE, BOUNDED | {"iam:PolicyARN": ADMIN}),
    "attach a policy to a role without the boundary": on(
        "iam:AttachRolePolicy", ROLE, {"iam:PolicyARN": arn("iam", "policy/groundwork-unit-x")}
    ),
    "write a policy into a role without the boundary": on("iam:PutRolePolicy", ROLE),
    "remove the boundary": on("iam:DeleteRolePermissionsBoundary", ROLE, BOUNDED),
    "replace the boundary of a role": on(
        "iam:PutRolePermissionsBoundary", ROLE, {"iam:PermissionsBoundary": ADMIN}
    ),
    "change the boundary": on("iam:CreatePolicyVersion", arn("iam", "policy/ci-groundwork-boundary-unit")),
    "make an older version of a policy the default": on(
        "iam:SetDefaultPolicyVersion", arn("iam", "policy/ci-groundwork-deploy-unit")
    ),
    "change its own policy": on(
        "iam:CreatePolicyVersion", arn("iam", "policy/ci-groundwork-deploy-servers-unit")
    ),
    "attach a policy to itself": on("iam:AttachRolePolicy", OWN_ROLE, BOUNDED | {"iam:PolicyARN": ADMIN}),
    "write a policy into itself": on("iam:PutRolePolicy", OWN_ROLE, BOUNDED),
    "change who may assume it": on("iam:UpdateAssumeRolePolicy", OWN_ROLE, BOUNDED),
    "trust another identity provider": on(
        "iam:CreateOpenIDConnectProvider", arn("iam", "oidc-provider/evil.example")
    ),
    "pass an administrator's role to a task": on("iam:PassRole", ALIEN, ECS),
    "pass its own role to a task": on("iam:PassRole", OWN_ROLE, ECS),
    "pass a role to EC2": on("iam:PassRole", ROLE, {"iam:PassedToService": "ec2.amazonaws.com"}),
    "pass a role to Lambda": on("iam:PassRole", ROLE, {"iam:PassedToService": "lambda.amazonaws.com"}),
    "create a user": on("iam:CreateUser", arn("iam", "user/groundwork-unit-x")),
    "create an access key": on("iam:CreateAccessKey", arn("iam", "user/admin")),
    "assume another role": on("sts:AssumeRole", ALIEN),
    "pass the role of prod": on("iam:PassRole", arn("iam", "role/groundwork-prod-access"), ECS),
    "tag a key of the account as ours": on("kms:TagResource", "key/alien", NEW),
    "rewrite the policy of a key of the account": on("kms:PutKeyPolicy", "key/alien"),
    "rewrite the policy of a key of the stack": on("kms:PutKeyPolicy", "key/ours", OURS),
    "delete a key of the account": on("kms:ScheduleKeyDeletion", "key/alien"),
    "delete a key of the stack": on("kms:ScheduleKeyDeletion", "key/ours", OURS),
    "give a key to another account": on(
        "kms:CreateGrant", "key/ours", OURS | {"kms:GrantIsForAWSResource": "false"}
    ),
    "decrypt without a service": on("kms:Decrypt", "key/ours", OURS),
    "decrypt with a key of the account": on(
        "kms:Decrypt", "key/alien", {"kms:ViaService": f"rds.{REGION}.amazonaws.com"}
    ),
    "give an alias to a key of the account": on("kms:CreateAlias", "key/alien"),
    "move an alias of the account": on("kms:UpdateAlias", "alias/company"),
    "move an alias of prod": on("kms:UpdateAlias", "alias/groundwork-prod-postgres"),
    "delete the state's key": on("kms:ScheduleKeyDeletion", STATE_KEY, OURS),
    "write the state of prod": on("s3:PutObject", "state-bucket/.pulumi/stacks/groundwork/prod.json"),
    "delete the history of prod": on(
        "s3:DeleteObject", "state-bucket/.pulumi/history/groundwork/prod/prod-1.json"
    ),
    "delete a version of the state": on(
        "s3:DeleteObjectVersion", "state-bucket/.pulumi/stacks/groundwork/unit.json"
    ),
    "open the state bucket": on("s3:PutBucketPolicy", "state-bucket"),
    "delete a VPC of the account": on("ec2:DeleteVpc", "vpc/vpc-9"),
    "open a security group of the account": on(
        "ec2:AuthorizeSecurityGroupIngress", "security-group/sg-9", NEW
    ),
    "remove rules of a security group of the account": on(
        "ec2:RevokeSecurityGroupIngress", "security-group/sg-9"
    ),
    "change a rule of a security group of the account": on(
        "ec2:ModifySecurityGroupRules", "security-group/sg-9"
    ),
    "open a security group of prod": on(
        "ec2:AuthorizeSecurityGroupIngress", "security-group/sg-8", PROD | NEW
    ),
    "tag a VPC of the account as ours": on("ec2:CreateTags", "vpc/vpc-9", NEW),
    "tag a security group of the account as ours": on("ec2:CreateTags", "security-group/sg-9", NEW),
    "tag an instance of the account as ours": on("ec2:CreateTags", "instance/i-9", NEW),
    "create an endpoint in a route table of the account": on(
        "ec2:CreateVpcEndpoint", "route-table/rtb-9", NEW
    ),
    "create an endpoint in a subnet of the account": on("ec2:CreateVpcEndpoint", "subnet/subnet-9", NEW),
    "create a subnet in a VPC of the account": on("ec2:CreateSubnet", "vpc/vpc-9", NEW),
    "add a route to the internet": on("ec2:CreateRoute", "route-table/rtb-1", OURS),
    "start an instance": on("ec2:RunInstances", "instance/*", NEW),
    "rewrite the company's public DNS": on("route53:ChangeResourceRecordSets", "hostedzone/Z9"),
    "attach a private zone to a VPC of the account": on(
        "route53:AssociateVPCWithHostedZone",
        "hostedzone/Z9",
        {"route53:VPCs": "VPCId=vpc-9,VPCRegion=eu-central-1"},
    ),
    "create a private zone in a VPC of the account": on(
        "route53:CreateHostedZone", "*", {"route53:VPCs": "VPCId=vpc-9,VPCRegion=eu-central-1"}
    ),
    "delete a zone of the account": on("route53:DeleteHostedZone", "hostedzone/Z9"),
    "delete a namespace of the account": on("servicediscovery:DeleteNamespace", "namespace/ns-9"),
    "tag a namespace of the account as ours": on("servicediscovery:TagResource", "*", NEW),
    "let others use the account's logs": on("logs:PutResourcePolicy", "*"),
    "delete a log group of the account": on("logs:DeleteLogGroup", "log-group:/aws/lambda/company"),
    "read the logs of prod": on("logs:GetLogEvents", "log-group:/groundwork/prod/access:log-stream:x"),
    "register a task definition of the account": on(
        "ecs:RegisterTaskDefinition", "task-definition/company:*"
    ),
    "deregister a task definition of the account": on("ecs:DeregisterTaskDefinition", "*"),
    "run a task on a cluster of the account": on(
        "ecs:RunTask", "task-definition/groundwork-unit-x:1", {"ecs:cluster": arn("ecs", "cluster/company")}
    ),
    "run a command in a task": on("ecs:ExecuteCommand", "task/groundwork-unit/1"),
    "rotate the password of a database of the account": on("secretsmanager:RotateSecret", "secret:rds!db-9"),
    "read the administrator's password": on("secretsmanager:GetSecretValue", "secret:rds!db-9"),
    "read the stack's own password": on(
        "secretsmanager:GetSecretValue", "secret:groundwork-unit-postgres-admin-1"
    ),
    "delete a secret of the account": on("secretsmanager:DeleteSecret", "secret:company"),
    "delete a database of the account": on("rds:DeleteDBInstance", "db:company"),
    "delete the database of prod": on("rds:DeleteDBInstance", "db:groundwork-prod"),
    "restore a database of the account": on("rds:RestoreDBInstanceToPointInTime", "db:company"),
    "restore a backup of the account": on("rds:RestoreDBInstanceToPointInTime", "auto-backup:ab-9"),
    "share a snapshot with another account": on(
        "rds:ModifyDBSnapshotAttribute", "snapshot:groundwork-unit-final"
    ),
    "delete a cache of the account": on("elasticache:DeleteReplicationGroup", "replicationgroup:company"),
    "change a user of prod's cache": on("elasticache:ModifyUser", "user:groundwork-prod-app"),
    "delete images of the account": on("ecr:BatchDeleteImage", "repository/company"),
    "delete a topic of the account": on("sns:DeleteTopic", "company"),
    "end a subscription of the account": on("sns:Unsubscribe", "*"),
    "count other lines of a log of the account": on("logs:PutMetricFilter", "log-group:/company/app"),
    "switch off an alarm of the account": on("cloudwatch:DeleteAlarms", "alarm:company"),
    "log in to Postgres": on("rds-db:connect", "dbuser:db-POSTGRES/app"),
    "stop CloudTrail": on("cloudtrail:StopLogging", "trail/main"),
}
AS_PREVIEW = {
    "write the state": on("s3:PutObject", "state-bucket/.pulumi/stacks/groundwork/unit.json"),
    "delete the state": on("s3:DeleteObject", "state-bucket/.pulumi/stacks/groundwork/unit.json"),
    "read another bucket": on("s3:GetObject", "company/file"),
    "encrypt with the state's key": on("kms:Encrypt", STATE_KEY),
    "decrypt with a key of the stack": on("kms:Decrypt", "key/ours", OURS),
    "read a password": on("secretsmanager:GetSecretValue", "secret:rds!db-1"),
    "read logs": on("logs:GetLogEvents", "log-group:/groundwork/unit/access:log-stream:x"),
    "log in to Postgres": on("rds-db:connect", "dbuser:db-POSTGRES/app"),
    "log in to Redis": on("elasticache:Connect", "user:groundwork-unit-app"),
    "pull an image": on("ecr:BatchGetImage", "repository/groundwork-unit-access"),
    "change a role": on("iam:PutRolePolicy", ROLE, BOUNDED),
    "assume the deploy role": on("sts:AssumeRole", OWN_ROLE),
    "run a task": on("ecs:RunTask", "task-definition/groundwork-unit-bootstrap:1"),
    "tag anything": on("ec2:CreateTags", "vpc/vpc-1", OURS | NEW),
}
AS_SET_UP = {
    "tag a key of the account that has an alias": on(
        "kms:TagResource", "key/alien", NEW | {"kms:ResourceAliases": "alias/company"}
    ),
    "tag a key of another project": on(
        "kms:TagResource", "key/alien", NEW | {"aws:ResourceTag/project": "company"}
    ),
    "change the state's key": on("kms:PutKeyPolicy", STATE_KEY, OURS),
    "create the service-linked role of another service": on(
        "iam:CreateServiceLinkedRole",
        arn("iam", "role/aws-service-role/x.amazonaws.com/x"),
        {"iam:AWSServiceName": "x.amazonaws.com"},
    ),
    "create a public zone": on("route53:CreateHostedZone", "*"),
    "rewrite the company's public DNS": on("route53:ChangeResourceRecordSets", "hostedzone/Z9"),
    "remove rules of a security group of another project": on(
        "ec2:RevokeSecurityGroupIngress", "security-group/sg-9", {"aws:ResourceTag/project": "company"}
    ),
    "remove the boundary": on("iam:DeleteRolePermissionsBoundary", ROLE, BOUNDED),
    "change its own policy": on(
        "iam:CreatePolicyVersion", arn("iam", "policy/ci-groundwork-deploy-servers-unit")
    ),
}
# The value of DBI_RESOURCE_ID before the instance exists.
FIRST_UP = ("db-*",)
EVERYTHING: list[Statement] = [{"Effect": "Allow", "Action": "*", "Resource": "*"}]
# A role with the boundary whose own policy allows everything.
AS_ROLE = {
    "become an administrator": on("iam:CreateUser", arn("iam", "user/x")),
    "assume another role": on("sts:AssumeRole", ALIEN),
    "read a secret of the account": on("secretsmanager:GetSecretValue", "secret:company"),
    "read the password of another database": on(
        "secretsmanager:GetSecretValue",
        "secret:rds!db-9",
        {"aws:ResourceTag/aws:rds:primaryDBInstanceArn": arn("rds", "db:company")},
    ),
    "decrypt with a key of the account": on(
        "kms:Decrypt", "key/alien", {"kms:ViaService": f"secretsmanager.{REGION}.amazonaws.com"}
    ),
    "read the state": on("s3:GetObject", "state-bucket/.pulumi/stacks/groundwork/unit.json"),
    "start an instance": on("ec2:RunInstances", "instance/*"),
    "delete the database": on("rds:DeleteDBInstance", "db:groundwork-unit"),
    "log in to Postgres of prod as migrator": on("rds-db:connect", "dbuser:db-PROD/migrator_a"),
    "log in to a read replica of prod": on("rds-db:connect", "dbuser:db-PROD-REPLICA-1/app_a"),
    "log in to an instance whose id begins like its own": on("rds-db:connect", "dbuser:db-POSTGRES2/app_a"),
    "log in to Redis of prod": on("elasticache:Connect", "replicationgroup:groundwork-prod"),
    "log in as a user of prod's Redis": on("elasticache:Connect", "user:groundwork-prod-app"),
    "read the password of prod's administrator": on(
        "secretsmanager:GetSecretValue",
        "secret:rds!db-8",
        {"aws:ResourceTag/aws:rds:primaryDBInstanceArn": arn("rds", "db:groundwork-prod")},
    ),
    "read the password of prod with replicas": on(
        "secretsmanager:GetSecretValue", "secret:groundwork-prod-postgres-admin-1"
    ),
    "decrypt with a key of prod": on(
        "kms:Decrypt", "key/prod", PROD | {"kms:ViaService": f"secretsmanager.{REGION}.amazonaws.com"}
    ),
    "pull an image of prod": on("ecr:BatchGetImage", "repository/groundwork-prod-access"),
    "write into a log of prod": on("logs:PutLogEvents", "log-group:/groundwork/prod/access:log-stream:x"),
}


@promise("the deploying identity may do what the program needs, and only with resources of its own stack")
def test_the_deploy_role_cannot() -> None:
    for attack in AS_DEPLOY:
        with in_case(attack):
            assert not allowed(AS_DEPLOY[attack], load(*DEPLOY))


@promise("the deploying identity may do what the program needs, and only with resources of its own stack")
def test_the_preview_role_cannot() -> None:
    for attack in AS_PREVIEW:
        with in_case(attack):
            assert not allowed(AS_PREVIEW[attack], load(*PREVIEW))


@promise("the deploying identity may do what the program needs, and only with resources of its own stack")
def test_the_identity_of_the_first_up_cannot() -> None:
    for attack in AS_SET_UP:
        with in_case(attack):
            assert not allowed(AS_SET_UP[attack], load(*SET_UP))


@promise("the deploying identity may do what the program needs, and only with resources of its own stack")
def test_its_own_limits_are_denied_even_if_another_policy_allows_everything() -> None:
    cases: list[Request] = [
        AS_DEPLOY["remove the boundary"],
        AS_DEPLOY["change the boundary"],
        AS_DEPLOY["change its own policy"],
        AS_DEPLOY["attach a policy to itself"],
        AS_DEPLOY["trust another identity provider"],
        AS_DEPLOY["delete the state's key"],
    ]
    for request_ in cases:
        with in_case(request_):
            assert not allowed(request_, [*load(*DEPLOY), *EVERYTHING])


@promise("the deploying identity may do what the program needs, and only with resources of its own stack")
def test_in_an_existing_vpc_the_deploy_role_cannot() -> None:
    cases: list[tuple[str, str]] = [
        ("ec2:CreateSecurityGroup", "vpc/vpc-9"),
        ("ec2:CreateVpcEndpoint", "vpc/vpc-9"),
        ("ec2:CreateVpcEndpoint", "subnet/subnet-9"),
        ("ec2:CreateVpcEndpoint", "route-table/rtb-9"),
        ("ec2:DeleteSubnet", "subnet/subnet-00000001"),
        ("ec2:DeleteVpc", "vpc/vpc-0123456789abcdef0"),
        ("ec2:CreateTags", "vpc/vpc-0123456789abcdef0"),
    ]
    for action, resource in cases:
        with in_case(action, resource):
            assert not allowed(on(action, resource, NEW), load(*DEPLOY, *EXISTING_VPC))


@promise("the deploying identity may do what the program needs, and only with resources of its own stack")
def test_a_role_that_the_deploy_role_made_cannot() -> None:
    for attack in AS_ROLE:
        with in_case(attack):
            assert allowed(AS_ROLE[attack], EVERYTHING)
            assert not allowed(AS_ROLE[attack], EVERYTHING, boundary=load("boundary.json"))


@promise(
    "the deploying identity may do what the program needs, and only with resources of its own stack",
    control=True,
)
def test_the_boundary_of_the_first_up_allows_logins_to_every_instance_and_nothing_else() -> None:
    """docs/aws-operations.md says so: no role for CI may exist until the ids are in the boundary."""
    boundary = load("boundary.json", instances=FIRST_UP)
    still = {attack for attack in AS_ROLE if allowed(AS_ROLE[attack], EVERYTHING, boundary=boundary)}
    assert still == {attack for attack in AS_ROLE if AS_ROLE[attack].action == "rds-db:connect"}
    assert len(still) == 3


# Statements of an earlier version of these policies.
BEFORE: list[Statement] = [
    {
        "Effect": "Allow",
        "Action": [
            "iam:CreateRole",
            "iam:CreatePolicy",
            "iam:TagRole",
            "iam:TagPolicy",
            "kms:CreateKey",
            "kms:TagResource",
        ],
        "Resource": "*",
        "Condition": {"StringEquals": {"aws:RequestTag/project": "groundwork"}},
    },
    {
        "Effect": "Allow",
        "Action": [
            "iam:PutRolePolicy",
            "iam:AttachRolePolicy",
            "iam:UpdateAssumeRolePolicy",
            "kms:PutKeyPolicy",
        ],
        "Resource": "*",
        "Condition": {"StringEquals": {"aws:ResourceTag/project": "groundwork"}},
    },
    {
        "Effect": "Allow",
        "Action": "iam:PassRole",
        "Resource": arn("iam", "role/*"),
        "Condition": {"StringEquals": {"iam:PassedToService": ["ecs-tasks.amazonaws.com"]}},
    },
    {"Effect": "Allow", "Action": ["ec2:DeleteVpc", "ec2:CreateTags"], "Resource": arn("ec2", "*")},
    {
        "Effect": "Allow",
        "Action": ["route53:ChangeResourceRecordSets", "logs:PutResourcePolicy"],
        "Resource": "*",
    },
]


@promise(
    "the deploying identity may do what the program needs, and only with resources of its own stack",
    control=True,
)
def test_the_earlier_policies_allowed_each_step() -> None:
    cases: list[tuple[str, list[Request]]] = [
        (
            "adopt a role",
            [
                AS_DEPLOY["tag a role of the account as ours"],
                AS_DEPLOY["write a policy into a role of the account"],
            ],
        ),
        (
            "adopt a key",
            [AS_DEPLOY["tag a key of the account as ours"], on("kms:PutKeyPolicy", "key/alien", OURS)],
        ),
        (
            "make an administrator",
            [
                AS_DEPLOY["create a role without a boundary"],
                on("iam:AttachRolePolicy", ROLE, OURS | {"iam:PolicyARN": ADMIN}),
                on("iam:PassRole", ROLE, ECS),
            ],
        ),
        ("pass a role", [AS_DEPLOY["pass an administrator's role to a task"]]),
        ("delete a network", [AS_DEPLOY["delete a VPC of the account"]]),
        ("change DNS", [AS_DEPLOY["rewrite the company's public DNS"]]),
    ]
    for name, steps in cases:
        with in_case(name):
            assert all(allowed(step, BEFORE) for step in steps)
            assert not all(allowed(step, load(*DEPLOY)) for step in steps)


def test_the_evaluator_refuses_what_it_does_not_know() -> None:
    cases: list[Statement] = [
        {"Condition": {"StringEqualsIgnoreCase": {"iam:PolicyARN": "x"}}},
        {"Condition": {"StringEquals": {"iam:PolicyArns": "x"}}},
        {"Condition": {"StringEquals": {"iam:PolicyARN": "${aws:username}"}}},
        {"NotResource": "*"},
        {"Effect": "allow"},
    ]
    for statement in cases:
        with in_case(statement):
            whole = {"Effect": "Allow", "Action": "*", "Resource": "*"} | dict(statement)
            with pytest.raises(Unsupported):
                allowed(on("iam:GetRole", ROLE), [whole])


def test_the_evaluator_refuses_a_request_with_an_unknown_key() -> None:
    with pytest.raises(Unsupported, match="iam:Boundary"):
        on("iam:CreateRole", ROLE, {"iam:Boundary": "x"})


def test_an_explicit_deny_wins() -> None:
    both: list[Statement] = [
        {"Effect": effect, "Action": "iam:getrole", "Resource": "*"} for effect in ("Allow", "Deny")
    ]
    assert allowed(on("iam:GetRole", ROLE), both[:1])
    assert not allowed(on("iam:GetRole", ROLE), both)
    assert not allowed(on("iam:GetRole", ROLE), [])
