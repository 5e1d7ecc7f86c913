"""Encode values as msgpack for cache entries. Never pickle, which would let bytes from Redis run code."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

import msgspec

from cache.entry import absence, entry, packed_in
from cache.errors import UndecodableEntry

T = TypeVar("T")


class Packing(Generic[T]):
    """Encodes and decodes values of one type. Both directions raise UndecodableEntry."""

    def __init__(self, kind: type[T]) -> None:
        self._encoder = msgspec.msgpack.Encoder()
        self.decoder = msgspec.msgpack.Decoder(kind)

    def pack(self, value: T) -> bytes:
        try:
            return self._encoder.encode(value)
        except (OverflowError, TypeError, UnicodeEncodeError, RecursionError) as error:
            raise UndecodableEntry(f"cannot encode as msgpack: {error}") from error

    def unpack(self, packed: bytes) -> T:
        try:
            return self.decoder.decode(packed)
        except (msgspec.DecodeError, RecursionError) as error:
            raise UndecodableEntry(f"cannot decode with this schema: {error}") from error


class Codec(Generic[T]):
    """Encodes and decodes one type of record. `version_of` returns a record's row version."""

    def __init__(self, kind: type[T], version_of: Callable[[T], int]) -> None:
        self.kind = kind
        self._version_of = version_of
        self._packing = Packing(kind)
        # For bytes that have been decoded before, so that it cannot fail.
        self.unpack: Callable[[bytes], T] = self._packing.decoder.decode

    def version_of(self, record: T) -> int:
        return self._version_of(record)

    def encode(self, record: T | None, epoch: bytes, life_ms: int, cost_ms: int) -> bytes:
        """Return the entry for a record, or for its absence if it is None.

        `life_ms` is the entry's lifetime, `cost_ms` the time that the database took. Raises UndecodableEntry if msgpack
        cannot encode the record, and EntryTooLarge.
        """
        if record is None:
            return absence(epoch)
        return entry(epoch, self._version_of(record), life_ms, cost_ms, self._packing.pack(record))

    def decode(self, raw: bytes) -> T | None:
        """Return the record, or None for a known absence. Raises UndecodableEntry for bytes of any other form."""
        packed = packed_in(raw)
        return None if packed is None else self._packing.unpack(packed)
