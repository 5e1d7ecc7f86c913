"""The errors that the migrator raises. All are subclasses of MigrationError."""

from __future__ import annotations

from pathlib import Path

from db.errors import DbError


class MigrationError(DbError):
    """The base class of the migrator's errors."""


class SourceError(MigrationError):
    """A file in the migrations folder is not a valid migration."""


class UnknownMigration(SourceError):
    """A version or folder that does not exist, or an invalid name for a migration. Nothing was changed."""


class ScriptFailed(MigrationError):
    """The server rejected a statement of a migration. The driver's error is the cause.

    `reason` is the message without what to do. `path` and `line` (from 1) locate
    the error. `statement` is the text that was sent. If the migration `is_dirty`, a part of it may be committed.
    Otherwise the ledger is as it was before this migration.
    """

    def __init__(
        self,
        reason: str,
        result: str,
        *,
        path: Path,
        line: int,
        statement: str,
        sqlstate: str | None,
        is_dirty: bool = False,
    ) -> None:
        super().__init__(f"{reason}; {result}", sqlstate=sqlstate)
        self.reason = reason
        self.path = path
        self.line = line
        self.statement = statement
        self.is_dirty = is_dirty

    def but(self, result: str, *, is_dirty: bool = True) -> ScriptFailed:
        """Return the same error for a dirty migration, with another result: what the failure left, and what to do.

        `is_dirty` False: the same error for a migration that is not dirty.
        """
        return ScriptFailed(
            self.reason,
            result,
            path=self.path,
            line=self.line,
            statement=self.statement,
            sqlstate=self.sqlstate,
            is_dirty=is_dirty,
        )


class LedgerMismatch(MigrationError):
    """An applied migration differs from its file, or has none. `version` is the migration's version.

    `what` is the message without `advice`, which is the same for all problems of its kind, or empty.
    """

    def __init__(self, what: str, advice: str = "", *, version: int) -> None:
        super().__init__(f"{what}; {advice}" if advice else what)
        self.what = what
        self.advice = advice
        self.version = version


class DirtyMigration(LedgerMismatch):
    """A migration started but did not finish (`success` is false), so the schema's state is unknown."""


class NoLedger(MigrationError):
    """No ledger is visible to the login."""


class SecondLedger(MigrationError):
    """Programs with the same database URL record their migrations in two tables. Nothing was changed."""


class UntrustedLedger(MigrationError):
    """The table of the ledger's name is another role's, or is not a table. Nothing was changed."""


class NotRevertible(MigrationError):
    """A migration to revert has no down file."""


class RevertOutdated(MigrationError):
    """Another migrator applied a newer migration after those to revert were chosen. Nothing was reverted."""


class PhaseOrder(MigrationError):
    """A migration of the requested phase comes after a pending one of the other phase."""


class Unproven(MigrationError):
    """The ledger was not changed, because it cannot be proven that the change would be true."""


class LockHeld(MigrationError):
    """Another migrator is running on this database, or a table stayed locked through all retries."""


class Unreachable(MigrationError):
    """The database cannot be reached, or the connection was lost."""


class InvalidUrl(MigrationError):
    """The database URL cannot be parsed."""


class PoolerRefused(MigrationError):
    """The database is behind a pooler in transaction mode, with which the session's advisory lock does not work."""
