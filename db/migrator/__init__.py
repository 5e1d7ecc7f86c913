"""Brings a database's schema to where a folder of migrations says, in sqlx's format.

These are the public names; the modules below are not.
"""

from db.migrator.errors import (
    DirtyMigration,
    LedgerMismatch,
    LockHeld,
    MigrationError,
    NotRevertible,
    PhaseOrder,
    PoolerRefused,
    ScriptFailed,
    SourceError,
    Unreachable,
)
from db.migrator.ledger import SCHEMA_CHANGED_CHANNEL, LedgerRow
from db.migrator.lock_wait import LockLimits
from db.migrator.phase import PHASES, Phase
from db.migrator.runner import Status, apply_pending, compare, revert, select_pending, status
from db.migrator.scaffold import new_migration
from db.migrator.source import MIGRATIONS_FOLDER, Migration, Script, read_source
from db.migrator.step import Applied, EventKind, OnEvent

__all__ = [
    "MIGRATIONS_FOLDER",
    "PHASES",
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
    "Phase",
    "PhaseOrder",
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
    "select_pending",
    "status",
]
