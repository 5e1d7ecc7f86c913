"""The one root of ops' errors, and the documented exit codes of every groundwork command."""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """What the exit status of a groundwork command means (docs/cli.md)."""

    FINE = 0
    ERROR = 1
    USAGE = 2
    PENDING = 3
    MISMATCH = 4
    LOCKED = 5
    UNREACHABLE = 6
    REFUSED = 7


class OpsError(Exception):
    """An operation cannot be done as asked; the message says what, which one, and what to do."""

    exit_code: Exit = Exit.ERROR

    def __init__(self, message: str, exit_code: Exit | None = None) -> None:
        super().__init__(message)
        if exit_code is not None:
            self.exit_code = exit_code
