"""The resource types that hold data, and the properties that guard the data."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from infra.policy.lifecycle import expires_sooner
from infra.policy.loss import (
    DELETE,
    DOWNGRADE,
    FINAL_SNAPSHOT,
    KEY_DELETION,
    MEMORY,
    PROTECTION,
    REPLACE,
    RETENTION,
    STORAGE,
    SUBNET,
    Loss,
)
from infra.policy.resource import Resource
from infra.policy.value import UNKNOWN, as_bool, as_number, holds_unknown, is_number
from infra.settings.shared import TOKEN_KEY
from infra.spec.aws_sizes import CACHE_NODES, DATABASE_CLASSES

# Returns whether a change from the first value to the second one is a loss, or UNKNOWN.
Comparison = Callable[[Any, Any], object]


@dataclass(frozen=True)
class Guard:
    """A property (`a.b` for a nested one) whose change may be a loss.

    `says` is the message for a loss. `default` is the provider's value for a property that is not set.
    """

    property: str
    loss: Loss
    is_loss: Comparison
    says: str
    default: Any = None

    def judge(self, old: Resource, new: Resource) -> object:
        """Return whether the change is a loss: True, False or UNKNOWN."""
        before, after = self._value(old), self._value(new)
        if before is UNKNOWN or after is UNKNOWN:
            return UNKNOWN
        return self.is_loss(before, after)

    def _value(self, resource: Resource) -> Any:
        value: Any = resource.properties
        for name in self.property.split("."):
            value = value.get(name) if isinstance(value, Mapping) else value
        if value is None:
            return self.default
        return UNKNOWN if holds_unknown(value) else value


@dataclass(frozen=True)
class Stateful:
    """The data that is lost with a resource of one type, and the properties that guard it.

    - `holds`: the data, as a noun for messages.
    - `deleted`, `replaced`: the loss when the resource is deleted or replaced. None if this is not a loss.
    - `names`: only resources whose names match hold data. None: all of them.
    - `rules_over`: for a resource that configures another one and holds no data itself, the property that names the
      other one. Creating such a resource may be a loss too.
    """

    holds: str
    guards: tuple[Guard, ...] = ()
    deleted: Loss | None = DELETE
    replaced: Loss | None = REPLACE
    names: re.Pattern[str] | None = None
    rules_over: str | None = None


def _switched_off(before: Any, after: Any) -> object:
    return as_bool(before) is True and as_bool(after) is not True


def _switched_on(before: Any, after: Any) -> object:
    return as_bool(before) is not True and as_bool(after) is True


def _shrunk(before: Any, after: Any) -> object:
    before, after = as_number(before), as_number(after)
    if before is None or after is None:
        # The provider keeps the current value.
        return False
    if not is_number(before) or not is_number(after):
        return UNKNOWN
    return bool(after < before)


def _ends_sooner(before: Any, after: Any) -> object:
    """Compare retention times in days. 0 or no value means forever."""
    return _shrunk(as_number(before) or math.inf, as_number(after) or math.inf)


def _smaller(memory: Mapping[str, float]) -> Comparison:
    """Compare machine sizes by memory. An unlisted size may be smaller."""

    def is_smaller(before: Any, after: Any) -> object:
        if before is None or after is None or before == after:
            return False
        if before not in memory or after not in memory:
            return UNKNOWN
        return memory[after] < memory[before]

    return is_smaller


def _taken_away(before: Any, after: Any) -> object:
    return bool(before) and not after


def _suspended(before: Any, after: Any) -> object:
    return before == "Enabled" and after != "Enabled"


def _downgraded(before: Any, after: Any) -> object:
    """Compare the version numbers that both values have: 15 is not a downgrade of 15.8."""
    if before is None or after is None:
        return False
    old, new = _numbers(before), _numbers(after)
    if not old or not new:
        return UNKNOWN
    length = min(len(old), len(new))
    return new[:length] < old[:length]


def _numbers(version: Any) -> tuple[int, ...]:
    match = re.match(r"\d+(?:\.\d+)*", str(version))
    return tuple(int(part) for part in match[0].split(".")) if match else ()


_VERSION = Guard("engineVersion", DOWNGRADE, _downgraded, "is downgraded")
_NODE = Guard("nodeType", MEMORY, _smaller(CACHE_NODES), "gets less memory")
_BUCKET = Stateful(
    "objects",
    (
        Guard("forceDestroy", PROTECTION, _switched_on, "is switched on", default=False),
        Guard("lifecycleRules", RETENTION, expires_sooner, "expires objects sooner"),
    ),
)
_LIFECYCLE = Stateful(
    "rules of how long objects are kept",
    (Guard("rules", RETENTION, expires_sooner, "expires objects sooner"),),
    # Without lifecycle rules all objects are kept.
    deleted=None,
    replaced=None,
    rules_over="bucket",
)

STATEFUL: Mapping[str, Stateful] = {
    "aws:rds/instance:Instance": Stateful(
        "a database",
        (
            _VERSION,
            Guard("instanceClass", MEMORY, _smaller(DATABASE_CLASSES), "gets less memory"),
            Guard("allocatedStorage", STORAGE, _shrunk, "shrinks"),
            Guard("backupRetentionPeriod", RETENTION, _shrunk, "is shortened", default=0),
            Guard("deletionProtection", PROTECTION, _switched_off, "is switched off", default=False),
            Guard("deleteAutomatedBackups", PROTECTION, _switched_on, "is switched on", default=True),
            Guard("skipFinalSnapshot", FINAL_SNAPSHOT, _switched_on, "is switched on", default=False),
        ),
    ),
    "aws:rds/cluster:Cluster": Stateful(
        "a database",
        (
            _VERSION,
            Guard("backupRetentionPeriod", RETENTION, _shrunk, "is shortened", default=1),
            Guard("deletionProtection", PROTECTION, _switched_off, "is switched off", default=False),
            Guard("deleteAutomatedBackups", PROTECTION, _switched_on, "is switched on", default=True),
            Guard("skipFinalSnapshot", FINAL_SNAPSHOT, _switched_on, "is switched on", default=False),
        ),
    ),
    # RDS keeps the copies that exist when the copying ends.
    "aws:rds/instanceAutomatedBackupsReplication:InstanceAutomatedBackupsReplication": Stateful(
        "copies of backups",
        (Guard("retentionPeriod", RETENTION, _shrunk, "is shortened", default=7),),
        deleted=PROTECTION,
        replaced=None,
    ),
    "aws:rds/snapshot:Snapshot": Stateful("a backup"),
    "aws:rds/clusterSnapshot:ClusterSnapshot": Stateful("a backup"),
    "aws:elasticache/replicationGroup:ReplicationGroup": Stateful(
        "a cache",
        (
            _VERSION,
            _NODE,
            Guard("numNodeGroups", STORAGE, _shrunk, "is reduced", default=1),
            Guard("snapshotRetentionLimit", RETENTION, _shrunk, "is shortened", default=0),
            Guard("finalSnapshotIdentifier", FINAL_SNAPSHOT, _taken_away, "is removed"),
        ),
    ),
    "aws:elasticache/cluster:Cluster": Stateful(
        "a cache",
        (
            _VERSION,
            _NODE,
            Guard("snapshotRetentionLimit", RETENTION, _shrunk, "is shortened", default=0),
            Guard("finalSnapshotIdentifier", FINAL_SNAPSHOT, _taken_away, "is removed"),
        ),
    ),
    "aws:kms/key:Key": Stateful(
        "a key",
        (
            Guard("deletionWindowInDays", RETENTION, _shrunk, "is shortened", default=30),
            Guard("isEnabled", PROTECTION, _switched_off, "is switched off", default=True),
        ),
        deleted=KEY_DELETION,
        replaced=KEY_DELETION,
    ),
    "aws:secretsmanager/secret:Secret": Stateful(
        "a secret",
        (Guard("recoveryWindowInDays", RETENTION, _shrunk, "is shortened", default=30),),
    ),
    # A replacement is a new value for the secret. Only a deletion is a loss.
    "aws:secretsmanager/secretVersion:SecretVersion": Stateful("a secret's value", replaced=None),
    "aws:cloudwatch/logGroup:LogGroup": Stateful(
        "a log", (Guard("retentionInDays", RETENTION, _ends_sooner, "is shortened"),)
    ),
    "aws:s3/bucket:Bucket": _BUCKET,
    "aws:s3/bucketV2:BucketV2": _BUCKET,
    "aws:s3/bucketLifecycleConfiguration:BucketLifecycleConfiguration": _LIFECYCLE,
    "aws:s3/bucketLifecycleConfigurationV2:BucketLifecycleConfigurationV2": _LIFECYCLE,
    "aws:s3/bucketVersioning:BucketVersioning": Stateful(
        "objects' versions",
        (Guard("versioningConfiguration.status", PROTECTION, _suspended, "is suspended"),),
        deleted=PROTECTION,
        replaced=None,
    ),
    # A subnet's addresses follow from the zone's position in awsZones. EC2 refuses addresses that another subnet still
    # has, and deletes no subnet with a server.
    "aws:ec2/subnet:Subnet": Stateful("a network of servers", deleted=SUBNET, replaced=SUBNET),
    # The program does not create these yet. They are listed so that the guard works if it does.
    "aws:docdb/cluster:Cluster": Stateful("a database"),
    "aws:dynamodb/table:Table": Stateful("a table"),
    "aws:ebs/volume:Volume": Stateful("a volume"),
    "aws:efs/fileSystem:FileSystem": Stateful("a file system"),
    "aws:elasticache/serverlessCache:ServerlessCache": Stateful("a cache"),
    "aws:memorydb/cluster:Cluster": Stateful("a database"),
    "docker:index/volume:Volume": Stateful("a volume"),
    # Keys that the program creates and that only Pulumi's state stores. The data that they encrypt is lost with them.
    "pulumi-python:dynamic:Resource": Stateful(
        "a key",
        deleted=KEY_DELETION,
        replaced=KEY_DELETION,
        names=re.compile(rf"{TOKEN_KEY}.+|backup-cipher"),
    ),
}


def stateful(resource: Resource) -> Stateful | None:
    """Return the entry of STATEFUL for a resource, or None if the resource holds no data."""
    kind = STATEFUL.get(resource.type)
    if kind is None or (kind.names is not None and not kind.names.fullmatch(resource.name)):
        return None
    return kind
