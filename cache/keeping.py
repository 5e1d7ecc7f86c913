"""How the near cache keeps a record, so that each hit gets one that nobody else can change, for the least work.

Decoding is most of what a hit costs. A record of plain values is frozen, and so itself is given out; one with a
dictionary of plain values, or of flat lists and dictionaries of them, is given out as a copy; only what is nested
deeper stays as bytes, and is decoded on each hit.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from operator import attrgetter
from sys import getsizeof
from types import NoneType
from typing import Any, Generic, NamedTuple, TypeVar, get_args, get_type_hints

import msgspec
from msgspec.structs import force_setattr

from cache.codec import Codec

T = TypeVar("T")
_PLAIN = frozenset((NoneType, bool, int, float, str, bytes, datetime))


class Kept(NamedTuple, Generic[T]):
    """`give(value)` is the record for one caller; `size` is what the value takes in bytes."""

    value: Any
    give: Callable[[Any], T | None]
    size: int


class Keeping(Generic[T]):
    """The ways to keep one type of record."""

    def __init__(self, codec: Codec[T]) -> None:
        self._unpack = codec.unpack
        kind: Any = codec.kind
        is_frozen = issubclass(kind, msgspec.Struct) and kind.__struct_config__.frozen
        hints = get_type_hints(kind) if is_frozen else {}
        changeable = [name for name, hint in hints.items() if not _is_plain(hint)]
        self._fields = tuple(hints)
        self._is_plain = is_frozen and not changeable
        # The one field that may hold a dictionary, if only one holds what can be changed.
        self._dictionary = changeable[0] if len(changeable) == 1 else ""
        self._dictionary_of = attrgetter(self._dictionary)

    def kept(self, packed: bytes | None) -> Kept[T]:
        """From bytes that can be decoded, or from None, which is a known absence."""
        if packed is None:
            return Kept(None, _itself, 0)
        if self._is_plain or self._dictionary:
            record = self._unpack(packed)
            if self._is_plain:
                return Kept(record, _itself, self._size(record))
            held = self._dictionary_of(record)
            if type(held) is dict and all(map(_is_flat, held.values())):
                containers = tuple(name for name in held if type(held[name]) not in _PLAIN)
                size = self._size(record) + sum(getsizeof(name) + _flat_size(held[name]) for name in held)
                return Kept((record, containers), self._copy, size + getsizeof(containers))
        return Kept(packed, self._unpack, getsizeof(packed))

    def _copy(self, value: tuple[Any, tuple[str, ...]]) -> T:
        record, containers = value
        copy = record.__copy__()
        held = self._dictionary_of(record).copy()
        for name in containers:
            held[name] = held[name].copy()
        force_setattr(copy, self._dictionary, held)
        return copy  # type: ignore[no-any-return]

    def _size(self, record: T) -> int:
        return getsizeof(record) + sum(getsizeof(getattr(record, name)) for name in self._fields)


def _itself(record: T) -> T:
    return record


def _is_flat(value: Any) -> bool:
    """Whether copying it one level deep makes another that has nothing in common with it that can be changed."""
    inside = value if type(value) is list else value.values() if type(value) is dict else (value,)
    return _PLAIN.issuperset(map(type, inside))


def _flat_size(value: Any) -> int:
    if type(value) is dict:
        return getsizeof(value) + sum(getsizeof(each) for pair in value.items() for each in pair)
    return getsizeof(value) + (sum(map(getsizeof, value)) if type(value) is list else 0)


def _is_plain(hint: Any) -> bool:
    return all(each in _PLAIN for each in (get_args(hint) or (hint,)))
