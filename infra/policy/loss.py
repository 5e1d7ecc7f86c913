"""The kinds of data loss: changes that lose data, or that remove a protection against data loss."""

from __future__ import annotations

from dataclasses import dataclass

from infra.policy.rule import Severity


@dataclass(frozen=True)
class Loss:
    """A kind of data loss. `fix` says what to do instead."""

    id: str
    title: str
    severity: Severity
    fix: str


_OR_WAIVE = "or add a waiver (docs/policy.md)"

DELETE = Loss(
    "DataLoss.delete",
    "A resource with data is deleted",
    Severity.CRITICAL,
    f"keep the resource in the program, and give a renamed one an alias; {_OR_WAIVE}",
)
REPLACE = Loss(
    "DataLoss.replace",
    "A resource with data is replaced, without its data",
    Severity.CRITICAL,
    f"undo the change that requires a replacement, or restore the data into an additional resource; {_OR_WAIVE}",
)
KEY_DELETION = Loss(
    "DataLoss.key-deletion",
    "A key is deleted, so the data that it encrypts is lost",
    Severity.CRITICAL,
    f"keep the key as long as anything that it encrypts, including snapshots; {_OR_WAIVE}",
)
DOWNGRADE = Loss(
    "DataLoss.downgrade",
    "A server is downgraded",
    Severity.CRITICAL,
    f"keep the version; a downgrade needs a restore into a new server; {_OR_WAIVE}",
)
STORAGE = Loss(
    "DataLoss.storage",
    "Storage shrinks",
    Severity.CRITICAL,
    f"keep the size; a smaller one needs a restore into a new server; {_OR_WAIVE}",
)
MEMORY = Loss(
    "DataLoss.memory",
    "A server gets less memory",
    Severity.HIGH,
    f"keep the size, or check first that data and connections fit: a full cache evicts entries; {_OR_WAIVE}",
)
RETENTION = Loss(
    "DataLoss.retention",
    "Backups, logs, objects, or deleted keys and secrets, are kept for a shorter time",
    Severity.HIGH,
    f"keep the retention time, because everything older is deleted immediately; {_OR_WAIVE}",
)
FINAL_SNAPSHOT = Loss(
    "DataLoss.final-snapshot",
    "A deletion would not take a final snapshot",
    Severity.HIGH,
    f"keep skipFinalSnapshot false and finalSnapshotIdentifier set; {_OR_WAIVE}",
)
PROTECTION = Loss(
    "DataLoss.protection",
    "A protection against deletion is switched off",
    Severity.HIGH,
    f"keep the protection on; {_OR_WAIVE}",
)
SUBNET = Loss(
    "DataLoss.subnet",
    "A subnet is deleted or replaced, which stops `up` halfway while servers use it",
    Severity.HIGH,
    f"keep the zones of awsZones in their order, and add new ones at the end; {_OR_WAIVE}",
)

LOSSES = (
    DELETE,
    REPLACE,
    KEY_DELETION,
    DOWNGRADE,
    STORAGE,
    MEMORY,
    RETENTION,
    FINAL_SNAPSHOT,
    PROTECTION,
    SUBNET,
)
