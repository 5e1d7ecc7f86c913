"""Files that a command leaves to its user: whole or not at all, also where it is killed or the disk is full."""

from __future__ import annotations

import os
from pathlib import Path

from infra.whole_file import put
from ops.errors import Exit, OpsError


def check_target(path: Path) -> None:
    """OpsError (2) where no file can be written: said before an hour of work, not after."""
    if path.is_dir():
        raise OpsError(f"{path} is a folder; name a file", Exit.USAGE)
    if not path.parent.is_dir():
        raise OpsError(f"{path.absolute().parent} is no folder; make it first", Exit.USAGE)
    if not os.access(path.parent, os.W_OK):
        raise OpsError(f"{path.absolute().parent} is not yours to write into", Exit.USAGE)


def write(path: Path, text: str, *, is_private: bool = False) -> None:
    """Put the text in place of the file in one step. OpsError where it cannot be; what was there is then there still.

    `is_private`: for its owner's eyes, mode 0600; otherwise the mode of the file that was there, or the umask's.
    """
    try:
        if path.exists() and not path.is_file():
            # /dev/stdout, or a pipe: nothing to put something in place of.
            path.write_text(text, encoding="utf-8")
        else:
            put(path.resolve(), text, mode=0o600 if is_private else None)
    except OSError as error:
        raise OpsError(f"{path} cannot be written: {error.strerror}") from error
