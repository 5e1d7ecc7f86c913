"""Describe an operating-system error about a file: which file, and the cause."""

from __future__ import annotations

import errno
import os
from pathlib import Path

# Of these, the file that causes the error may be a parent of the one that the error names.
_ABOUT_PARENTS = {errno.EEXIST, errno.ENOENT, errno.ENOTDIR}


def named_file(error: OSError) -> Path | None:
    """Return the file that the error names, or None. A number names a file descriptor, not a file."""
    name = error.filename
    return Path(os.fsdecode(name)) if isinstance(name, str | bytes | os.PathLike) and name else None


def describe(error: OSError, file: Path) -> str:
    """Return what failed with `file`, the file that the error names."""
    cause = _obstacle(file) if error.errno in _ABOUT_PARENTS else None
    return f"cannot access {file}: {cause or error.strerror or error}"


def _obstacle(file: Path) -> str | None:
    """Return what is in the place of a directory: a dangling link, or for a parent, any other file."""
    for path in (*reversed(file.parents), file):
        try:
            if path.is_symlink() and not path.exists():
                link = "it" if path == file else path
                return f"{link} is a symbolic link to {path.readlink()}, which does not exist"
            if path != file and path.exists() and not path.is_dir():
                return f"{path} is not a directory"
        except OSError:
            return None
    return None
