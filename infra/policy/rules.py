"""All rules, one entry each, and the function that applies them to a stack's resources.

An entry combines checks of requirement.py for resources of some types. Checks that compare resources, or that need
other logic, are functions in the module of their subject.
"""

from __future__ import annotations

from collections.abc import Iterable

from infra.policy import elasticache, network, rds, rotation, subnets
from infra.policy import example as given
from infra.policy import resource_types as types
from infra.policy.example import made, postgres, redis
from infra.policy.finding import Finding, Status
from infra.policy.loss import LOSSES, Loss
from infra.policy.requirement import (
    be,
    be_at_least,
    be_none_of,
    be_one_of,
    be_text,
    include,
    must,
    must_name,
    must_not_be_of,
    must_not_be_set,
    parameter_must,
)
from infra.policy.resource import Resources
from infra.policy.rule import Rule, Severity
from infra.policy.value import UNKNOWN
from infra.spec.elasticache import DEFAULTS as ELASTICACHE_DEFAULTS
from infra.spec.redis import EVICTION_POLICIES

LOW, MEDIUM, HIGH, CRITICAL = Severity

# RDS reserves some of these names.
GUESSED_NAMES = ("postgres", "admin", "administrator", "root", "master", "rdsadmin", "rds_superuser")

# An entry is a block of lines: what it is, what it checks, how to fix a violation, examples. The formatter would write
# one line for each argument.
# fmt: off
RULES: tuple[Rule, ...] = (
    # RDS instances
    Rule(
        "RDS.2", "An instance has no public address", CRITICAL, (types.RDS_INSTANCE,),
        [must("publiclyAccessible", be(False), default=False)], alone=True,
        fix="set publiclyAccessible to false",
        good=postgres(publiclyAccessible=False),
        bad=[postgres(publiclyAccessible=True)],
    ),
    Rule(
        "RDS.3", "Storage is encrypted with a KMS key of the stack", MEDIUM, (types.RDS_INSTANCE,),
        [
            rds.inherited(must("storageEncrypted", be(True), default=False)),
            rds.inherited(must_name("kmsKeyId", types.KEY, "must name a KMS key of the stack")),
        ],
        fix="set storageEncrypted to true and kmsKeyId to a KMS key",
        good=postgres(storageEncrypted=True, kmsKeyId="arn:aws:kms:eu-west-1:123456789012:key/1"),
        bad=[postgres(storageEncrypted=False, kmsKeyId="key"), postgres(storageEncrypted=True), postgres()],
    ),
    Rule(
        "RDS.5", "An instance has a standby in another availability zone", MEDIUM, (types.RDS_INSTANCE,),
        # A read replica is a copy already.
        [rds.except_replicas(must("multiAz", be(True), default=False))], alone=True,
        fix="set multiAz to true",
        good=postgres(multiAz=True),
        bad=[postgres(multiAz=False), postgres()],
    ),
    Rule(
        "RDS.6", "Enhanced monitoring is on", LOW, (types.RDS_INSTANCE,),
        [
            must("monitoringInterval", be_at_least(1)),
            must_name("monitoringRoleArn", types.ROLE, "must name the role that writes the metrics"),
        ], alone=True,
        fix="set monitoringInterval to 60 seconds or less, and monitoringRoleArn",
        good=postgres(monitoringInterval=60, monitoringRoleArn="arn:aws:iam::123456789012:role/monitoring"),
        bad=[
            postgres(monitoringInterval=0, monitoringRoleArn="role"),
            postgres(monitoringRoleArn="role"),
            postgres(monitoringInterval=60),
        ],
    ),
    Rule(
        "RDS.8", "An instance is protected from deletion, and a deletion takes a final snapshot", LOW,
        (types.RDS_INSTANCE,),
        # A read replica has only copies, and RDS does not take a final snapshot of it.
        [
            rds.except_replicas(must("deletionProtection", be(True), default=False)),
            rds.except_replicas(rds.is_protected),
            rds.except_replicas(rds.takes_final_snapshot),
        ], alone=True,
        fix="set deletionProtection to true and skipFinalSnapshot to false, and protect the resource in the program",
        good=postgres(
            protect=True, deletionProtection=True, skipFinalSnapshot=False, finalSnapshotIdentifier="groundwork-final",
        ),
        bad=[
            postgres(protect=True, deletionProtection=False, finalSnapshotIdentifier="final"),
            postgres(protect=True, deletionProtection=True, skipFinalSnapshot=True),
            postgres(protect=True, deletionProtection=True, skipFinalSnapshot=False),
            postgres(deletionProtection=True, finalSnapshotIdentifier="final"),
        ],
    ),
    Rule(
        "RDS.9", "The upgrade log is exported to CloudWatch", MEDIUM, (types.RDS_INSTANCE,),
        [must("enabledCloudwatchLogsExports", include("upgrade"))], alone=True,
        fix="add 'upgrade' to enabledCloudwatchLogsExports",
        good=postgres(enabledCloudwatchLogsExports=["postgresql", "upgrade"]),
        bad=[postgres(enabledCloudwatchLogsExports=["postgresql"]), postgres()],
    ),
    Rule(
        "RDS.36", "The Postgres log is exported to CloudWatch", MEDIUM, (types.RDS_INSTANCE,),
        [must("enabledCloudwatchLogsExports", include("postgresql"))], alone=True,
        fix="add 'postgresql' to enabledCloudwatchLogsExports",
        good=postgres(enabledCloudwatchLogsExports=["postgresql"]),
        bad=[postgres(enabledCloudwatchLogsExports=["upgrade"]), postgres(enabledCloudwatchLogsExports=[])],
    ),
    Rule(
        "RDS.10", "Applications log in with IAM", MEDIUM, (types.RDS_INSTANCE,),
        [must("iamDatabaseAuthenticationEnabled", be(True), default=False)], alone=True,
        fix="set iamDatabaseAuthenticationEnabled to true",
        good=postgres(iamDatabaseAuthenticationEnabled=True),
        bad=[postgres(iamDatabaseAuthenticationEnabled=False), postgres()],
    ),
    Rule(
        "RDS.11", "Backups are kept for at least a week", MEDIUM, (types.RDS_INSTANCE,),
        # A read replica is restored from its source's backups.
        [rds.except_replicas(must("backupRetentionPeriod", be_at_least(7)))], alone=True,
        fix="set backupRetentionPeriod to 7 days or more",
        good=postgres(backupRetentionPeriod=7),
        bad=[postgres(backupRetentionPeriod=6), postgres()],
    ),
    Rule(
        "RDS.13", "Minor versions are upgraded automatically", HIGH, (types.RDS_INSTANCE,),
        [rds.inherited(must("autoMinorVersionUpgrade", be(True), default=True))],
        fix="set autoMinorVersionUpgrade to true",
        good=postgres(autoMinorVersionUpgrade=True),
        bad=[postgres(autoMinorVersionUpgrade=False)],
    ),
    Rule(
        "RDS.17", "Snapshots get the instance's tags", LOW, (types.RDS_INSTANCE,),
        [must("copyTagsToSnapshot", be(True), default=False)], alone=True,
        fix="set copyTagsToSnapshot to true",
        good=postgres(copyTagsToSnapshot=True),
        bad=[postgres(copyTagsToSnapshot=False), postgres()],
    ),
    Rule(
        "RDS.23", "Postgres does not listen on its default port", LOW, (types.RDS_INSTANCE,),
        [rds.inherited(must("port", be_none_of([5432], "is the default, 5432"), default=5432))],
        fix="set port to a number other than 5432",
        good=postgres(port=5433),
        bad=[postgres(port=5432), postgres()],
    ),
    Rule(
        "RDS.25", "The master user does not have a common name", MEDIUM, (types.RDS_INSTANCE,),
        # If it is not set, it comes from the snapshot that the instance is restored from.
        [rds.inherited(must("username", be_text(), be_none_of(GUESSED_NAMES, "is a name that attackers try first")))],
        fix="set username to a name that is hard to guess",
        good=postgres(username="groundwork_master"),
        bad=[postgres(username="postgres"), postgres(username="admin")],
    ),
    Rule(
        "RDS.managed-password", "RDS creates, stores and rotates the master user's password", HIGH,
        (types.RDS_INSTANCE,),
        [
            rds.inherited(must("manageMasterUserPassword", be(True), default=False)),
            must_not_be_set("password"),
            must_not_be_set("passwordWo"),
        ],
        fix="set manageMasterUserPassword to true, and do not set a password",
        good=postgres(manageMasterUserPassword=True),
        bad=[
            postgres(manageMasterUserPassword=True, password=UNKNOWN),
            postgres(manageMasterUserPassword=True, passwordWo="not this one"),
            postgres(manageMasterUserPassword=False),
            postgres(),
        ],
    ),
    # The resources around an RDS instance
    Rule(
        "RDS.18", "An instance does not use the default subnet group", HIGH, (types.RDS_INSTANCE,),
        [rds.inherited(subnets.must_choose_group("dbSubnetGroupName", types.RDS_SUBNET_GROUP))],
        fix="set dbSubnetGroupName",
        good=postgres(dbSubnetGroupName="isolated"),
        bad=[postgres(), postgres(dbSubnetGroupName="default")],
    ),
    Rule(
        "RDS.46", "No subnet of an instance has a route to the internet", HIGH, (types.RDS_INSTANCE,),
        [rds.inherited(subnets.must_be_private("dbSubnetGroupName", types.RDS_SUBNET_GROUP))],
        fix="use only subnets without a route to an internet gateway in the subnet group",
        good=given.subnet(*given.routing(), public=False),
        bad=[
            given.subnet(public=True),
            given.subnet(*given.routing({"cidrBlock": "0.0.0.0/0", "gatewayId": "igw-1"}), public=False),
        ],
    ),
    Rule(
        "RDS.38", "Connections without TLS are refused", MEDIUM, (types.RDS_INSTANCE,),
        [
            rds.inherited(parameter_must(
                types.RDS_PARAMETER_GROUP, "rds.force_ssl", be_one_of(["1", "1.0"], "must be 1"),
                missing="must name a group that sets rds.force_ssl", label="{name} of {group}",
            )),
        ],
        fix="set rds.force_ssl to 1 in a parameter group of the stack",
        good=given.postgres_parameter("rds.force_ssl", "1"),
        bad=[given.postgres_parameter("rds.force_ssl", "0"), given.postgres_parameter(), postgres()],
    ),
    Rule(
        "RDS.20", "An event subscription covers critical instance events", LOW, (types.RDS_INSTANCE,),
        [rds.subscribed("db-instance", "maintenance", "configuration change", "failure", to=rds.itself)],
        fix="create an event subscription for db-instance: maintenance, configuration change, failure",
        good=given.events("db-instance", "maintenance", "configuration change", "failure"),
        bad=[
            postgres(),
            given.events("db-instance", "maintenance", "failure"),
            given.events("db-instance", "maintenance", "configuration change", "failure", enabled=False),
            given.events("db-instance", "maintenance", "configuration change", "failure", sourceIds=["x"]),
        ],
    ),
    Rule(
        "RDS.21", "An event subscription covers changes of parameter groups", LOW, (types.RDS_INSTANCE,),
        [rds.subscribed("db-parameter-group", "configuration change", to=rds.its_parameter_group)],
        fix="create an event subscription for db-parameter-group: configuration change",
        good=given.events("db-parameter-group", "configuration change"),
        bad=[postgres(), given.events("db-parameter-group", "failure")],
    ),
    Rule(
        "RDS.22", "An event subscription covers changes of security groups", LOW, (types.RDS_INSTANCE,),
        [rds.subscribed("db-security-group", "configuration change", "failure", to=rds.every_object)],
        fix="create an event subscription for db-security-group: configuration change, failure",
        good=given.events("db-security-group", "configuration change", "failure"),
        bad=[postgres(), given.events("db-security-group", "failure")],
    ),
    # Redis on ElastiCache
    Rule(
        "ElastiCache.1", "Snapshots are taken daily and kept", HIGH, (types.REDIS_GROUP,),
        [must("snapshotRetentionLimit", be_at_least(1))], alone=True,
        fix="set snapshotRetentionLimit to 1 day or more",
        good=redis(snapshotRetentionLimit=1),
        bad=[redis(snapshotRetentionLimit=0), redis()],
    ),
    Rule(
        "ElastiCache.2", "Minor versions are upgraded automatically", HIGH, (types.REDIS_GROUP,),
        [must("autoMinorVersionUpgrade", be(True), default=True)], alone=True,
        fix="set autoMinorVersionUpgrade to true",
        good=redis(autoMinorVersionUpgrade=True),
        bad=[redis(autoMinorVersionUpgrade="false")],
    ),
    Rule(
        "ElastiCache.3", "A replica in another availability zone takes over automatically", MEDIUM,
        (types.REDIS_GROUP,),
        [
            must("automaticFailoverEnabled", be(True), default=False),
            must("multiAzEnabled", be(True), default=False),
        ], alone=True,
        fix="set automaticFailoverEnabled and multiAzEnabled to true, and create at least two nodes",
        good=redis(automaticFailoverEnabled=True, multiAzEnabled=True),
        bad=[redis(automaticFailoverEnabled=False, multiAzEnabled=True), redis(automaticFailoverEnabled=True)],
    ),
    Rule(
        "ElastiCache.4", "Data at rest is encrypted", MEDIUM, (types.REDIS_GROUP,),
        [must("atRestEncryptionEnabled", be(True), default=False)], alone=True,
        fix="set atRestEncryptionEnabled to true",
        good=redis(atRestEncryptionEnabled=True),
        bad=[redis(atRestEncryptionEnabled=False), redis()],
    ),
    Rule(
        "ElastiCache.5", "Connections without TLS are refused", MEDIUM, (types.REDIS_GROUP,),
        [
            must("transitEncryptionEnabled", be(True), default=False),
            must("transitEncryptionMode", be("required")),
        ], alone=True,
        fix="set transitEncryptionEnabled to true and transitEncryptionMode to 'required'",
        good=redis(transitEncryptionEnabled=True, transitEncryptionMode="required"),
        bad=[
            redis(transitEncryptionEnabled=True, transitEncryptionMode="preferred"),
            redis(transitEncryptionEnabled=True),
            redis(transitEncryptionEnabled=False, transitEncryptionMode="required"),
        ],
    ),
    Rule(
        "ElastiCache.6", "Only the stack's users can log in, and the user `default` is off", MEDIUM,
        (types.REDIS_GROUP,),
        [elasticache.own_users],
        fix="set userGroupIds to a user group whose user named default has an accessString that begins with off",
        good=given.users("off -@all"),
        bad=[given.users("on ~* +@all"), given.users("-@all"), given.users("off", name="other"), redis()],
    ),
    Rule(
        "ElastiCache.7", "A replication group does not use the default subnet group", HIGH, (types.REDIS_GROUP,),
        [subnets.must_choose_group("subnetGroupName", types.REDIS_SUBNET_GROUP)],
        fix="set subnetGroupName to a subnet group of the stack",
        good=redis(subnetGroupName="isolated"),
        bad=[redis(subnetGroupName="default"), redis()],
    ),
    Rule(
        "ElastiCache.reserved-memory", "A quarter of the memory is reserved for failovers and snapshots", MEDIUM,
        (types.REDIS_GROUP,),
        [
            parameter_must(
                types.REDIS_PARAMETER_GROUP, "reserved-memory-percent", be_at_least(25),
                default=ELASTICACHE_DEFAULTS["reserved-memory-percent"],
            ),
        ],
        fix="set reserved-memory-percent to 25 or more in the parameter group",
        good=given.redis_parameter("reserved-memory-percent", "25"),
        bad=[given.redis_parameter("reserved-memory-percent", "10"), redis()],
    ),
    Rule(
        "ElastiCache.maxmemory-policy", "The eviction policy is one of Redis, set in the stack", MEDIUM,
        (types.REDIS_GROUP,),
        [
            parameter_must(
                types.REDIS_PARAMETER_GROUP, "maxmemory-policy",
                be_one_of(EVICTION_POLICIES, "is not a policy of Redis"),
                default=ELASTICACHE_DEFAULTS["maxmemory-policy"],
            ),
        ],
        fix="set maxmemory-policy to an eviction policy of Redis in the parameter group",
        good=given.redis_parameter("maxmemory-policy", "allkeys-lfu"),
        bad=[given.redis_parameter("maxmemory-policy", "allkeys-lfo"), redis()],
    ),
    # Networks
    Rule(
        "EC2.2", "A VPC's default security group lets nothing in or out", HIGH, (types.VPC,),
        [network.closed_default_group],
        fix="create a DefaultSecurityGroup for the VPC, without ingress and egress",
        good=given.vpc(ingress=[], egress=[]),
        bad=[
            [made(types.VPC, "vpc")],
            given.vpc(ingress=[{"self": True}]),
            given.vpc(egress=[{"cidrBlocks": ["10.0.0.0/8"]}]),
        ],
    ),
    Rule(
        "EC2.18", "No security group allows access from any address", HIGH, network.ALLOWING,
        [network.nobody_from_everywhere], alone=True,
        fix="allow a security group or the addresses of a network, never 0.0.0.0/0 or ::/0",
        good=[
            *given.group(ingress=[{"securityGroups": ["sg-1"], "fromPort": 5433, "toPort": 5433}]),
            made(types.SECURITY_GROUP_RULE, "rule", type="ingress", cidrBlocks=["10.0.0.0/16"]),
            given.ingress(cidrIpv4="10.0.0.0/16"),
        ],
        bad=[
            given.group(ingress=[{"cidrBlocks": ["10.0.0.0/8", "0.0.0.0/0"]}]),
            given.group(ingress=[{"ipv6CidrBlocks": ["::/0"]}]),
            given.group(ingress=[{"cidrBlocks": ["0.0.0.0/1"]}, {"cidrBlocks": ["128.0.0.0/2", "192.0.0.0/2"]}]),
            [made(types.SECURITY_GROUP_RULE, "rule", type="ingress", cidrBlocks=["0.0.0.0/0"])],
            [given.ingress(cidrIpv4="0.0.0.0/0")],
            [given.ingress(cidrIpv6="0::0/0")],
        ],
    ),
    Rule(
        "EC2.19", "Data stores are reachable only from security groups, not from addresses", CRITICAL,
        tuple(network.SERVERS),
        [network.application_alone],
        fix="allow security groups in the servers' security group, and no addresses",
        good=given.reachable(given.ingress(referencedSecurityGroupId="application-id"), ingress=[]),
        bad=[
            postgres(),
            given.reachable(given.ingress(cidrIpv4="10.0.0.0/16")),
            given.reachable(ingress=[{"cidrBlocks": ["10.0.0.0/16"]}]),
            given.reachable(ingress=[{"self": True}]),
            given.reachable(given.ingress(prefixListId="pl-1")),
        ],
    ),
    # Keys and secrets
    Rule(
        "KMS.4", "Keys are rotated every year", MEDIUM, (types.KEY,),
        [rotation.key_rotates], alone=True,
        fix="set enableKeyRotation to true",
        good=[made(types.KEY, "data", enableKeyRotation=True)],
        bad=[[made(types.KEY, "data", enableKeyRotation=False)], [made(types.KEY, "data")]],
    ),
    Rule(
        "SecretsManager.1", "Secrets are rotated automatically", MEDIUM, (types.SECRET,),
        [rotation.secret_rotates],
        fix="create a SecretRotation for the secret",
        good=given.rotation(automaticallyAfterDays=30),
        bad=[[made(types.SECRET, "secret")]],
    ),
    Rule(
        "SecretsManager.4", "Rotated secrets are rotated at least every 90 days", MEDIUM, (types.SECRET,),
        [rotation.secret_rotates_every(90)],
        fix="set automaticallyAfterDays of its SecretRotation to 90 or less",
        good=given.rotation(automaticallyAfterDays=90),
        bad=[
            given.rotation(automaticallyAfterDays=91),
            given.rotation(scheduleExpression="rate(100 days)"),
            given.rotation(),
        ],
    ),
    # Data stores of other kinds
    Rule(
        "Groundwork.coverage", "Every data store is of a kind that the rules check", MEDIUM,
        (types.RDS_INSTANCE, types.REDIS_GROUP, *types.UNRULED),
        [must_not_be_of(types.UNRULED, "is a data store that no rule checks")], alone=True,
        fix="use an RDS instance and an ElastiCache replication group, or write the rules",
        good=postgres(),
        bad=[[made(types.UNRULED[0], "data")]],
    ),
)
# fmt: on

# Everything that a check can find, by id: violations of rules, and losses of data.
CATALOGUE: tuple[Rule | Loss, ...] = (*RULES, *LOSSES)
IDS = frozenset(each.id for each in CATALOGUE)


def judge(resources: Resources, rules: Iterable[Rule] = RULES) -> list[Finding]:
    """Return the findings of the rules, ordered by rule and resource."""
    return [
        Finding(
            rule=rule.id,
            title=rule.title,
            severity=rule.severity,
            status=Status.VIOLATED if problem.is_violation else Status.UNDETERMINED,
            urn=resource.urn,
            property=problem.property,
            message=problem.message,
            fix=rule.fix,
            position=resource.position,
        )
        for rule in rules
        for resource in resources.of(*rule.types)
        if not resource.is_external
        for problem in rule.problems(resource, resources)
    ]
