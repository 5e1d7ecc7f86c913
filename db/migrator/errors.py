"""What can be wrong with a migration, its ledger, or the way to the database: the migrator's states of refusal."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from db.errors import DbError

if TYPE_CHECKING:
    from db.migrator.step import Applied


class MigrationError(DbError):
    """The schema cannot be brought to where it was asked to be.

    `done` is what the call had done before, and what stays.
    """

    done: tuple[Applied, ...] = ()


class SourceError(MigrationError):
    """A file in the migrations folder cannot be taken as a migration."""


class WrongName(SourceError):
    """What was named is not there, a version or the folder, or is no name for a migration; nothing was changed."""


class ScriptFailed(MigrationError):
    """The server refused a statement of a migration; what belongs to that migration was rolled back.

    `path` and `line` (from 1) say where, `statement` is its text as sent.
    """

    def __init__(self, message: str, *, path: Path, line: int, statement: str, sqlstate: str | None) -> None:
        super().__init__(message, sqlstate=sqlstate)
        self.path = path
        self.line = line
        self.statement = statement


class LedgerMismatch(MigrationError):
    """What the ledger says was applied is not what the folder holds. `version` is the migration's."""

    def __init__(self, message: str, *, version: int) -> None:
        super().__init__(message)
        self.version = version


class DirtyMigration(LedgerMismatch):
    """A migration began and did not end (success is FALSE), so the schema's state is unknown."""


class NotRevertible(MigrationError):
    """A migration has no down file, or nothing is applied that could be reverted."""


class PhaseOrder(MigrationError):
    """A migration of the phase that was asked for comes after a pending one of the other phase."""


class Unproven(MigrationError):
    """The ledger would be changed to say what cannot be shown to be so."""


class LockHeld(MigrationError):
    """Somebody else is migrating this database, or a table stayed locked past every retry."""


class Unreachable(MigrationError):
    """The database cannot be reached, or the connection was lost."""


class InvalidUrl(MigrationError):
    """What was given as the database's URL is none."""


class PoolerRefused(MigrationError):
    """A pooler hands each transaction to any server connection, where a session's lock protects nothing."""
