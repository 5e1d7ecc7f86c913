"""One line of GitHub Archive as an event, checked so that Postgres takes it; or the reason why not.

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
    """A line that is no event that can be stored; the message is the reason."""


@dataclass(frozen=True)
class Party:
    """An actor, repository or organization: GitHub's number and its name at that time."""

    github_id: int
    name: str


@dataclass(frozen=True)
class Event:
    """What one line says. `data` holds the payload, and every field that has no place of its own."""

    github_event_id: int
    type: str
    timestamp: datetime
    actor: Party
    repo: Party | None
    org: Party | None
    data: dict[str, Any]


def parse_event(line: bytes) -> Event:
    """Raises Rejected, and nothing else."""
    try:
        event = _decode(line)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise Rejected(f"no JSON: {error}") from error
    if not isinstance(event, dict):
        raise Rejected("no JSON object")
    try:
        data = {key: value for key, value in event.items() if key not in _PARTS}
        actor = _party(event, "actor", "login", data)
        if actor is None:
            raise Rejected("actor: is missing")
        return Event(
            _number("id", event.get("id")),
            text("type", event.get("type"), empty=False),
            _time(event.get("created_at")),
            actor,
            _party(event, "repo", "name", data),
            _party(event, "org", "login", data),
            json_object("data", data),
        )
    except InvalidInput as error:
        raise Rejected(str(error)) from error


def _party(event: dict[str, Any], part: str, name: str, data: dict[str, Any]) -> Party | None:
    """One of the parties; what else is said of it goes into `data`."""
    said = event.get(part)
    if said is None:
        return None
    if not isinstance(said, dict):
        raise Rejected(f"{part}: is no object")
    rest = {key: value for key, value in said.items() if key not in ("id", name)}
    if rest:
        data[part] = rest
    return Party(_number(f"{part}.id", said.get("id")), text(f"{part}.{name}", said.get(name), empty=False))


def _number(field: str, value: object) -> int:
    """GitHub's numbers: events carry theirs as text."""
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 20:
        value = int(value)
    return bigint(field, value, least=1)


def _time(value: object) -> datetime:
    if not isinstance(value, str):
        raise Rejected("created_at: is missing" if value is None else "created_at: is no text")
    try:
        at = timestamp("created_at", datetime.fromisoformat(value))
    except ValueError as error:
        raise Rejected(f"created_at: {value[:40]!r} is no timestamp") from error
    partition_month("created_at", at)
    return at
