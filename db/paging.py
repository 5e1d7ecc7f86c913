"""Cursors of keyset pagination: opaque, and bound to the listing that made them."""

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

T = TypeVar("T")

_CHECK_BYTES = 8
_KEY = msgspec.msgpack.Decoder(tuple[int, ...])
MAX_LIMIT = 1000


@dataclass(frozen=True)
class Listing:
    """One order with its filters, as `name` tells them; a place in it is a key of `length` whole numbers."""

    name: str
    length: int

    def start(self, after: str | None, beginning: tuple[int, ...]) -> tuple[int, ...]:
        """The key that a page begins after. Raises InvalidCursor."""
        return beginning if after is None else decode_cursor(self.name, after, self.length)

    @staticmethod
    def checked_limit(limit: int) -> int:
        """A page's size. Raises InvalidInput."""
        if not isinstance(limit, int) or isinstance(limit, bool) or not 1 <= limit <= MAX_LIMIT:
            raise InvalidInput("limit", f"{limit!r} is out of range; 1 to {MAX_LIMIT}")
        return limit

    def page(self, records: Sequence[T], limit: int, key: Callable[[T], Any]) -> Page[T]:
        """Of up to limit + 1 records the first `limit`, and where to go on if there are more."""
        items = list(records[:limit])
        if len(records) <= limit:
            return Page(items, None)
        last = key(items[-1])
        return Page(items, encode_cursor(self.name, last if isinstance(last, tuple) else (last,)))


def encode_cursor(listing: str, key: tuple[int, ...]) -> str:
    """The place after `key` in a listing; `listing` names its order and its filters."""
    packed = msgspec.msgpack.encode(key)
    return base64.urlsafe_b64encode(_check(listing, packed) + packed).rstrip(b"=").decode()


def decode_cursor(listing: str, cursor: str, length: int) -> tuple[int, ...]:
    """The key a cursor stands for. InvalidCursor where this listing did not make it, or it was changed.

    The check finds mistakes and tampering by hand; it guards nothing, for a cursor opens nothing.
    """
    try:
        raw = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        check, packed = raw[:_CHECK_BYTES], raw[_CHECK_BYTES:]
        key = _KEY.decode(packed)
    except (binascii.Error, ValueError, TypeError, msgspec.DecodeError) as error:
        raise InvalidCursor("after", "is not a cursor; pass a page's `next`, unchanged") from error
    if check != _check(listing, packed) or len(key) != length:
        raise InvalidCursor("after", "is another listing's cursor, or was changed; start from the first page")
    return key


def _check(listing: str, packed: bytes) -> bytes:
    return hashlib.blake2s(
        packed, key=hashlib.sha256(listing.encode()).digest(), digest_size=_CHECK_BYTES
    ).digest()
