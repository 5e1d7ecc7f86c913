"""Encode values as msgpack for cache entries. Never pickle, which would let bytes from Redis run code."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from copy import deepcopy
from functools import partial
from typing import Generic, TypeVar

import msgspec

from cache.entry import absence, entry, packed_in
from cache.errors import UndecodableEntry

T = TypeVar("T")


class Shared(Generic[T]):
    """A value for several callers. The first one gets the value itself, each other one a copy.

    `copy` must not depend on the value, which its caller may have changed.
    """

    __slots__ = ("_copy", "_first")

    def __init__(self, value: T, copy: Callable[[], T]) -> None:
        self._first = [value]
        self._copy = copy

    def take(self) -> T:
        try:
            # One atomic operation, because callers may be threads.
            return self._first.pop()
        except IndexError:
            return self._copy()


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

    def share(self, value: T, packed: bytes | None = None) -> Shared[T]:
        """Return the value for several callers. `packed` are its bytes, if they are known."""
        try:
            return Shared(value, partial(self.decoder.decode, packed or self.pack(value)))
        except UndecodableEntry:
            return Shared(value, partial(deepcopy, deepcopy(value)))

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

    def share(self, record: T, raw: bytes | None = None) -> Shared[T]:
        """Return the record for several callers. `raw` is its entry, if it has one."""
        return self._packing.share(record, None if raw is None else packed_in(raw))

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

    def decode_all(
        self,
        record_ids: Iterable[int],
        raws: Iterable[bytes | None],
        stamp: bytes,
        known: dict[int, T | None],
    ) -> list[int]:
        """Decode the entries that begin with `stamp` into `known`. Return the ids of those that cannot be decoded."""
        unpack = self.unpack
        undecodable: list[int] = []
        for record_id, raw in zip(record_ids, raws, strict=True):
            if raw is not None and raw.startswith(stamp):
                # `decode` has the same result, and takes longer than decoding a small record.
                parts = raw.split(b":", 4)
                try:
                    known[record_id] = unpack(parts[4]) if len(parts) == 5 else self.decode(raw)
                except (msgspec.DecodeError, RecursionError, UndecodableEntry):
                    undecodable.append(record_id)
        return undecodable
