"""What an entry is in bytes: the row version, a colon, the record as msgpack; or a dash for an absence.

The version stands in front, readable, for the scripts that compare it. Never pickle: what is read from
Redis is data and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

import msgspec

from cache.errors import UndecodableEntry

T = TypeVar("T")
ABSENT = b"-"


class Packing(Generic[T]):
    """One type as msgpack. UndecodableEntry both ways: where it has no form, and for anyone else's bytes."""

    def __init__(self, kind: type[T]) -> None:
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder = msgspec.msgpack.Decoder(kind)

    def pack(self, value: T) -> bytes:
        try:
            return self._encoder.encode(value)
        except (OverflowError, TypeError, UnicodeEncodeError, RecursionError) as error:
            raise UndecodableEntry(f"no msgpack form: {error}") from error

    def unpack(self, packed: bytes) -> T:
        try:
            return self._decoder.decode(packed)
        except (msgspec.DecodeError, RecursionError) as error:
            raise UndecodableEntry(f"not this schema's bytes: {error}") from error


class Codec(Generic[T]):
    """Encodes and decodes one type of record; `version_of` says a record's row version."""

    def __init__(self, kind: type[T], version_of: Callable[[T], int]) -> None:
        self._version_of = version_of
        self._packing = Packing(kind)

    def version_of(self, record: T) -> int:
        return self._version_of(record)

    def encode(self, record: T | None) -> bytes:
        """Bytes of a record, or of its absence. UndecodableEntry where msgpack has no form for a value."""
        if record is None:
            return ABSENT
        return b"%d:%b" % (self._version_of(record), self._packing.pack(record))

    def decode(self, raw: bytes) -> T | None:
        """The record, or None for a known absence. UndecodableEntry for anything that encode did not make."""
        if raw == ABSENT:
            return None
        version, colon, packed = raw.partition(b":")
        if not colon or not version.isdigit():
            raise UndecodableEntry("an entry without a row version")
        return self._packing.unpack(packed)
