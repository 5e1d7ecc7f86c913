"""Parse and validate a line of GitHub Archive, so that Postgres accepts the event.

Format: https://www.gharchive.org, JSON objects with id, type, actor, repo, org, payload, public, created_at.
"""

from __future__ import annotations

from datetime import datetime
from functools import lru_cache

import msgspec

from db.errors import InvalidInput
from db.validation import bigint, indexed_text, partition_month, text, timestamp
from ops.gharchive.stored_json import as_stored

_decode_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode
_PARTS = ("id", "type", "created_at", "actor", "repo", "org")
_NULL = msgspec.Raw(b"null")
_INVALID_JSON = (msgspec.DecodeError, RecursionError, UnicodeDecodeError)


class Rejected(Exception):
    """The line is not an event that can be stored. The message is the reason."""


class Party(msgspec.Struct, frozen=True, gc=False):
    """An actor, repository or organization: its GitHub id, and its name at that time."""

    github_id: int
    name: str


class Event(msgspec.Struct, frozen=True, gc=False):
    """One parsed line. `data` is a JSON object with the payload and all fields that have no attribute here."""

    github_event_id: int
    type: str
    timestamp: datetime
    actor: Party
    repo: Party | None
    org: Party | None
    data: bytes


def parse_event(line: bytes) -> Event:
    """Parse a line. Raise Rejected, and nothing else, if it is invalid."""
    try:
        fields = _decode_fields(line)
        parts = [_decode(fields.pop(part, _NULL)) for part in _PARTS]
    except msgspec.ValidationError as error:
        raise Rejected(_reason(line, error)) from error
    except _INVALID_JSON as error:
        raise Rejected(f"invalid JSON: {error}") from error
    number, kind, created_at, *parties = parts
    # Bytes instead of a dictionary, because the payload is most of a line and is stored as it is.
    data = [_key(name) + bytes(value) for name, value in fields.items()]
    try:
        actor = _party("actor", "login", parties[0], data)
        if actor is None:
            raise Rejected("actor: is missing")
        return Event(
            github_event_id=_number("id", number),
            type=indexed_text("type", kind, empty=False),
            timestamp=_time(created_at),
            actor=actor,
            repo=_party("repo", "name", parties[1], data),
            org=_party("org", "login", parties[2], data),
            data=as_stored("data", b"{" + b",".join(data) + b"}"),
        )
    except InvalidInput as error:
        raise Rejected(str(error)) from error
    except _INVALID_JSON as error:
        raise Rejected(f"invalid JSON: {error}") from error


def _reason(line: bytes, error: msgspec.ValidationError) -> str:
    """Return why a line is not an object of the expected form: it may also be invalid further on."""
    try:
        is_object = isinstance(_decode(line), dict)
    except _INVALID_JSON as invalid:
        return f"invalid JSON: {invalid}"
    return f"invalid JSON: {error}" if is_object else "not a JSON object"


@lru_cache(maxsize=256)
def _key(name: str) -> bytes:
    return _encode(name) + b":"


def _party(part: str, name: str, said: object, data: list[bytes]) -> Party | None:
    """Parse a party, and add its other fields to `data`."""
    if said is None:
        return None
    if not isinstance(said, dict):
        raise Rejected(f"{part}: is not an object")
    github_id, called = said.pop("id", None), said.pop(name, None)
    if said:
        data.append(_key(part) + _encode(said))
    # Of the names, only those of users are indexed.
    check = indexed_text if part == "actor" else text
    return Party(_number(f"{part}.id", github_id), check(f"{part}.{name}", called, empty=False))


def _number(field: str, value: object) -> int:
    """Parse a GitHub id. Events have theirs as text."""
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 20:
        value = int(value)
    return bigint(field, value, least=1)


def _time(value: object) -> datetime:
    if not isinstance(value, str):
        raise Rejected("created_at: is missing" if value is None else "created_at: is not text")
    try:
        at = timestamp("created_at", datetime.fromisoformat(value))
    except ValueError as error:
        raise Rejected(f"created_at: {value[:40]!r} is not a timestamp") from error
    partition_month("created_at", at)
    return at
