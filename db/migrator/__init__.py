"""A migrator for Postgres that reads and writes sqlx's format.

The names in `__all__` are public; the modules of this package are internal. Names that connect to a server, and those
that an ordinary run does not need, are imported on first use: reading a folder of migrations does not import psycopg.
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
    NoLedger,
    NotRevertible,
    PhaseOrder,
    PoolerRefused,
    RevertOutdated,
    ScriptFailed,
    SecondLedger,
    SourceError,
    UnknownMigration,
    Unproven,
    Unreachable,
    UntrustedLedger,
)
from db.migrator.events import Applied, Event, EventKind, OnEvent
from db.migrator.phase import PHASES, Phase
from db.migrator.source import MIGRATIONS_FOLDER, Migration, Script, read_source, short_checksums

if TYPE_CHECKING:
    from db.migrator.baseline import record_baseline
    from db.migrator.catalog import find_drift, read_catalog
    from db.migrator.ledger import SCHEMA_CHANGED_CHANNEL, LedgerRow
    from db.migrator.lint import LintFinding, lint_migrations
    from db.migrator.lock_wait import LockLimits
    from db.migrator.repair import Repair, forget, mark_applied, record_move, repair_checksums
    from db.migrator.reset import drop_objects
    from db.migrator.runner import (
        MigrationStatus,
        apply_pending,
        compare,
        preview_pending,
        preview_revert,
        read_status,
        revert,
        status,
    )
    from db.migrator.scaffold import new_migration
    from db.migrator.schemas import create_schemas

_HOMES = {
    "record_baseline": "db.migrator.baseline",
    "find_drift": "db.migrator.catalog",
    "read_catalog": "db.migrator.catalog",
    "SCHEMA_CHANGED_CHANNEL": "db.migrator.ledger",
    "LedgerRow": "db.migrator.ledger",
    "LintFinding": "db.migrator.lint",
    "lint_migrations": "db.migrator.lint",
    "LockLimits": "db.migrator.lock_wait",
    "Repair": "db.migrator.repair",
    "forget": "db.migrator.repair",
    "mark_applied": "db.migrator.repair",
    "record_move": "db.migrator.repair",
    "repair_checksums": "db.migrator.repair",
    "drop_objects": "db.migrator.reset",
    "MigrationStatus": "db.migrator.runner",
    "apply_pending": "db.migrator.runner",
    "compare": "db.migrator.runner",
    "preview_pending": "db.migrator.runner",
    "preview_revert": "db.migrator.runner",
    "read_status": "db.migrator.runner",
    "revert": "db.migrator.runner",
    "status": "db.migrator.runner",
    "new_migration": "db.migrator.scaffold",
    "create_schemas": "db.migrator.schemas",
}

__all__ = [
    "MIGRATIONS_FOLDER",
    "PHASES",
    "SCHEMA_CHANGED_CHANNEL",
    "Applied",
    "DirtyMigration",
    "Event",
    "EventKind",
    "InvalidUrl",
    "LedgerMismatch",
    "LedgerRow",
    "LintFinding",
    "LockHeld",
    "LockLimits",
    "Migration",
    "MigrationError",
    "MigrationStatus",
    "NoLedger",
    "NotRevertible",
    "OnEvent",
    "Phase",
    "PhaseOrder",
    "PoolerRefused",
    "Repair",
    "RevertOutdated",
    "Script",
    "ScriptFailed",
    "SecondLedger",
    "SourceError",
    "UnknownMigration",
    "Unproven",
    "Unreachable",
    "UntrustedLedger",
    "apply_pending",
    "compare",
    "create_schemas",
    "drop_objects",
    "find_drift",
    "forget",
    "lint_migrations",
    "mark_applied",
    "new_migration",
    "preview_pending",
    "preview_revert",
    "read_catalog",
    "read_source",
    "read_status",
    "record_baseline",
    "record_move",
    "repair_checksums",
    "revert",
    "short_checksums",
    "status",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'db.migrator' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
