"""What the servers need: RDS, ElastiCache, secrets, keys and roles; and the state, restores and drills."""

from __future__ import annotations

from collections.abc import Iterator

from infra.spec.rds import FAMILY as POSTGRES_FAMILY
from tests.unit.infra.aws.iam.evaluator import ACCOUNT
from tests.unit.infra.aws.iam.identities import BOUNDED, NEW, OURS, STATE_KEY, arn
from tests.unit.infra.aws.iam.need import (
    KEY,
    NAME,
    Inputs,
    Need,
    Table,
    each,
    grant,
    need,
    passed,
    read,
    service_role,
    through,
)


def _rds(actions: str, *resources: str) -> Iterator[Need]:
    for resource in resources:
        yield from each("rds", actions, resource, NEW)


def _redis(actions: str, *resources: str) -> Iterator[Need]:
    for resource in resources:
        yield from each("elasticache", f"{actions} AddTagsToResource RemoveTagsFromResource", resource, NEW)


def _redis_parameters(i: Inputs) -> Iterator[Need]:
    actions = "CreateCacheParameterGroup ModifyCacheParameterGroup ResetCacheParameterGroup DeleteCacheParameterGroup"
    yield from _redis(actions, f"parametergroup:{i['name']}")
    yield from read("elasticache:DescribeCacheParameterGroups", "elasticache:DescribeCacheParameters")


def _replication_group(i: Inputs) -> Iterator[Need]:
    name, parameters = i["replicationGroupId"], f"parametergroup:{i['parameterGroupName']}"
    yield from _redis("CreateReplicationGroup", f"replicationgroup:{name}", f"cluster:{name}-001", parameters,
                      f"subnetgroup:{i['subnetGroupName']}", f"usergroup:{i['userGroupIds'][0]}")  # fmt: skip
    yield from _redis("ModifyReplicationGroup", f"replicationgroup:{name}", parameters)
    yield from _redis("IncreaseReplicaCount DecreaseReplicaCount", f"replicationgroup:{name}")
    yield from _redis(
        "DeleteReplicationGroup CreateSnapshot",
        f"replicationgroup:{name}",
        f"snapshot:{i['finalSnapshotIdentifier']}",
    )
    yield from through("elasticache", "Decrypt GenerateDataKey")
    yield grant()
    for action in ("CreateLogDelivery", "UpdateLogDelivery", "DeleteLogDelivery", "GetLogDelivery",
                   "ListLogDeliveries", "PutResourcePolicy", "DescribeResourcePolicies"):  # fmt: skip
        yield need(f"logs:{action}", "*", set_up=True)
    yield service_role("elasticache")
    yield from read("elasticache:DescribeReplicationGroups", "elasticache:DescribeCacheClusters",
                     "elasticache:ListTagsForResource")  # fmt: skip


def _redis_subnets(i: Inputs) -> Iterator[Need]:
    yield from _redis(
        "CreateCacheSubnetGroup ModifyCacheSubnetGroup DeleteCacheSubnetGroup", f"subnetgroup:{i['name']}"
    )
    yield from read("elasticache:DescribeCacheSubnetGroups")


def _user(i: Inputs) -> Iterator[Need]:
    yield from _redis("CreateUser ModifyUser DeleteUser", f"user:{i['userId']}")
    yield from read("elasticache:DescribeUsers")


def _user_group(i: Inputs) -> Iterator[Need]:
    yield from _redis("CreateUserGroup ModifyUserGroup", *(f"user:{user}" for user in i["userIds"]))
    yield from _redis("CreateUserGroup ModifyUserGroup DeleteUserGroup", f"usergroup:{i['userGroupId']}")
    yield from read("elasticache:DescribeUserGroups")


def _policy(i: Inputs) -> Iterator[Need]:
    actions = "CreatePolicy CreatePolicyVersion DeletePolicyVersion DeletePolicy TagPolicy UntagPolicy"
    yield from each("iam", actions, f"policy/{i['name']}", NEW)
    yield from read("iam:GetPolicy", "iam:GetPolicyVersion", "iam:ListPolicyVersions", "iam:ListPolicyTags")


def _role(i: Inputs) -> Iterator[Need]:
    role = f"role/{i['name']}"
    yield from each(
        "iam", "CreateRole UpdateAssumeRolePolicy PutRolePermissionsBoundary", role, BOUNDED | NEW
    )
    yield from each("iam", "TagRole UntagRole UpdateRole UpdateRoleDescription DeleteRole", role, NEW)
    yield from read("iam:GetRole", "iam:ListRolePolicies", "iam:ListAttachedRolePolicies",
                     "iam:ListInstanceProfilesForRole", "iam:ListRoleTags")  # fmt: skip


def _role_policy(i: Inputs) -> Iterator[Need]:
    yield from each("iam", "PutRolePolicy DeleteRolePolicy", f"role/{i['role']}", BOUNDED)
    yield from read("iam:GetRolePolicy")


def _attachment(i: Inputs) -> Iterator[Need]:
    policy = i["policyArn"]
    if ":aws:policy/" not in policy:
        # The recording engine derives this ARN from the resource's name. AWS derives it from the policy's.
        policy = arn("iam", f"policy/{NAME}-{policy.rpartition(':')[2]}")
    context = BOUNDED | {"iam:PolicyARN": policy}
    yield from each("iam", "AttachRolePolicy DetachRolePolicy", f"role/{i['role']}", context)


def _alias(i: Inputs) -> Iterator[Need]:
    yield from each("kms", "CreateAlias UpdateAlias DeleteAlias", i["name"])
    yield from each("kms", "CreateAlias UpdateAlias DeleteAlias", "key/0a1b", OURS)
    yield from read("kms:ListAliases")


def _key(_: Inputs) -> Iterator[Need]:
    for action in ("kms:CreateKey", "kms:TagResource"):
        yield need(action, arn("kms", "key/*"), NEW, set_up=True)
    for action in ("kms:PutKeyPolicy", "kms:ScheduleKeyDeletion", "kms:CancelKeyDeletion"):
        yield need(action, KEY, OURS, set_up=True)
    yield from each(
        "kms", "EnableKeyRotation UpdateKeyDescription TagResource UntagResource", "key/0a1b", OURS
    )
    yield from read("kms:DescribeKey", "kms:GetKeyPolicy", "kms:GetKeyRotationStatus", "kms:ListResourceTags")


def _events(i: Inputs) -> Iterator[Need]:
    actions = (
        "CreateEventSubscription ModifyEventSubscription DeleteEventSubscription AddTagsToResource"
        " AddSourceIdentifierToSubscription RemoveSourceIdentifierFromSubscription"
    )
    yield from _rds(actions, f"es:{i['name']}")
    yield from read("rds:DescribeEventSubscriptions")


def _instance(i: Inputs) -> Iterator[Need]:
    name, kinds = i["identifier"], (f"pg:{NAME}-{POSTGRES_FAMILY}", "og:default:postgres-15")
    create = "CreateDBInstanceReadReplica" if "replicateSourceDb" in i else "CreateDBInstance"
    yield from _rds(f"{create} AddTagsToResource", f"db:{name}", f"subgrp:{NAME}", *kinds)
    if "replicateSourceDb" not in i:
        yield from _rds("RestoreDBInstanceFromDBSnapshot", f"db:{name}", f"subgrp:{NAME}", *kinds,
                        f"snapshot:{NAME}-final")  # fmt: skip
        yield from read("rds:DescribeDBSnapshots")
    if "replicateSourceDb" in i:
        yield from _rds(create, f"db:{i['replicateSourceDb']}")
    if i.get("manageMasterUserPassword"):
        for action in ("CreateSecret", "TagResource", "RotateSecret"):
            secret = arn("secretsmanager", "secret:rds!db-0a1b")
            yield need(f"secretsmanager:{action}", secret, {"aws:ViaAWSService": "true"})
    yield from _rds("ModifyDBInstance", f"db:{name}", *kinds)
    yield from _rds("RebootDBInstance DeleteDBInstance RemoveTagsFromResource", f"db:{name}")
    if "finalSnapshotIdentifier" in i:
        yield from _rds("CreateDBSnapshot", f"db:{name}", f"snapshot:{i['finalSnapshotIdentifier']}")
    yield from through(
        "rds",
        "Encrypt Decrypt ReEncryptFrom ReEncryptTo GenerateDataKey GenerateDataKeyWithoutPlaintext",
    )
    yield grant()
    yield passed("monitoring.rds.amazonaws.com", f"{NAME}-postgres-monitoring")
    yield service_role("rds")
    yield from read("rds:DescribeDBInstances", "rds:ListTagsForResource")


def _backup_copies(i: Inputs) -> Iterator[Need]:
    """RDS checks the instance, and the copy, which has an id that RDS chooses."""
    region, key = i["region"], i["kmsKeyId"]
    copy = f"arn:aws:rds:{region}:{ACCOUNT}:auto-backup:ab-0a1b"
    for action in ("Start", "Stop"):
        for resource in (arn("rds", f"db:{NAME}"), copy):
            yield need(f"rds:{action}DBInstanceAutomatedBackupsReplication", resource)
    yield need("kms:CreateGrant", key, {"kms:GrantIsForAWSResource": "true"})
    for action in ("Decrypt", "Encrypt", "GenerateDataKey", "GenerateDataKeyWithoutPlaintext",
                   "ReEncryptFrom", "ReEncryptTo"):  # fmt: skip
        yield need(f"kms:{action}", key, {"kms:ViaService": f"rds.{region}.amazonaws.com"})
    yield need("kms:DescribeKey", key)
    yield from read("rds:DescribeDBInstanceAutomatedBackups", "rds:DescribeDBInstances")


def _postgres_parameters(i: Inputs) -> Iterator[Need]:
    actions = "CreateDBParameterGroup ModifyDBParameterGroup ResetDBParameterGroup DeleteDBParameterGroup"
    yield from _rds(f"{actions} AddTagsToResource", f"pg:{i['name']}")
    yield from read("rds:DescribeDBParameterGroups", "rds:DescribeDBParameters")


def _postgres_subnets(i: Inputs) -> Iterator[Need]:
    yield from _rds("CreateDBSubnetGroup ModifyDBSubnetGroup DeleteDBSubnetGroup AddTagsToResource",
                    f"subgrp:{i['name']}")  # fmt: skip
    yield from read("rds:DescribeDBSubnetGroups")


def _secret(i: Inputs) -> Iterator[Need]:
    actions = "CreateSecret TagResource UpdateSecret DeleteSecret"
    yield from each("secretsmanager", actions, f"secret:{i['namePrefix']}0a1b", NEW)
    yield from read("secretsmanager:DescribeSecret", "secretsmanager:GetResourcePolicy")


def _secret_version(_: Inputs) -> Iterator[Need]:
    secret = f"secret:{NAME}-postgres-admin-0a1b"
    yield from each("secretsmanager", "PutSecretValue UpdateSecretVersionStage", secret)
    yield from through("secretsmanager", "GenerateDataKey Decrypt")
    yield from read("secretsmanager:ListSecretVersionIds")


TABLE: Table = {
    "aws:elasticache/parameterGroup:ParameterGroup": _redis_parameters,
    "aws:elasticache/replicationGroup:ReplicationGroup": _replication_group,
    "aws:elasticache/subnetGroup:SubnetGroup": _redis_subnets,
    "aws:elasticache/user:User": _user,
    "aws:elasticache/userGroup:UserGroup": _user_group,
    "aws:iam/policy:Policy": _policy,
    "aws:iam/role:Role": _role,
    "aws:iam/rolePolicy:RolePolicy": _role_policy,
    "aws:iam/rolePolicyAttachment:RolePolicyAttachment": _attachment,
    "aws:kms/alias:Alias": _alias,
    "aws:kms/key:Key": _key,
    "aws:rds/eventSubscription:EventSubscription": _events,
    "aws:rds/instance:Instance": _instance,
    "aws:rds/instanceAutomatedBackupsReplication:InstanceAutomatedBackupsReplication": _backup_copies,
    "aws:rds/parameterGroup:ParameterGroup": _postgres_parameters,
    "aws:rds/subnetGroup:SubnetGroup": _postgres_subnets,
    "aws:secretsmanager/secret:Secret": _secret,
    "aws:secretsmanager/secretVersion:SecretVersion": _secret_version,
}


def beside_resources() -> Iterator[Need]:
    """Yield what the state, a restore, its adoption and a restore drill need."""
    for path in ("stacks/groundwork/unit.json", "stacks/groundwork/unit.json.bak",
                 "history/groundwork/unit/unit-1.history.json",
                 "backups/groundwork/unit/unit.1.json", "locks/organization/groundwork/unit/0a.json"):  # fmt: skip
        yield from each("s3", "GetObject PutObject DeleteObject", f"state-bucket/.pulumi/{path}")
    yield from each("s3", "GetObject", "state-bucket/.pulumi/meta.yaml")
    yield need("s3:PutObject", arn("s3", "state-bucket/.pulumi/meta.yaml"), set_up=True)
    yield from each("s3", "ListBucket", "state-bucket")
    for action in ("kms:Decrypt", "kms:Encrypt", "kms:GenerateDataKey", "kms:DescribeKey"):
        yield need(action, STATE_KEY)
    yield need("sts:GetCallerIdentity", "*")
    for name in (f"{NAME}-restored-20260101-000000", f"{NAME}-drill"):
        yield from _rds("RestoreDBInstanceToPointInTime AddTagsToResource", f"db:{NAME}", f"db:{name}",
                        f"subgrp:{NAME}", f"pg:{NAME}-{POSTGRES_FAMILY}", "og:default:postgres-15")  # fmt: skip
        yield from _rds("ModifyDBInstance DeleteDBInstance", f"db:{name}")
    yield from _rds("CreateDBSnapshot AddTagsToResource", f"db:{NAME}", f"snapshot:{NAME}-20260101-000000")
    for name in (NAME, f"{NAME}-before"):
        yield from _rds("ModifyDBInstance AddTagsToResource", f"db:{name}")
