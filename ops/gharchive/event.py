"""Parse and validate a line of GitHub Archive, so that Postgres accepts the event.

Format: https://www.gharchive.org, JSON objects with id, type, actor, repo, org, payload, public, created_at.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec

from db.errors import InvalidInput
from db.validation import bigint, json_object, partition_month, text, timestamp

_decode = msgspec.json.Decoder().decode
_PARTS = ("id", "type", "created_at", "actor", "repo", "org")


class Rejected(Exception):
    """The line is not an event that can be stored. The message is the reason."""


@dataclass(frozen=True)
class Party:
    """An actor, repository or organization: its GitHub id, and its name at that time."""

    github_id: int
    name: str


@dataclass(frozen=True)
class Event:
    """One parsed line. `data` has the payload and all fields that have no attribute here."""

    github_event_id: int
    type: str
    timestamp: datetime
    actor: Party
    repo: Party | None
    org: Party | None
    data: dict[str, Any]


def parse_event(line: bytes) -> Event:
    """Parse a line. Raise Rejected, and nothing else, if it is invalid."""
    try:
        event = _decode(line)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise Rejected(f"invalid JSON: {error}") from error
    if not isinstance(event, dict):
        raise Rejected("not a JSON object")
    try:
        data = {key: value for key, value in event.items() if key not in _PARTS}
        actor = _party(event, "actor", "login", data)
        if actor is None:
            raise Rejected("actor: is missing")
        return Event(
            github_event_id=_number("id", event.get("id")),
            type=text("type", event.get("type"), empty=False),
            timestamp=_time(event.get("created_at")),
            actor=actor,
            repo=_party(event, "repo", "name", data),
            org=_party(event, "org", "login", data),
            data=json_object("data", data),
        )
    except InvalidInput as error:
        raise Rejected(str(error)) from error


def _party(event: dict[str, Any], part: str, name: str, data: dict[str, Any]) -> Party | None:
    """Parse a party, and add its other fields to `data`."""
    said = event.get(part)
    if said is None:
        return None
    if not isinstance(said, dict):
        raise Rejected(f"{part}: is not an object")
    rest = {key: value for key, value in said.items() if key not in ("id", name)}
    if rest:
        data[part] = rest
    return Party(_number(f"{part}.id", said.get("id")), text(f"{part}.{name}", said.get(name), empty=False))


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
