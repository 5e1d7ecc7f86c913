"""What Postgres would refuse, or take and change, is refused here, before anything is sent."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

from msgspec import UNSET

from db.errors import InvalidInput

INT64_MIN, INT64_MAX = -(2**63), 2**63 - 1
INT32_MAX = 2**31 - 1
# Deeper than any settings are, and far from the parsers' own limits, which end in a RecursionError.
JSON_DEPTH = 64
# Year and month, in UTC.
Month = tuple[int, int]
# From here on a float is written with an exponent; jsonb makes a whole number of it, which is not always the same.
_FLOAT_LIMIT = 1e16
# The largest field a record takes: a cached record has to travel within the cache's time limit.
TEXT_BYTES = 4 * 1024 * 1024


def bigint(field: str, value: object, *, least: int = INT64_MIN) -> int:
    """An integer that fits a bigint column."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise InvalidInput(field, f"{type(value).__name__} is no whole number")
    if not least <= value <= INT64_MAX:
        raise InvalidInput(field, f"is out of range; {least} to {INT64_MAX} can be stored")
    return value


def count(field: str, value: object) -> int:
    """A number of things that fits an integer column: 0 or more."""
    number = bigint(field, value, least=0)
    if number > INT32_MAX:
        raise InvalidInput(field, f"is out of range; 0 to {INT32_MAX} can be stored")
    return number


def optional_count(field: str, value: object) -> int:
    """A count, or 0 for one that was left out."""
    return 0 if value is UNSET else count(field, value)


def timestamp(field: str, value: object) -> datetime:
    """A point in time: a datetime that knows its zone. Postgres would read a naive one as the server's time."""
    if not isinstance(value, datetime):
        raise InvalidInput(field, f"{type(value).__name__} is no datetime")
    if value.tzinfo is UTC:
        return value
    if value.utcoffset() is None:
        raise InvalidInput(field, "has no time zone; pass an aware datetime, such as datetime.now(UTC)")
    try:
        return value.astimezone(UTC)
    except OverflowError as error:
        raise InvalidInput(field, "is out of range in UTC; years 1 to 9999 can be stored") from error


def partition_month(field: str, at: datetime) -> Month:
    """The month of a point in time (UTC) that activities may be stored at: 1970 to nine years ahead.

    make_activity_partitions goes a year further: the server's clock and this one may differ.
    """
    month, now = (at.year, at.month), datetime.now(UTC)
    if not (1970, 1) <= month <= (now.year + 9, now.month):
        raise InvalidInput(field, f"{at:%Y-%m} is out of range; 1970 to nine years ahead can be stored")
    return month


def text(field: str, value: object, *, empty: bool = True) -> str:
    """Text that Postgres can hold: no NUL, no lone surrogates."""
    if not isinstance(value, str):
        raise InvalidInput(field, f"{type(value).__name__} is no text")
    if not value and not empty:
        raise InvalidInput(field, "is empty")
    if "\0" in value:
        raise InvalidInput(field, "holds a NUL character, which Postgres cannot store")
    try:
        # Python knows without looking whether text is ASCII.
        size = len(value) if value.isascii() else len(value.encode())
    except UnicodeEncodeError as error:
        raise InvalidInput(field, f"holds a lone surrogate at character {error.start}") from error
    if size > TEXT_BYTES:
        raise InvalidInput(field, f"has {size} bytes; {TEXT_BYTES} can be stored")
    return value


def idempotency_key(value: object) -> str:
    """A key that a caller gives a write: 1 to 200 characters."""
    key = text("idempotency_key", value, empty=False)
    if len(key) > 200:
        raise InvalidInput("idempotency_key", f"has {len(key)} characters; take up to 200, such as a UUID")
    return key


def optional_text(field: str, value: object) -> str | None:
    """Text, or None for what is null or was left out."""
    return None if value is None or value is UNSET else text(field, value)


def json_object(field: str, value: object) -> dict[str, Any]:
    """A JSON object that comes back from Postgres and Redis as it was."""
    if not isinstance(value, dict):
        raise InvalidInput(field, f"{type(value).__name__} is no JSON object")
    _check_json(field, value, JSON_DEPTH)
    return value


def _check_json(field: str, value: object, depth: int) -> None:
    if depth == 0:
        raise InvalidInput(field, f"is nested deeper than {JSON_DEPTH} levels")
    if isinstance(value, dict):
        for key, item in value.items():
            if type(key) is not str or not _is_plain(key):
                text(f"{field} (a key)", key)
            if not _is_plain(item):
                _check_json(field, item, depth - 1)
    elif isinstance(value, list | tuple):
        for item in value:
            if not _is_plain(item):
                _check_json(field, item, depth - 1)
    elif isinstance(value, str):
        text(field, value)
    elif isinstance(value, bool) or value is None:
        return
    elif isinstance(value, int):
        bigint(field, value)
    elif not isinstance(value, float) or not math.isfinite(value):
        raise InvalidInput(field, f"{type(value).__name__} {value!r:.40} has no JSON form")
    elif abs(value) >= _FLOAT_LIMIT:
        raise InvalidInput(
            field, f"{value!r} would come back as another number, for jsonb drops its exponent"
        )


def _is_plain(value: Any) -> bool:
    """What most values are, told in a fraction of the time: ASCII text, a whole number, true, false, null."""
    kind = type(value)
    is_plain: bool = kind is bool or value is None
    if kind is str:
        is_plain = value.isascii() and "\0" not in value and len(value) <= TEXT_BYTES
    elif kind is int:
        is_plain = INT64_MIN <= value <= INT64_MAX
    return is_plain
