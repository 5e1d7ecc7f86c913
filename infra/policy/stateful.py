"""Which resources hold data, and which of their properties guard it."""

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
    Loss,
)
from infra.policy.resource import Resource
from infra.policy.value import UNKNOWN, as_bool, as_number, holds_unknown, is_number
from infra.spec.aws_sizes import CACHE_NODES, DATABASE_CLASSES

# Of two values, whether the step from the first to the second loses something; UNKNOWN where that is open.
Comparison = Callable[[Any, Any], object]


@dataclass(frozen=True)
class Guard:
    """A property (a.b for one inside another) whose change from `old` to `new` may be a loss.

    `default` is the provider's value where it is not set.
    """

    property: str
    loss: Loss
    is_loss: Comparison
    says: str
    default: Any = None

    def judge(self, old: Resource, new: Resource) -> object:
        """Whether the change is a loss: True, False, or UNKNOWN."""
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
    """What is lost with a resource of a type, and what guards it. `names` are those of the resources that count.

    `rules_over` is the property that names what it says something about and does not hold itself: it takes from that
    also by being made.
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
        # The provider keeps what there is.
        return False
    if not is_number(before) or not is_number(after):
        return UNKNOWN
    return bool(after < before)


def _ends_sooner(before: Any, after: Any) -> object:
    """Of days, of which none are for ever."""
    return _shrunk(as_number(before) or math.inf, as_number(after) or math.inf)


def _smaller(memory: Mapping[str, float]) -> Comparison:
    """By the memory of machine sizes; one that nobody here knows may be smaller."""

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
    """By the numbers of a version, as far as both have them: 15 is no downgrade of 15.8."""
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


_VERSION = Guard("engineVersion", DOWNGRADE, _downgraded, "gets an older version")
_NODE = Guard("nodeType", MEMORY, _smaller(CACHE_NODES), "gets less memory")
_BUCKET = Stateful(
    "objects",
    (
        Guard("forceDestroy", PROTECTION, _switched_on, "is switched on", default=False),
        Guard("lifecycleRules", RETENTION, expires_sooner, "expire something sooner"),
    ),
)
_LIFECYCLE = Stateful(
    "rules of how long objects are kept",
    (Guard("rules", RETENTION, expires_sooner, "expire something sooner"),),
    # Without them everything is kept.
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
            Guard("allocatedStorage", STORAGE, _shrunk, "gets less"),
            Guard("backupRetentionPeriod", RETENTION, _shrunk, "gets shorter", default=0),
            Guard("deletionProtection", PROTECTION, _switched_off, "is switched off", default=False),
            Guard("deleteAutomatedBackups", PROTECTION, _switched_on, "is switched on", default=True),
            Guard("skipFinalSnapshot", FINAL_SNAPSHOT, _switched_on, "is switched on", default=False),
        ),
    ),
    "aws:rds/cluster:Cluster": Stateful(
        "a database",
        (
            _VERSION,
            Guard("backupRetentionPeriod", RETENTION, _shrunk, "gets shorter", default=1),
            Guard("deletionProtection", PROTECTION, _switched_off, "is switched off", default=False),
            Guard("deleteAutomatedBackups", PROTECTION, _switched_on, "is switched on", default=True),
            Guard("skipFinalSnapshot", FINAL_SNAPSHOT, _switched_on, "is switched on", default=False),
        ),
    ),
    "aws:rds/snapshot:Snapshot": Stateful("a backup"),
    "aws:rds/clusterSnapshot:ClusterSnapshot": Stateful("a backup"),
    "aws:elasticache/replicationGroup:ReplicationGroup": Stateful(
        "a cache",
        (
            _VERSION,
            _NODE,
            Guard("numNodeGroups", STORAGE, _shrunk, "gets fewer", default=1),
            Guard("snapshotRetentionLimit", RETENTION, _shrunk, "gets shorter", default=0),
            Guard("finalSnapshotIdentifier", FINAL_SNAPSHOT, _taken_away, "is taken away"),
        ),
    ),
    "aws:elasticache/cluster:Cluster": Stateful(
        "a cache",
        (
            _VERSION,
            _NODE,
            Guard("snapshotRetentionLimit", RETENTION, _shrunk, "gets shorter", default=0),
            Guard("finalSnapshotIdentifier", FINAL_SNAPSHOT, _taken_away, "is taken away"),
        ),
    ),
    "aws:kms/key:Key": Stateful(
        "a key",
        (
            Guard("deletionWindowInDays", RETENTION, _shrunk, "gets shorter", default=30),
            Guard("isEnabled", PROTECTION, _switched_off, "is switched off", default=True),
        ),
        deleted=KEY_DELETION,
        replaced=KEY_DELETION,
    ),
    "aws:secretsmanager/secret:Secret": Stateful(
        "a secret",
        (Guard("recoveryWindowInDays", RETENTION, _shrunk, "gets shorter", default=30),),
    ),
    # A new value is a new version in place of the old one; that none follows is the loss.
    "aws:secretsmanager/secretVersion:SecretVersion": Stateful("a secret's value", replaced=None),
    "aws:cloudwatch/logGroup:LogGroup": Stateful(
        "a log", (Guard("retentionInDays", RETENTION, _ends_sooner, "gets shorter"),)
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
    # Nothing here makes them yet; who adds one is not to find out by losing it.
    "aws:docdb/cluster:Cluster": Stateful("a database"),
    "aws:dynamodb/table:Table": Stateful("a table"),
    "aws:ebs/volume:Volume": Stateful("a volume"),
    "aws:efs/fileSystem:FileSystem": Stateful("a file system"),
    "aws:elasticache/serverlessCache:ServerlessCache": Stateful("a cache"),
    "aws:memorydb/cluster:Cluster": Stateful("a database"),
    "docker:index/volume:Volume": Stateful("a volume"),
    # Made by the program and kept in Pulumi's state alone: what they encrypted is lost with them.
    "pulumi-python:dynamic:Resource": Stateful(
        "a key", deleted=KEY_DELETION, replaced=KEY_DELETION, names=re.compile(r"token-key-.+|backup-cipher")
    ),
}


def stateful(resource: Resource) -> Stateful | None:
    """What a resource holds; None where nothing is lost with it."""
    kind = STATEFUL.get(resource.type)
    if kind is None or (kind.names is not None and not kind.names.fullmatch(resource.name)):
        return None
    return kind
