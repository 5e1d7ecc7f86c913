"""Read files that a user names. A device or a pipe that never ends is refused instead of filling the memory."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import BinaryIO

from infra.spec.errors import UnreadableFile

MOST_BYTES = 64 << 20
STANDARD_INPUT = "standard input"


def read_text(path: Path, encoding: str = "utf-8") -> str:
    """Return the text of a file of up to 64 MiB in UTF-8, or in `utf-8-sig`. Raises UnreadableFile as `read_bytes`."""
    return _decoded(read_bytes(path), str(path), encoding)


def read_bytes(path: Path) -> bytes:
    """Return the content of a file of up to 64 MiB. Raise UnreadableFile; its cause is the OSError, if there is one."""
    try:
        with path.open("rb") as file:
            return _read(file, str(path))
    except OSError as error:
        advice = "; fix the file's mode" if isinstance(error, PermissionError) else ""
        raise UnreadableFile(f"cannot read {path}: {error.strerror}{advice}") from error


def read_standard_input() -> str:
    """Return the text of standard input, in UTF-8. Raise UnreadableFile, as for a file."""
    return _decoded(_read(sys.stdin.buffer, STANDARD_INPUT), STANDARD_INPUT)


def _read(stream: BinaryIO, name: str) -> bytes:
    content = stream.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise UnreadableFile(
            f"cannot read {name}: it is larger than {MOST_BYTES >> 20} MiB; pass another file"
        )
    return content


def _decoded(content: bytes, name: str, encoding: str = "utf-8") -> str:
    try:
        # As in Path.read_text, each line ends with "\n".
        return io.TextIOWrapper(io.BytesIO(content), encoding).read()
    except UnicodeDecodeError as error:
        raise UnreadableFile(
            f"cannot read {name}: it is not UTF-8 (byte {error.start}); save it as UTF-8"
        ) from error
