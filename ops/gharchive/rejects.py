"""Rejected lines with their number and the reason, as JSON lines."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import IO

from ops.errors import Exit, OpsError

_RAW_CHARACTERS = 2000


def check_target(path: Path) -> None:
    """Raise OpsError (2) if the file for rejected lines can certainly not be written. Changes nothing."""
    if path.exists() and not path.is_file():
        # It would be deleted, even /dev/null if the user is root.
        reason = "it is not a regular file"
    elif not path.parent.is_dir():
        reason = f"there is no folder {path.parent}"
    elif not os.access(path.parent, os.W_OK | os.X_OK):
        reason = f"the folder {path.parent} is not writable"
    else:
        return
    raise OpsError(f"cannot write rejected lines to {path}: {reason}; pass --rejects FILE", Exit.USAGE)


class RejectFile:
    """A file that is created with the first rejected line."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.count = 0
        self._file: IO[str] | None = None
        try:
            # A file of an earlier run would look like this run's.
            path.unlink(missing_ok=True)
        except OSError as error:
            raise OpsError(
                f"cannot write rejected lines to {path}: {error.strerror}; pass --rejects FILE",
                Exit.USAGE,
            ) from error

    def add(self, number: int, raw: bytes, reason: str) -> None:
        try:
            if self._file is None:
                self._file = self.path.open("w", encoding="utf-8")
            text = raw[: _RAW_CHARACTERS * 4].decode(errors="replace").rstrip("\n")[:_RAW_CHARACTERS]
            self._file.write(json.dumps({"line": number, "reason": reason, "raw": text}) + "\n")
        except OSError as error:
            raise self._not_written(error) from error
        self.count += 1

    def close(self) -> None:
        try:
            if self._file is not None:
                self._file.close()
        except OSError as error:
            # Buffered lines are only written now.
            raise self._not_written(error) from error

    def _not_written(self, error: OSError) -> OpsError:
        return OpsError(
            f"cannot write rejected lines to {self.path}: {error.strerror}; free space or pass --rejects FILE"
        )
