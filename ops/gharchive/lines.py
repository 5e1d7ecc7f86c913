"""The lines of a file, plain or gzip, in constant memory."""

from __future__ import annotations

import gzip
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from ops.errors import Exit, OpsError

# Longer than any event GitHub sends, and short enough that its parts fit into memory many times over.
MAX_LINE_BYTES = 2 << 20
_GZIP = b"\x1f\x8b"


@dataclass(frozen=True)
class Line:
    """A line by its number from 1. `is_too_long`: `raw` is its beginning alone."""

    number: int
    raw: bytes
    is_too_long: bool = False


class Damaged(OpsError):
    """A file ends in the middle of its compressed stream."""


class LineSource:
    """An open file: iterate it, and ask how far it is."""

    def __init__(self, name: str, stream: IO[bytes], raw: IO[bytes], size: int | None) -> None:
        self.name = name
        self._stream = stream
        self._raw = raw
        self._size = size

    def progress(self) -> float | None:
        """How much of the file has been read, 0 to 1; None where nobody knows."""
        return self._raw.tell() / self._size if self._size else None

    def __iter__(self) -> Iterator[Line]:
        number = 0
        try:
            while raw := self._stream.readline(MAX_LINE_BYTES + 1):
                number += 1
                if len(raw) <= MAX_LINE_BYTES or raw.endswith(b"\n"):
                    yield Line(number, raw)
                    continue
                rest = raw
                while rest and not rest.endswith(b"\n"):
                    rest = self._stream.readline(MAX_LINE_BYTES)
                yield Line(number, raw[:2000], is_too_long=True)
        except (EOFError, OSError, zlib.error) as error:
            raise Damaged(
                f"{self.name}: damaged after line {number} ({error}); get the file again, and run the same command:"
                " what was loaded is not loaded twice"
            ) from error


@contextmanager
def open_lines(name: str) -> Iterator[LineSource]:
    """A file by its name, `-` for standard input. OpsError where it cannot be opened."""
    if name == "-":
        raw: IO[bytes] = sys.stdin.buffer
        head = raw.peek(2)[:2]  # type: ignore[attr-defined]
        size = None
    else:
        path = Path(name)
        try:
            raw = path.open("rb")
            head = raw.read(2)
            raw.seek(0)
            size = path.stat().st_size
        except OSError as error:
            raise OpsError(f"{name} cannot be read: {error.strerror}", Exit.USAGE) from error
    try:
        stream: IO[bytes] = gzip.open(raw) if head == _GZIP else raw  # type: ignore[assignment]  # noqa: SIM115
        yield LineSource(name, stream, raw, size)
    finally:
        if name != "-":
            raw.close()
