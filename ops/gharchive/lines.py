"""Read the lines of a plain or gzip file in constant memory."""

from __future__ import annotations

import codecs
import gzip
import os
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import msgspec

from ops.errors import Exit, OpsError
from ops.gharchive.formats import unreadable

# Longer than any event of GitHub, and short enough that many lines fit into memory.
MAX_LINE_BYTES = 2 << 20
_GZIP = b"\x1f\x8b"
_HEAD_BYTES = 8


class Line(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A line with its number, from 1. If `is_too_long`, `raw` is only its beginning."""

    number: int
    raw: bytes
    is_too_long: bool = False


class Damaged(OpsError):
    """The file is damaged, or its compressed stream ends early."""


class LineSource:
    """An open file: iterate over its lines, and query how much has been read."""

    def __init__(self, name: str, stream: IO[bytes], raw: IO[bytes], size: int | None) -> None:
        self.name = name
        self._stream = stream
        self._raw = raw
        self._size = size

    def progress(self) -> float | None:
        """Return the share of the file that has been read, 0 to 1, or None if the size is unknown."""
        return self._raw.tell() / self._size if self._size else None

    def __iter__(self) -> Iterator[Line]:
        number = 0
        try:
            while raw := self._stream.readline(MAX_LINE_BYTES + 1):
                number += 1
                if number == 1:
                    raw = raw.removeprefix(codecs.BOM_UTF8)
                if len(raw) <= MAX_LINE_BYTES or raw.endswith(b"\n"):
                    yield Line(number, raw)
                    continue
                rest = raw
                while rest and not rest.endswith(b"\n"):
                    rest = self._stream.readline(MAX_LINE_BYTES)
                yield Line(number, raw[:2000], is_too_long=True)
        except (EOFError, OSError, zlib.error) as error:
            raise Damaged(
                f"{self.name}: damaged after line {number} ({error}); download the file again and rerun the command,"
                " which skips events that are loaded already"
            ) from error


@contextmanager
def open_lines(name: str) -> Iterator[LineSource]:
    """Open a file, or standard input for `-`.

    Raise OpsError if the file cannot be opened (2), or if its first bytes show that it contains no lines of JSON (1).
    """
    shown = "standard input" if name == "-" else name
    try:
        raw: IO[bytes] = sys.stdin.buffer if name == "-" else Path(name).open("rb")  # noqa: SIM115
        # Not read, because a pipe cannot be rewound.
        head = raw.peek(2)[:2]  # type: ignore[attr-defined]
    except OSError as error:
        raise OpsError(f"cannot read {shown}: {error.strerror}", Exit.USAGE) from error
    try:
        size = None if name == "-" else os.fstat(raw.fileno()).st_size
        stream: IO[bytes] = gzip.open(raw) if head == _GZIP else raw  # type: ignore[assignment]  # noqa: SIM115
        if reason := unreadable(_peek(stream)):
            raise OpsError(f"{shown} {reason}")
        yield LineSource(shown, stream, raw, size)
    finally:
        if name != "-":
            raw.close()


def is_stream(name: str) -> bool:
    """Return whether a file can be read only once: standard input, or a pipe such as that of `<(zcat *.gz)`."""
    path = Path(name)
    return name == "-" or path.is_fifo() or path.is_char_device()


def check_file(name: str) -> None:
    """Raise the errors of `open_lines`, except for what can be read only once."""
    if not is_stream(name):
        with open_lines(name):
            pass


def _peek(stream: IO[bytes]) -> bytes:
    """Return the first bytes without consuming them."""
    try:
        head: bytes = stream.peek(_HEAD_BYTES)[:_HEAD_BYTES]  # type: ignore[attr-defined]
    except (EOFError, OSError, zlib.error):
        # Damage is reported when the lines are read.
        return b"?"
    return head
