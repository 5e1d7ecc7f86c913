"""What can be wrong with a backup, a restore or a drill; each is one line and a documented exit code."""

from __future__ import annotations

from ops.errors import Exit, OpsError


class BackupError(OpsError):
    """The repository, or what is asked of it, is not as it must be."""


class OutsideWindow(BackupError):
    """The moment asked for cannot be restored; nothing was touched."""

    exit_code = Exit.USAGE


class RecoveryFailed(BackupError):
    """Postgres did not get from the backup to the moment asked for."""
