"""Free disk space: checked before heavy work, and reported clearly if it runs out during the work."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ops.errors import OpsError
from ops.toolchain.process import CommandFailed

_GIB = 1 << 30


class DiskFullError(OpsError):
    """A file system has too little free space."""

    def __init__(self, folder: Path, what: str, needed_gib: float) -> None:
        try:
            free = f"{shutil.disk_usage(_existing(folder)).free / _GIB:.1f} GB free"
        except OSError:
            free = "no free space"
        super().__init__(
            f"{what} needs {needed_gib:g} GB in {folder}, which has {free}; "
            "free space there and run the same command again"
        )
        self.folder = folder
        self.needed_gib = needed_gib


def require(folder: Path, what: str, needed_gib: float) -> None:
    """Raise DiskFullError if the file system of `folder` has less than `needed_gib` free."""
    if shutil.disk_usage(_existing(folder)).free < needed_gib * _GIB:
        raise DiskFullError(folder, what, needed_gib)


@contextmanager
def naming_a_full_disk(folder: Path, what: str, needed_gib: float) -> Iterator[None]:
    """Raise "no space left on device" errors, also those of a started program, as DiskFullError."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise DiskFullError(folder, what, needed_gib) from error
    except CommandFailed as error:
        if not is_full(error):
            raise
        raise DiskFullError(folder, what, needed_gib) from error


def is_full(error: CommandFailed) -> bool:
    """Return whether a program reported a full disk."""
    text = "\n".join((*error.tail, *error.errors)).lower()
    reports = [os.strerror(code).lower() for code in (errno.ENOSPC, errno.EDQUOT)]
    # apt looks for enough space before it downloads packages.
    return any(report in text for report in (*reports, "you don't have enough free space"))


def _existing(folder: Path) -> Path:
    """Return the nearest existing parent, because the folder itself may be created later."""
    while not folder.exists():
        folder = folder.parent
    return folder
