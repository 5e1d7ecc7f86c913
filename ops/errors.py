"""The base class of ops errors, and the one table of exit codes of every groundwork command."""

from __future__ import annotations

import sys
from enum import IntEnum

from infra.spec.errors import InfraError, PortableError, SettingError, Unreachable, UnreadableFile
from infra.spec.variables import EmptyVariable


class Exit(IntEnum):
    """Exit status of a groundwork command (docs/cli.md)."""

    FINE = 0
    ERROR = 1
    USAGE = 2
    PENDING = 3
    MISMATCH = 4
    LOCKED = 5
    UNREACHABLE = 6
    REFUSED = 7


class OpsError(PortableError):
    """An operation cannot be done as requested. The message says what happened, to which object, and what to do."""

    exit_code: Exit = Exit.ERROR

    def __init__(self, message: str, exit_code: Exit | None = None) -> None:
        super().__init__(message)
        if exit_code is not None:
            self.exit_code = exit_code


def exit_code_of(error: BaseException) -> Exit | None:
    """Return the exit code of a known error, or None for an error whose traceback should be shown."""
    code = getattr(error, "exit_code", None)
    if isinstance(code, int) and not isinstance(error, SystemExit):
        return Exit(code)
    return next((code for kind, code in _exit_codes().items() if isinstance(error, kind)), None)


def _exit_codes() -> dict[type[Exception], Exit]:
    """Return the exit code of each class of errors below ops. The first class that matches counts.

    A package that is not loaded has raised no error, and loading db here would delay the message by 0.2 s.
    """
    codes: dict[type[Exception], Exit] = {
        SettingError: Exit.USAGE,
        EmptyVariable: Exit.USAGE,
        UnreadableFile: Exit.USAGE,
        Unreachable: Exit.UNREACHABLE,
        InfraError: Exit.ERROR,
    }
    if "db.migrator.errors" in sys.modules:
        from db.migrator import errors as migrator

        codes |= {
            migrator.LedgerMismatch: Exit.MISMATCH,
            migrator.NoLedger: Exit.MISMATCH,
            migrator.SecondLedger: Exit.REFUSED,
            migrator.UntrustedLedger: Exit.REFUSED,
            migrator.LockHeld: Exit.LOCKED,
            migrator.Unreachable: Exit.UNREACHABLE,
            migrator.InvalidUrl: Exit.USAGE,
            migrator.UnknownMigration: Exit.USAGE,
            migrator.PoolerRefused: Exit.REFUSED,
            migrator.PhaseOrder: Exit.REFUSED,
            migrator.RevertOutdated: Exit.REFUSED,
            migrator.Unproven: Exit.REFUSED,
        }
    if "db.errors" in sys.modules:
        from db import errors as db

        codes |= {
            db.InvalidSetting: Exit.USAGE,
            db.Unavailable: Exit.UNREACHABLE,
            db.DbError: Exit.ERROR,
        }
    if "cache.errors" in sys.modules:
        from cache import errors as cache

        codes |= {
            cache.CacheSettingError: Exit.USAGE,
            cache.CacheUnavailable: Exit.UNREACHABLE,
            cache.CacheError: Exit.ERROR,
        }
    return codes
