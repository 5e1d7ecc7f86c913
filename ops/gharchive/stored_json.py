"""Pass JSON text to a jsonb column unchanged if that is safe, which is much faster than to decode and encode it."""

from __future__ import annotations

import re

import msgspec

from db.validation import JSON_BYTES, JSON_DEPTH, encoded_object, has_few_values

_decode = msgspec.json.Decoder().decode
# A fraction, an exponent, or more digits than a double has. jsonb keeps them as written, and Python does not.
_UNUSUAL_NUMBER = re.compile(rb"[0-9](?:[.eE]|[0-9]{16})").search
_AS_BRACES = bytes.maketrans(b"[]", b"{}")
_NOT_BRACKETS = bytes(set(range(256)) - set(b"{}[]"))


def as_stored(field: str, json: bytes) -> bytes:
    """Return the JSON object as text for a jsonb column. Raise InvalidInput if it cannot be stored.

    The text must be valid JSON, but its strings need not be UTF-8: raise UnicodeDecodeError if they are not. Raise
    msgspec.DecodeError for a number that is out of range.
    """
    if _is_plain(json):
        return json
    _, encoded = encoded_object(field, _decode(json))
    return encoded


def _is_plain(json: bytes) -> bool:
    """Return whether `json_object` accepts the object, and decoding and encoding does not change its value.

    A quick check: False can also mean that it is not known.
    """
    if len(json) > JSON_BYTES or not has_few_values(json):
        return False
    if not json.isascii():
        json.decode()
    outside = json
    if b"\\" in json:
        if b"\\u0000" in json or b"\\ud" in json or b"\\uD" in json:
            # Maybe NUL, or half of a surrogate pair.
            return False
        outside = json.replace(b"\\\\", b"").replace(b'\\"', b"")
    # What is left outside of strings: brackets, numbers, and literals.
    outside = b"".join(outside.split(b'"')[::2])
    return _UNUSUAL_NUMBER(outside) is None and _is_flat(outside)


def _is_flat(outside: bytes) -> bool:
    """Return whether the brackets are not nested deeper than JSON_DEPTH levels."""
    if outside.count(b"{") + outside.count(b"[") <= JSON_DEPTH:
        return True
    brackets = outside.translate(_AS_BRACES, delete=_NOT_BRACKETS)
    for _ in range(JSON_DEPTH):
        # One level less.
        brackets = brackets.replace(b"{}", b"")
        if not brackets:
            return True
    return False
