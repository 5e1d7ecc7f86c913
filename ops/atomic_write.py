"""Write a command's output files atomically: complete or not at all, even after a kill or on a full disk."""

from __future__ import annotations

import os
from pathlib import Path

from infra.atomic_write import put
from ops.errors import Exit, OpsError


def check_target(path: Path) -> None:
    """Raise OpsError (2) if the file cannot be written. Called before long work, so that a mistake costs no time."""
    if path.is_dir():
        raise OpsError(f"{path} is a directory; pass the path of a file", Exit.USAGE)
    if not path.parent.is_dir():
        raise OpsError(f"{path.absolute().parent} is not a directory; create it first", Exit.USAGE)
    if not os.access(path.parent, os.W_OK):
        raise OpsError(
            f"cannot write to {path.absolute().parent}: permission denied; pass another path", Exit.USAGE
        )


def write(path: Path, text: str, *, is_private: bool = False) -> None:
    """Replace the file with the text in one step. Raise OpsError if that fails; the previous file is then unchanged.

    `is_private` sets mode 0600. Otherwise the previous file's mode is kept, or the umask applies.
    """
    try:
        if path.exists() and not path.is_file():
            # /dev/stdout or a pipe cannot be replaced.
            path.write_text(text, encoding="utf-8")
        else:
            put(path.resolve(), text, mode=0o600 if is_private else None)
    except OSError as error:
        raise OpsError(f"cannot write {path}: {error.strerror}") from error
