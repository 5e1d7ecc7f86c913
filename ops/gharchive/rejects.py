"""The lines that could not be stored, each with its number and the reason, as JSON lines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import IO

from ops.errors import Exit, OpsError

_RAW_CHARACTERS = 2000


class RejectFile:
    """Written only once there is something to write."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.count = 0
        self._file: IO[str] | None = None
        try:
            # One of an earlier run would be taken for this one's.
            path.unlink(missing_ok=True)
        except OSError as error:
            raise OpsError(
                f"rejected lines cannot be written to {path}: {error.strerror}; say --rejects FILE",
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
            # What was written last comes to the disk only now.
            raise self._not_written(error) from error

    def _not_written(self, error: OSError) -> OpsError:
        return OpsError(f"rejected lines cannot be written to {self.path}: {error.strerror}")
