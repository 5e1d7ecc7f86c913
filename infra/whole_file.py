"""Files of this machine that are put in place whole or not at all: killed, or on a full disk, the old one stands."""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path


def put(path: Path, text: str, *, mode: int | None = None) -> None:
    """Put the text in place of the file in one step, for good; its folder is there. OSError where it cannot be.

    `mode`: that of the file; without it, as the file was that is replaced, or as the umask has it.
    """
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666 if mode is None else mode)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(handle)
            if mode is None and path.exists():
                os.fchmod(handle, stat.S_IMODE(path.stat().st_mode))
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
