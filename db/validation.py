"""Reject values that Postgres would refuse or change, before anything is sent. All functions raise InvalidInput."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, TypeVar
from uuid import UUID

import msgspec
from msgspec import UNSET
from psycopg.types.json import Jsonb

from db.errors import InvalidInput

INT64_MIN, INT64_MAX = -(2**63), 2**63 - 1
INT32_MAX = 2**31 - 1
# More than real data needs, and well below the depth at which parsers raise RecursionError.
JSON_DEPTH = 64
# Year and month, in UTC.
Month = tuple[int, int]
# From here on a float is written with an exponent. jsonb stores it as an integer, which is not always equal.
_FLOAT_LIMIT = 1e16
# The largest text field. A cached record must be transferred within the cache's time limit.
TEXT_BYTES = 4 * 1024 * 1024
# The largest text in a B-tree index. Postgres refuses an index row of more than 2,704 bytes, which includes the other
# columns. Whether a longer text fits after compression cannot be predicted.
INDEXED_TEXT_BYTES = 2000
# Far below Postgres's limits, which are 131,072 digits before the point and 16,383 after it.
DECIMAL_DIGITS = 1000
# The largest JSON parameter, as UTF-8 without spaces, and the most values in it: objects, lists, and what they contain.
# While Postgres reads JSON, each byte takes up to 10 bytes of memory. Each number takes 200 bytes more, and each object
# or list 700; `patch` takes twice as much.
JSON_BYTES = 16 * 1024 * 1024
JSON_VALUES = 200_000
_encode = msgspec.json.Encoder().encode
T = TypeVar("T")


def bigint(field: str, value: object, *, least: int = INT64_MIN) -> int:
    """Return `value` as a plain int if it is an integer that fits a bigint column.

    A subclass of int, such as an Enum, may have another text, which must not become part of a key.
    """
    if not isinstance(value, int) or isinstance(value, bool):
        raise InvalidInput(field, f"{type(value).__name__} is not an integer")
    if not least <= value <= INT64_MAX:
        raise InvalidInput(field, f"is out of range; use {least} to {INT64_MAX}")
    return int(value)


def bigints(field: str, values: Iterable[int]) -> list[int]:
    """Return `values` as a list of plain ints if each is an integer that fits a bigint column."""
    # An iterator can be read only once.
    numbers = list(values)
    # The usual case, without a function call for each value.
    if set(map(type, numbers)) == {int} and min(numbers) >= INT64_MIN and max(numbers) <= INT64_MAX:
        return numbers
    return [bigint(field, value) for value in numbers]


def count(field: str, value: object) -> int:
    """Return `value` if it is a count that fits an integer column: 0 or more."""
    number = bigint(field, value, least=0)
    if number > INT32_MAX:
        raise InvalidInput(field, f"is out of range; use 0 to {INT32_MAX}")
    return number


def optional_count(field: str, value: object) -> int:
    """Return a count, or 0 for UNSET."""
    return 0 if value is UNSET else count(field, value)


def integer(field: str, value: object) -> int:
    """Return `value` if it is an integer that fits an integer column."""
    number = bigint(field, value)
    if not -INT32_MAX - 1 <= number <= INT32_MAX:
        raise InvalidInput(field, f"is out of range; use {-INT32_MAX - 1} to {INT32_MAX}")
    return number


def boolean(field: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise InvalidInput(field, f"{type(value).__name__} is not a bool")
    return value


def any_float(field: str, value: object) -> float:
    """Return a float, which may be NaN or infinite. An integer is converted."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise InvalidInput(field, f"{type(value).__name__} is not a float")
    try:
        return float(value)
    except OverflowError as error:
        raise InvalidInput(field, "is out of range of a float") from error


def real(field: str, value: object) -> float:
    """Return a finite float. NaN is rejected, because it is not equal to itself."""
    number = any_float(field, value)
    if not math.isfinite(number):
        raise InvalidInput(field, f"{number} is not a finite number")
    return number


def decimal(field: str, value: object) -> Decimal:
    """Return a finite Decimal of at most DECIMAL_DIGITS digits before and after the point."""
    if not isinstance(value, Decimal):
        raise InvalidInput(field, f"{type(value).__name__} is not a Decimal")
    if not value.is_finite():
        raise InvalidInput(field, f"{value} is not a finite number")
    exponent = value.as_tuple().exponent
    if value.adjusted() >= DECIMAL_DIGITS or not isinstance(exponent, int) or exponent < -DECIMAL_DIGITS:
        raise InvalidInput(field, f"has more than {DECIMAL_DIGITS} digits before or after the point")
    return value


def day(field: str, value: object) -> date:
    """Return `value` if it is a date. A datetime is rejected, because Postgres would drop its time."""
    if not isinstance(value, date) or isinstance(value, datetime):
        raise InvalidInput(field, f"{type(value).__name__} is not a date")
    return value


def uuid(field: str, value: object) -> UUID:
    if not isinstance(value, UUID):
        raise InvalidInput(field, f"{type(value).__name__} is not a UUID")
    return value


def one_of(allowed: tuple[str, ...]) -> Callable[[str, object], str]:
    """Return a function that returns its value if it is one of the texts of an enumeration."""

    def check(field: str, value: object) -> str:
        if not isinstance(value, str) or value not in allowed:
            raise InvalidInput(field, f"{value!r:.40} is not one of {', '.join(allowed)}")
        return value

    return check


def list_of(check: Callable[[str, object], T]) -> Callable[[str, object], list[T]]:
    """Return a function that returns its value as a list if `check` accepts each element."""

    def check_all(field: str, value: object) -> list[T]:
        if not isinstance(value, list | tuple):
            raise InvalidInput(field, f"{type(value).__name__} is not a list")
        return [check(field, each) for each in value]

    return check_all


def optional(check: Callable[[str, object], T], field: str, value: object) -> T | None:
    """Return what `check` returns, or None for None and UNSET."""
    return None if value is None or value is UNSET else check(field, value)


def timestamp(field: str, value: object) -> datetime:
    """Return an aware datetime in UTC. Naive ones are rejected: Postgres would read them in the session's time zone."""
    if not isinstance(value, datetime):
        raise InvalidInput(field, f"{type(value).__name__} is not a datetime")
    if value.tzinfo is UTC:
        return value
    if value.utcoffset() is None:
        raise InvalidInput(field, "has no time zone; pass an aware datetime, such as datetime.now(UTC)")
    try:
        return value.astimezone(UTC)
    except OverflowError as error:
        raise InvalidInput(field, "is out of range in UTC; use years 1 to 9999") from error


def partition_month(field: str, at: datetime) -> Month:
    """Return the month (UTC) of an activity's timestamp, which must be from 1970 to nine years ahead.

    The SQL function make_activity_partitions accepts one more year, because the server's clock may differ.
    """
    month, now = (at.year, at.month), datetime.now(UTC)
    if not (1970, 1) <= month <= (now.year + 9, now.month):
        raise InvalidInput(field, f"{at:%Y-%m} is out of range; use 1970 to nine years ahead")
    return month


def text(field: str, value: object, *, empty: bool = True, most: int = TEXT_BYTES) -> str:
    """Return `value` if it is text that Postgres can store: at most `most` bytes, no NUL, no lone surrogates."""
    if not isinstance(value, str):
        raise InvalidInput(field, f"{type(value).__name__} is not text")
    if not value and not empty:
        raise InvalidInput(field, "is empty")
    if "\0" in value:
        raise InvalidInput(field, "contains a NUL character, which Postgres cannot store")
    try:
        # isascii() takes constant time.
        size = len(value) if value.isascii() else len(value.encode())
    except UnicodeEncodeError as error:
        raise InvalidInput(field, f"contains a lone surrogate at character {error.start}") from error
    if size > most:
        raise InvalidInput(field, f"has {size} bytes; at most {most} can be stored")
    return value


def indexed_text(field: str, value: object, *, empty: bool = True) -> str:
    """Return `value` if it is text for a column with an index: at most INDEXED_TEXT_BYTES."""
    return text(field, value, empty=empty, most=INDEXED_TEXT_BYTES)


def idempotency_key(value: object) -> str:
    """Return an idempotency key: 1 to 200 characters."""
    key = text("idempotency_key", value, empty=False)
    if len(key) > 200:
        raise InvalidInput("idempotency_key", f"has {len(key)} characters; use up to 200, such as a UUID")
    return key


def jsonb(field: str, value: object) -> Jsonb:
    """Return a JSON object as a parameter for a jsonb column."""
    return Jsonb(json_object(field, value))


def json_object(field: str, value: object) -> dict[str, Any]:
    """Return `value` if it is a JSON object that Postgres and Redis return unchanged."""
    checked, _ = encoded_object(field, value)
    return checked


def encoded_object(field: str, value: object) -> tuple[dict[str, Any], bytes]:
    """Return `value` if it is a JSON object that Postgres and Redis return unchanged, and its encoding."""
    if not isinstance(value, dict):
        raise InvalidInput(field, f"{type(value).__name__} is not a JSON object")
    _check_json(field, value, JSON_DEPTH)
    return value, limited_json(field, value)


def limited_json(field: str, value: Any, advice: str = "") -> bytes:
    """Return the encoding of valid JSON if it is within JSON_BYTES and JSON_VALUES. `advice` ends the error."""
    try:
        encoded = _encode(value)
    except TypeError:
        # msgspec refuses subclasses of str, int and float. The driver encodes a single write with json.dumps.
        encoded = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
    if len(encoded) > JSON_BYTES:
        raise InvalidInput(
            field, f"{len(encoded)} bytes of JSON are too many; use up to {JSON_BYTES}{advice}"
        )
    if not has_few_values(encoded) and (number := _values(value)) > JSON_VALUES:
        raise InvalidInput(field, f"{number} values in JSON are too many; use up to {JSON_VALUES}{advice}")
    return encoded


def has_few_values(encoded: bytes) -> bool:
    """Return whether JSON certainly has at most JSON_VALUES values. A quick check: texts may contain commas too."""
    # The first value of each object or list follows a bracket, and each other one a comma.
    return 1 + encoded.count(b",") + encoded.count(b"{") + encoded.count(b"[") <= JSON_VALUES


def _values(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + sum(map(_values, value.values()))
    return 1 + sum(map(_values, value)) if isinstance(value, list | tuple) else 1


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
        raise InvalidInput(field, f"{type(value).__name__} {value!r:.40} cannot be stored as JSON")
    elif abs(value) >= _FLOAT_LIMIT:
        raise InvalidInput(
            field, f"{value!r} would be returned as another number, because jsonb drops its exponent"
        )


def _is_plain(value: Any) -> bool:
    """Return whether `value` is ASCII text, an integer, true, false or null. A fast check for most values."""
    kind = type(value)
    is_plain: bool = kind is bool or value is None
    if kind is str:
        is_plain = value.isascii() and "\0" not in value and len(value) <= TEXT_BYTES
    elif kind is int:
        is_plain = INT64_MIN <= value <= INT64_MAX
    return is_plain
