"""Store records in the near cache so that each hit cheaply returns a record that no other caller can change.

Decoding is most of the cost of a hit, so it is avoided where possible:

- A frozen record with only plain values is returned as it is.
- A record with one dictionary of plain values, or of flat lists and dictionaries of them, is returned as a copy.
- If only one field can be changed, such as a nested dictionary, only that field is decoded on each hit.
- Any other record is stored as bytes and decoded on each hit.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime
from decimal import Decimal
from operator import attrgetter
from sys import getsizeof
from types import NoneType, UnionType
from typing import Any, Generic, Literal, NamedTuple, TypeVar, Union, get_args, get_origin, get_type_hints
from uuid import UUID

import msgspec
from msgspec.structs import force_setattr

from cache.codec import Codec

T = TypeVar("T")
_PLAIN = frozenset((NoneType, bool, int, float, str, bytes, datetime, date, Decimal, UUID))


class NearValue(NamedTuple, Generic[T]):
    """A stored value. `give(value)` returns the record for one caller; `size` is the value's size in bytes."""

    value: Any
    give: Callable[[Any], T | None]
    size: int


class NearCodec(Generic[T]):
    """Decides how to store records of one type."""

    def __init__(self, codec: Codec[T]) -> None:
        self._unpack = codec.unpack
        kind: Any = codec.kind
        is_frozen = issubclass(kind, msgspec.Struct) and kind.__struct_config__.frozen
        hints = get_type_hints(kind) if is_frozen else {}
        changeable = [name for name, hint in hints.items() if not _is_plain(hint)]
        self._fields = tuple(hints)
        self._is_plain = is_frozen and not changeable
        # The field whose value can be changed, if there is only one.
        self._field = changeable[0] if len(changeable) == 1 else ""
        self._value_of = attrgetter(self._field)
        self._unpack_value = msgspec.msgpack.Decoder(hints.get(self._field, Any)).decode

    def encode(self, packed: bytes | None) -> NearValue[T]:
        """Return what to store for packed bytes, which must be decodable, or for None, a known absence."""
        if packed is None:
            return NearValue(None, _itself, 0)
        if self._is_plain or self._field:
            record: Any = self._unpack(packed)
            if self._is_plain:
                return NearValue(record, _itself, self._size(record))
            held = self._value_of(record)
            if type(held) is dict and all(map(_is_flat, held.values())):
                containers = tuple(name for name in held if type(held[name]) not in _PLAIN)
                size = self._size(record) + sum(getsizeof(name) + _flat_size(held[name]) for name in held)
                return NearValue((record, held, containers), self._copy, size + getsizeof(containers))
            # Stored only as bytes: no caller gets this record itself.
            force_setattr(record, self._field, None)
            packed_value = msgspec.msgpack.encode(held)
            return NearValue(
                (record, packed_value), self._decoded, self._size(record) + getsizeof(packed_value)
            )
        return NearValue(packed, self._unpack, getsizeof(packed))

    def _copy(self, value: tuple[Any, dict[str, Any], tuple[str, ...]]) -> T:
        record, held, containers = value
        copy = record.__copy__()
        held = held.copy()
        for name in containers:
            held[name] = held[name].copy()
        force_setattr(copy, self._field, held)
        return copy  # type: ignore[no-any-return]

    def _decoded(self, value: tuple[Any, bytes]) -> T:
        record, packed_value = value
        copy = record.__copy__()
        force_setattr(copy, self._field, self._unpack_value(packed_value))
        return copy  # type: ignore[no-any-return]

    def _size(self, record: T) -> int:
        return getsizeof(record) + sum(getsizeof(getattr(record, name)) for name in self._fields)


def _itself(record: T) -> T:
    return record


def _is_flat(value: Any) -> bool:
    """Return whether a shallow copy shares nothing mutable with the value."""
    inside = value if type(value) is list else value.values() if type(value) is dict else (value,)
    return _PLAIN.issuperset(map(type, inside))


def _flat_size(value: Any) -> int:
    if type(value) is dict:
        return getsizeof(value) + sum(getsizeof(each) for pair in value.items() for each in pair)
    return getsizeof(value) + (sum(map(getsizeof, value)) if type(value) is list else 0)


def _is_plain(hint: Any) -> bool:
    if get_origin(hint) is Literal:
        return True
    return all(map(_is_plain, get_args(hint))) if get_origin(hint) in (Union, UnionType) else hint in _PLAIN
