"""Read text files that a user names. A device or a pipe that never ends is refused instead of filling the memory."""

from __future__ import annotations

from pathlib import Path
from typing import IO

from infra.spec.errors import UnreadableFile

MOST_BYTES = 64 << 20


def read_text(path: Path) -> str:
    """Return the text of a UTF-8 file of up to 64 MiB. Raise UnreadableFile."""
    try:
        with path.open("rb") as file:
            return read_stream(file, str(path))
    except OSError as error:
        raise UnreadableFile(f"cannot read {path}: {error.strerror}") from error


def read_stream(stream: IO[bytes] | IO[str], name: str) -> str:
    """Return a stream's text up to its end. Raise UnreadableFile with `name`, as for a file."""
    try:
        read = stream.read(MOST_BYTES + 1)
        text = read.decode("utf-8") if isinstance(read, bytes) else read
    except UnicodeDecodeError as error:
        raise UnreadableFile(
            f"cannot read {name}: it is not UTF-8 (byte {error.start}); save it as UTF-8"
        ) from error
    if len(read) > MOST_BYTES:
        raise UnreadableFile(
            f"cannot read {name}: it is larger than {MOST_BYTES >> 20} MiB; pass another file"
        )
    return text
