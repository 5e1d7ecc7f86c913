"""Brings a database's schema to where a folder of migrations says, in sqlx's format.

These are the public names; the modules below are not.
"""

from db.migrator.errors import (
    DirtyMigration,
    LedgerMismatch,
    LockHeld,
    MigrationError,
    NotRevertible,
    PoolerRefused,
    ScriptFailed,
    SourceError,
    Unreachable,
)
from db.migrator.ledger import SCHEMA_CHANGED_CHANNEL, LedgerRow
from db.migrator.runner import Status, apply_pending, compare, revert, status
from db.migrator.scaffold import new_migration
from db.migrator.source import MIGRATIONS_FOLDER, Migration, Script, read_source
from db.migrator.step import Applied, EventKind, LockLimits, OnEvent

__all__ = [
    "MIGRATIONS_FOLDER",
    "SCHEMA_CHANGED_CHANNEL",
    "Applied",
    "DirtyMigration",
    "EventKind",
    "LedgerMismatch",
    "LedgerRow",
    "LockHeld",
    "LockLimits",
    "Migration",
    "MigrationError",
    "NotRevertible",
    "OnEvent",
    "PoolerRefused",
    "Script",
    "ScriptFailed",
    "SourceError",
    "Status",
    "Unreachable",
    "apply_pending",
    "compare",
    "new_migration",
    "read_source",
    "revert",
    "status",
]
