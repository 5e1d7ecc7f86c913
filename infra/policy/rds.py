"""Rules for the properties of RDS instances."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from infra.policy.example import made
from infra.policy.expectation import (
    must_be,
    must_be_at_least,
    must_be_set,
    must_include,
    must_name,
    must_not_be_set,
    unknown,
)
from infra.policy.kms import KEY
from infra.policy.resource import Resource, Resources
from infra.policy.rule import Problem, Severity, rule
from infra.policy.value import UNKNOWN, as_number

INSTANCE = "aws:rds/instance:Instance"
ROLE = "aws:iam/role:Role"
# Properties that a read replica inherits from its source unless it sets them.
INHERITED = (
    "autoMinorVersionUpgrade",
    "dbSubnetGroupName",
    "kmsKeyId",
    "manageMasterUserPassword",
    "parameterGroupName",
    "port",
    "storageEncrypted",
    "username",
)
DEFAULT_PORT = 5432
# Names that attackers try first. RDS reserves some of them.
_GUESSED_NAMES = frozenset(
    {"postgres", "admin", "administrator", "root", "master", "rdsadmin", "rds_superuser"}
)
LEAST_RETENTION_DAYS = 7


def instance(**properties: Any) -> Resource:
    return made(INSTANCE, "postgres", **properties)


def is_replica(db: Resource) -> bool:
    return db.get("replicateSourceDb") is not None


def as_replica(db: Resource, resources: Resources) -> Resource:
    """Return the instance. A read replica gets the properties that it inherits from its source."""
    if not is_replica(db):
        return db
    source = resources.named_by(db, "replicateSourceDb", INSTANCE)
    return db.inheriting(source.found[0] if source.is_complete else None, INHERITED)


@rule(
    "RDS.2",
    "An instance has no public address",
    Severity.CRITICAL,
    on=INSTANCE,
    fix="set publiclyAccessible to false",
    good=[instance(publiclyAccessible=False)],
    bad=[[instance(publiclyAccessible=True)]],
    alone=True,
)
def no_public_address(db: Resource, resources: Resources) -> Iterator[Problem]:
    yield from must_be(db, "publiclyAccessible", False, default=False)


@rule(
    "RDS.3",
    "Storage is encrypted with a KMS key of the stack",
    Severity.MEDIUM,
    on=INSTANCE,
    fix="set storageEncrypted to true and kmsKeyId to a KMS key",
    good=[instance(storageEncrypted=True, kmsKeyId="arn:aws:kms:eu-west-1:123456789012:key/1")],
    bad=[[instance(storageEncrypted=False, kmsKeyId="key")], [instance(storageEncrypted=True)], [instance()]],
)
def encrypted(db: Resource, resources: Resources) -> Iterator[Problem]:
    db = as_replica(db, resources)
    yield from must_be(db, "storageEncrypted", True, default=False)
    yield from must_name(db, "kmsKeyId", resources, KEY, "must name a KMS key of the stack")


@rule(
    "RDS.5",
    "An instance has a standby in another availability zone",
    Severity.MEDIUM,
    on=INSTANCE,
    fix="set multiAz to true",
    good=[instance(multiAz=True)],
    bad=[[instance(multiAz=False)], [instance()]],
    alone=True,
)
def standby(db: Resource, resources: Resources) -> Iterator[Problem]:
    # A read replica is a copy already.
    if not is_replica(db):
        yield from must_be(db, "multiAz", True, default=False)


@rule(
    "RDS.6",
    "Enhanced monitoring is on",
    Severity.LOW,
    on=INSTANCE,
    fix="set monitoringInterval to 60 seconds or less, and monitoringRoleArn",
    good=[instance(monitoringInterval=60, monitoringRoleArn="arn:aws:iam::123456789012:role/monitoring")],
    bad=[
        [instance(monitoringInterval=0, monitoringRoleArn="role")],
        [instance(monitoringRoleArn="role")],
        [instance(monitoringInterval=60)],
    ],
    alone=True,
)
def enhanced_monitoring(db: Resource, resources: Resources) -> Iterator[Problem]:
    yield from must_be_at_least(db, "monitoringInterval", 1)
    why = "must name the role that writes the metrics"
    yield from must_name(db, "monitoringRoleArn", resources, ROLE, why)


@rule(
    "RDS.8",
    "An instance is protected from deletion, and a deletion takes a final snapshot",
    Severity.LOW,
    on=INSTANCE,
    fix="set deletionProtection to true and skipFinalSnapshot to false, and protect the resource in the program",
    good=[
        made(
            INSTANCE, "postgres", protect=True, deletionProtection=True, skipFinalSnapshot=False,
            finalSnapshotIdentifier="groundwork-final",
        )
    ],
    bad=[
        [made(INSTANCE, "postgres", protect=True, deletionProtection=False, finalSnapshotIdentifier="final")],
        [made(INSTANCE, "postgres", protect=True, deletionProtection=True, skipFinalSnapshot=True)],
        [made(INSTANCE, "postgres", protect=True, deletionProtection=True, skipFinalSnapshot=False)],
        [instance(deletionProtection=True, finalSnapshotIdentifier="final")],
    ],
    alone=True,
)  # fmt: skip
def deletion_protection(db: Resource, resources: Resources) -> Iterator[Problem]:
    yield from must_be(db, "deletionProtection", True, default=False)
    if not db.is_protected:
        yield Problem("protect", "the program does not protect the resource")
    # RDS does not take a final snapshot of a read replica.
    if not is_replica(db):
        yield from must_be(db, "skipFinalSnapshot", False, default=False)
        if db.get("skipFinalSnapshot") in (None, False):
            yield from must_be_set(
                db, "finalSnapshotIdentifier", "must be set, because a deletion fails without it"
            )


@rule(
    "RDS.9",
    "The upgrade log is exported to CloudWatch",
    Severity.MEDIUM,
    on=INSTANCE,
    fix="add 'upgrade' to enabledCloudwatchLogsExports",
    good=[instance(enabledCloudwatchLogsExports=["postgresql", "upgrade"])],
    bad=[[instance(enabledCloudwatchLogsExports=["postgresql"])], [instance()]],
    alone=True,
)
def upgrade_log(db: Resource, resources: Resources) -> Iterator[Problem]:
    yield from must_include(db, "enabledCloudwatchLogsExports", "upgrade")


@rule(
    "RDS.36",
    "The Postgres log is exported to CloudWatch",
    Severity.MEDIUM,
    on=INSTANCE,
    fix="add 'postgresql' to enabledCloudwatchLogsExports",
    good=[instance(enabledCloudwatchLogsExports=["postgresql"])],
    bad=[[instance(enabledCloudwatchLogsExports=["upgrade"])], [instance(enabledCloudwatchLogsExports=[])]],
    alone=True,
)
def postgres_log(db: Resource, resources: Resources) -> Iterator[Problem]:
    yield from must_include(db, "enabledCloudwatchLogsExports", "postgresql")


@rule(
    "RDS.10",
    "Applications log in with IAM",
    Severity.MEDIUM,
    on=INSTANCE,
    fix="set iamDatabaseAuthenticationEnabled to true",
    good=[instance(iamDatabaseAuthenticationEnabled=True)],
    bad=[[instance(iamDatabaseAuthenticationEnabled=False)], [instance()]],
    alone=True,
)
def iam_authentication(db: Resource, resources: Resources) -> Iterator[Problem]:
    yield from must_be(db, "iamDatabaseAuthenticationEnabled", True, default=False)


@rule(
    "RDS.11",
    "Backups are kept for at least a week",
    Severity.MEDIUM,
    on=INSTANCE,
    fix=f"set backupRetentionPeriod to {LEAST_RETENTION_DAYS} days or more",
    good=[instance(backupRetentionPeriod=7)],
    bad=[[instance(backupRetentionPeriod=6)], [instance()]],
    alone=True,
)
def backups(db: Resource, resources: Resources) -> Iterator[Problem]:
    # A read replica is restored from its source's backups.
    if not is_replica(db):
        yield from must_be_at_least(db, "backupRetentionPeriod", LEAST_RETENTION_DAYS)


@rule(
    "RDS.13",
    "Minor versions are upgraded automatically",
    Severity.HIGH,
    on=INSTANCE,
    fix="set autoMinorVersionUpgrade to true",
    good=[instance(autoMinorVersionUpgrade=True)],
    bad=[[instance(autoMinorVersionUpgrade=False)]],
)
def minor_upgrades(db: Resource, resources: Resources) -> Iterator[Problem]:
    yield from must_be(as_replica(db, resources), "autoMinorVersionUpgrade", True, default=True)


@rule(
    "RDS.17",
    "Snapshots get the instance's tags",
    Severity.LOW,
    on=INSTANCE,
    fix="set copyTagsToSnapshot to true",
    good=[instance(copyTagsToSnapshot=True)],
    bad=[[instance(copyTagsToSnapshot=False)], [instance()]],
    alone=True,
)
def snapshot_tags(db: Resource, resources: Resources) -> Iterator[Problem]:
    yield from must_be(db, "copyTagsToSnapshot", True, default=False)


@rule(
    "RDS.23",
    "Postgres does not listen on its default port",
    Severity.LOW,
    on=INSTANCE,
    fix=f"set port to a number other than {DEFAULT_PORT}",
    good=[instance(port=5433)],
    bad=[[instance(port=DEFAULT_PORT)], [instance()]],
)
def port(db: Resource, resources: Resources) -> Iterator[Problem]:
    value = as_number(as_replica(db, resources).get("port"))
    if value is UNKNOWN:
        yield unknown("port")
    elif value in (None, DEFAULT_PORT):
        yield Problem("port", f"is the default, {DEFAULT_PORT}")


@rule(
    "RDS.25",
    "The master user does not have a common name",
    Severity.MEDIUM,
    on=INSTANCE,
    fix="set username to a name that is hard to guess",
    good=[instance(username="groundwork_master")],
    bad=[[instance(username="postgres")], [instance(username="admin")]],
)
def master_name(db: Resource, resources: Resources) -> Iterator[Problem]:
    value = as_replica(db, resources).get("username")
    if not isinstance(value, str):
        # If it is not set, it comes from the snapshot that the instance is restored from.
        yield unknown("username")
    elif value.lower() in _GUESSED_NAMES:
        yield Problem("username", "is a name that attackers try first")


@rule(
    "RDS.managed-password",
    "RDS creates, stores and rotates the master user's password",
    Severity.HIGH,
    on=INSTANCE,
    fix="set manageMasterUserPassword to true, and do not set a password",
    good=[instance(manageMasterUserPassword=True)],
    bad=[
        [instance(manageMasterUserPassword=True, password=UNKNOWN)],
        [instance(manageMasterUserPassword=True, passwordWo="not this one")],
        [instance(manageMasterUserPassword=False)],
        [instance()],
    ],
)
def managed_password(db: Resource, resources: Resources) -> Iterator[Problem]:
    yield from must_be(as_replica(db, resources), "manageMasterUserPassword", True, default=False)
    yield from must_not_be_set(db, "password", "passwordWo")
