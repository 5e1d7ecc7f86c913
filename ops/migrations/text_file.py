"""Read a text file that the user wrote, and refuse what would be ignored or cut off silently."""

from __future__ import annotations

from pathlib import Path

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

    Raises OpsError (2) for a file that cannot be read or contains a NUL byte, and for a link to no file.
    """
    refuse_broken_link(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise OpsError(f"cannot read {path}: {error.strerror}; fix the file's mode", Exit.USAGE) from error
    except UnicodeDecodeError as error:
        raise OpsError(f"{path} is not UTF-8 (byte {error.start}); save it as UTF-8", Exit.USAGE) from error
    if (place := text.find("\0")) >= 0:
        # libpq would read a shorter string, perhaps without its sslmode.
        line = text.count("\n", 0, place) + 1
        raise OpsError(f"{path}:{line} contains a NUL byte; remove it, or save the file as UTF-8", Exit.USAGE)
    return text
