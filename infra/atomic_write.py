"""Atomic file writes: if the process is killed or the disk is full, the old file remains complete."""

from __future__ import annotations

import os
import secrets
import stat
import tempfile
from contextlib import suppress
from pathlib import Path


def put(path: Path, text: str, *, mode: int | None = None) -> None:
    """Replace the file's content atomically and flush it to the disk. The folder must exist. Raises OSError.

    With `mode` the file gets exactly this mode, regardless of the umask. Without it a replaced file keeps its mode and,
    if this process may set them, its owner and group. A new file gets the umask's mode.
    """
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666 if mode is None else mode)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(handle)
            if mode is None and path.exists():
                replaced = path.stat()
                # Root keeps a user's file usable by that user.
                with suppress(OSError):
                    os.fchown(handle, replaced.st_uid, replaced.st_gid)
                mode = stat.S_IMODE(replaced.st_mode)
            if mode is not None:
                os.fchmod(handle, mode)
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def create(path: Path, text: str) -> None:
    """Create the file with mode 0600, atomically. Keep an existing file, also one that another process just made."""
    # mkstemp creates the file with mode 0600.
    handle, draft = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(handle)
        # A rename would replace the file of a faster process.
        os.link(draft, path)
    except FileExistsError:
        pass
    finally:
        Path(draft).unlink()
