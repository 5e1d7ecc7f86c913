"""Brings a database's schema to where a folder of migrations says, in sqlx's format.

These are the public names; the modules below are not. What a plain run does not need is imported when it is used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from db.migrator.errors import (
    DirtyMigration,
    InvalidUrl,
    LedgerMismatch,
    LockHeld,
    MigrationError,
    NotRevertible,
    PhaseOrder,
    PoolerRefused,
    ScriptFailed,
    SourceError,
    Unproven,
    Unreachable,
    WrongName,
)
from db.migrator.ledger import SCHEMA_CHANGED_CHANNEL, LedgerRow
from db.migrator.lock_wait import LockLimits
from db.migrator.phase import PHASES, Phase
from db.migrator.runner import Status, apply_pending, compare, preview_pending, revert, status
from db.migrator.source import MIGRATIONS_FOLDER, Migration, Script, read_source
from db.migrator.step import Applied, EventKind, OnEvent

if TYPE_CHECKING:
    from db.migrator.baseline import record_baseline
    from db.migrator.lint import Finding, lint_migrations
    from db.migrator.repair import Repair, forget, mark_applied, repair_checksums
    from db.migrator.scaffold import new_migration

_HOMES = {
    "record_baseline": "db.migrator.baseline",
    "Finding": "db.migrator.lint",
    "lint_migrations": "db.migrator.lint",
    "Repair": "db.migrator.repair",
    "forget": "db.migrator.repair",
    "mark_applied": "db.migrator.repair",
    "repair_checksums": "db.migrator.repair",
    "new_migration": "db.migrator.scaffold",
}

__all__ = [
    "MIGRATIONS_FOLDER",
    "PHASES",
    "SCHEMA_CHANGED_CHANNEL",
    "Applied",
    "DirtyMigration",
    "EventKind",
    "Finding",
    "InvalidUrl",
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
    "Repair",
    "Script",
    "ScriptFailed",
    "SourceError",
    "Status",
    "Unproven",
    "Unreachable",
    "WrongName",
    "apply_pending",
    "compare",
    "forget",
    "lint_migrations",
    "mark_applied",
    "new_migration",
    "preview_pending",
    "read_source",
    "record_baseline",
    "repair_checksums",
    "revert",
    "status",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'db.migrator' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
