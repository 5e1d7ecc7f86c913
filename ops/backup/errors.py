"""Errors of backups, restores and drills. Each is one line with a documented exit code."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ops.errors import Exit, OpsError

if TYPE_CHECKING:
    from ops.backup.repository import Backup


class BackupError(OpsError):
    """The repository or the request is invalid, or an operation failed."""


class OutsideWindow(BackupError):
    """The requested point in time cannot be restored. Nothing was changed."""

    exit_code = Exit.USAGE


class DamagedPages(BackupError):
    """A new backup, `made`, contains pages whose checksum is wrong, because the server's data is damaged."""

    exit_code = Exit.MISMATCH
    made: Backup


class RecoveryFailed(BackupError):
    """Postgres could not recover from the backup to the requested point in time."""

    @property
    def is_before_target(self) -> bool:
        """True if the WAL ended without a commit after the requested point in time."""
        return "before configured recovery target was reached" in str(self)
