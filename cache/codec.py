"""Values as msgpack, in the entries of cache.entry. Never pickle: what is read from Redis is data and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

import msgspec

from cache.entry import absence, entry, packed_in
from cache.errors import UndecodableEntry

T = TypeVar("T")


class Packing(Generic[T]):
    """One type as msgpack. UndecodableEntry both ways: where it has no form, and for anyone else's bytes."""

    def __init__(self, kind: type[T]) -> None:
        self._encoder = msgspec.msgpack.Encoder()
        self.decoder = msgspec.msgpack.Decoder(kind)

    def pack(self, value: T) -> bytes:
        try:
            return self._encoder.encode(value)
        except (OverflowError, TypeError, UnicodeEncodeError, RecursionError) as error:
            raise UndecodableEntry(f"no msgpack form: {error}") from error

    def unpack(self, packed: bytes) -> T:
        try:
            return self.decoder.decode(packed)
        except (msgspec.DecodeError, RecursionError) as error:
            raise UndecodableEntry(f"not this schema's bytes: {error}") from error


class Codec(Generic[T]):
    """Encodes and decodes one type of record; `version_of` says a record's row version."""

    def __init__(self, kind: type[T], version_of: Callable[[T], int]) -> None:
        self.kind = kind
        self._version_of = version_of
        self._packing = Packing(kind)
        # For bytes that were decoded before, and so cannot fail.
        self.unpack: Callable[[bytes], T] = self._packing.decoder.decode

    def version_of(self, record: T) -> int:
        return self._version_of(record)

    def encode(self, record: T | None, epoch: bytes, life_ms: int, cost_ms: int) -> bytes:
        """Bytes of a record, or of its absence. UndecodableEntry where msgpack has no form for a value."""
        if record is None:
            return absence(epoch)
        return entry(epoch, self._version_of(record), life_ms, cost_ms, self._packing.pack(record))

    def decode(self, raw: bytes) -> T | None:
        """The record, or None for a known absence. UndecodableEntry for anything that encode did not make."""
        packed = packed_in(raw)
        return None if packed is None else self._packing.unpack(packed)
