"""Read a text file that the user wrote, and refuse what would be ignored or cut off silently."""

from __future__ import annotations

from pathlib import Path

from infra.spec.errors import UnreadableFile
from infra.text_file import read_text
from ops.errors import Exit, OpsError


def is_broken_link(path: Path) -> bool:
    """Return whether the path is a link to something that does not exist."""
    return path.is_symlink() and not path.exists()


def refuse_broken_link(path: Path) -> None:
    """Raise OpsError (2) for a link to a file that does not exist."""
    if is_broken_link(path):
        raise OpsError(
            f"{path} is a link to a file that does not exist ({path.readlink()}); restore that file, or"
            " remove the link",
            Exit.USAGE,
        )


def read_text_file(path: Path) -> str | None:
    """Return the text of a UTF-8 file without its byte order mark, or None if there is no such file.

    Raises UnreadableFile, and OpsError (2) for a file that contains a NUL byte, and for a link to no file.
    """
    refuse_broken_link(path)
    try:
        text = read_text(path, "utf-8-sig")
    except UnreadableFile as error:
        if isinstance(error.__cause__, FileNotFoundError | NotADirectoryError):
            return None
        raise
    if (place := text.find("\0")) >= 0:
        # libpq would read a shorter string, perhaps without its sslmode.
        line = text.count("\n", 0, place) + 1
        raise OpsError(f"{path}:{line} contains a NUL byte; remove it, or save the file as UTF-8", Exit.USAGE)
    return text
