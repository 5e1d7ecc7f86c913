"""The ways in which a change loses data, or takes away what would keep it from being lost."""

from __future__ import annotations

from dataclasses import dataclass

from infra.policy.rule import Severity


@dataclass(frozen=True)
class Loss:
    """One way; `fix` says what to do instead."""

    id: str
    title: str
    severity: Severity
    fix: str


_OR_WAIVE = "or waive it: docs/policy.md"

DELETE = Loss(
    "DataLoss.delete",
    "What holds data is deleted",
    Severity.CRITICAL,
    f"keep the resource in the program; renamed, give it an alias; {_OR_WAIVE}",
)
REPLACE = Loss(
    "DataLoss.replace",
    "What holds data is made anew, without the data",
    Severity.CRITICAL,
    f"take back the change that cannot be made in place, or restore into a new resource beside it; {_OR_WAIVE}",
)
KEY_DELETION = Loss(
    "DataLoss.key-deletion",
    "A key is deleted, and with it everything that it encrypts",
    Severity.CRITICAL,
    f"keep the key as long as anything encrypted by it, snapshots too; {_OR_WAIVE}",
)
DOWNGRADE = Loss(
    "DataLoss.downgrade",
    "A server gets an older version",
    Severity.CRITICAL,
    f"keep the version; an older one is a restore into a new server; {_OR_WAIVE}",
)
STORAGE = Loss(
    "DataLoss.storage",
    "Storage shrinks",
    Severity.CRITICAL,
    f"keep the size; a smaller one is a restore into a new server; {_OR_WAIVE}",
)
MEMORY = Loss(
    "DataLoss.memory",
    "A server gets less memory",
    Severity.HIGH,
    f"keep the size, or see first that data and connections fit: a cache evicts what does not; {_OR_WAIVE}",
)
RETENTION = Loss(
    "DataLoss.retention",
    "Backups, logs, objects, or what was deleted, are kept for a shorter time",
    Severity.HIGH,
    f"keep the time: what is older goes at once; {_OR_WAIVE}",
)
FINAL_SNAPSHOT = Loss(
    "DataLoss.final-snapshot",
    "A deletion would take no last snapshot",
    Severity.HIGH,
    f"keep skipFinalSnapshot false and finalSnapshotIdentifier set; {_OR_WAIVE}",
)
PROTECTION = Loss(
    "DataLoss.protection",
    "What keeps data from being deleted is switched off",
    Severity.HIGH,
    f"keep it on; {_OR_WAIVE}",
)

LOSSES = (DELETE, REPLACE, KEY_DELETION, DOWNGRADE, STORAGE, MEMORY, RETENTION, FINAL_SNAPSHOT, PROTECTION)
