"""Keyset pagination with opaque cursors. A cursor is valid only for the listing that made it."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec

from db.errors import InvalidCursor, InvalidInput
from db.models import Page
from db.validation import INT32_MAX, INT64_MAX, INT64_MIN

T = TypeVar("T")

_CHECK_BYTES = 8
_KEY = msgspec.msgpack.Decoder(tuple[int, ...])
MAX_LIMIT = 1000
# The least and the greatest value of an integer in a key.
Range = tuple[int, int]
BIGINT: Range = (INT64_MIN, INT64_MAX)
INTEGER: Range = (-INT32_MAX - 1, INT32_MAX)


@dataclass(frozen=True)
class Listing:
    """A listing: an order with its filters, both described by `name`.

    A position in it is a key of `length` integers. `first` is the range of the first one, and the others are bigint.
    """

    name: str
    length: int
    first: Range = BIGINT

    def start(self, after: str | None, beginning: tuple[int, ...]) -> tuple[int, ...]:
        """Return the key after which the page starts: `beginning` without a cursor. Raises InvalidCursor."""
        return beginning if after is None else decode_cursor(self.name, after, self.length, self.first)

    @staticmethod
    def checked_limit(limit: int) -> int:
        """Return `limit` if it is 1 to MAX_LIMIT. Raises InvalidInput."""
        if not isinstance(limit, int) or isinstance(limit, bool) or not 1 <= limit <= MAX_LIMIT:
            raise InvalidInput("limit", f"{limit!r} is out of range; use 1 to {MAX_LIMIT}")
        return int(limit)

    def page(self, records: Sequence[T], limit: int, key: Callable[[T], Any]) -> Page[T]:
        """Return the page with the first `limit` of up to limit + 1 records, and a cursor if there are more."""
        items = list(records[:limit])
        if len(records) <= limit:
            return Page(items, None)
        last = key(items[-1])
        return Page(items, encode_cursor(self.name, last if isinstance(last, tuple) else (last,)))


def encode_cursor(listing: str, key: tuple[int, ...]) -> str:
    """Return the cursor for the position after `key`. `listing` describes the order and its filters."""
    packed = msgspec.msgpack.encode(key)
    return base64.urlsafe_b64encode(_check(listing, packed) + packed).rstrip(b"=").decode()


def decode_cursor(listing: str, cursor: str, length: int, first: Range = BIGINT) -> tuple[int, ...]:
    """Return the key in a cursor. Raises InvalidCursor if another listing made it or it was changed.

    The checksum only finds mistakes. It is not a security measure: a cursor gives access to nothing. Anyone can make
    one with a valid checksum, so each integer of the key must be in the range of its column.
    """
    try:
        raw = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        check, packed = raw[:_CHECK_BYTES], raw[_CHECK_BYTES:]
        key = _KEY.decode(packed)
    except (binascii.Error, ValueError, TypeError, msgspec.DecodeError) as error:
        raise InvalidCursor("after", "is not a cursor; pass a page's `next`, unchanged") from error
    is_key = len(key) == length and all(
        least <= part <= most for part, (least, most) in zip(key, (first, *[BIGINT] * length), strict=False)
    )
    if check != _check(listing, packed) or not is_key:
        raise InvalidCursor("after", "is another listing's cursor, or was changed; start from the first page")
    return key


def _check(listing: str, packed: bytes) -> bytes:
    return hashlib.blake2s(
        packed, key=hashlib.sha256(listing.encode()).digest(), digest_size=_CHECK_BYTES
    ).digest()
