"""Rows of queries that do not return records: outbox, tokens, idempotency keys, readiness and replicas."""

from __future__ import annotations

import re
from datetime import datetime
from zlib import crc32

import msgspec

from db.errors import InvalidInput

# A position, as callers pass it from one process to another: timeline, LSN and checksum in hexadecimal.
_POSITION = re.compile(r"([0-9A-F]{1,8})-([0-9A-F]{1,16})-[0-9A-F]{4}")


class OutboxEntry(msgspec.Struct, frozen=True):
    """An outbox entry: the stale entity. `age` is the time in seconds since the writing transaction began."""

    id: int
    entity: str
    entity_id: int
    age: float


class RowVersion(msgspec.Struct, frozen=True):
    """The current row version of a record."""

    id: int
    row_version: int


class OutboxMeasure(msgspec.Struct, frozen=True):
    """The number of outbox entries, and the age of the oldest in seconds."""

    depth: int
    age: float


class DoneWrite(msgspec.Struct, frozen=True):
    """The write that was done under an idempotency key, and the id of its record."""

    purpose: str
    record_id: int | None


class ForgottenKeys(msgspec.Struct, frozen=True):
    """The number of idempotency keys that one batch deleted, and the time of the newest of them."""

    deleted: int
    last: datetime | None


class SealedTokens(msgspec.Struct, frozen=True):
    """A user's encrypted tokens."""

    id: int
    access_token: bytes | None
    refresh_token: bytes | None


class RotatedTokens(msgspec.Struct, frozen=True):
    """The result of re-encrypting one batch of tokens.

    The next batch starts after `last_id`, whose user may have no tokens; None means that no user is left. `users` is
    the number of users with tokens. `unreadable` has a message for each token that could not be decrypted.
    """

    last_id: int | None
    users: int
    rotated: int
    unreadable: list[str]


class AppliedMigration(msgspec.Struct, frozen=True):
    """A row of _sqlx_migrations, as query read_ledger returns it."""

    version: int
    description: str
    success: bool
    checksum: bytes


class ConnectionLimit(msgspec.Struct, frozen=True):
    """The connection limits of the role and of the server. A `role_limit` of -1 means no limit."""

    role_limit: int
    server_limit: int


class Replication(msgspec.Struct, frozen=True):
    """The replicas that are connected to the primary, and whether commits wait because none of them is synchronous."""

    connected: int
    writes_wait: bool


class KnownEvent(msgspec.Struct, frozen=True, gc=False):
    """The key that GitHub gives a stored activity."""

    github_event_id: int | None
    timestamp: datetime


class KnownParty(msgspec.Struct, frozen=True, gc=False):
    """A stored user or organization: GitHub's id, our own, and the name."""

    github_id: int
    id: int
    name: str


class KnownRepository(msgspec.Struct, frozen=True, gc=False):
    """A stored repository: GitHub's id, our own, the name, and GitHub's id of its organization."""

    github_id: int
    id: int
    name: str
    org_github_id: int | None


class RepositoryState(msgspec.Struct, frozen=True):
    """A repository's name and organization. `seen_at` is the time of its latest activity, or None."""

    github_id: int
    name: str
    org_github_id: int | None
    seen_at: datetime | None


class Position(msgspec.Struct, frozen=True, order=True):
    """A place in the write history. Positions of a later timeline, after a failover, are later."""

    timeline: int
    lsn: int

    def __str__(self) -> str:
        text = f"{self.timeline:X}-{self.lsn:X}"
        # Against a position that was cut off or mistyped. It does not protect against a forged one.
        return f"{text}-{crc32(text.encode()) & 0xFFFF:04X}"

    @classmethod
    def parse(cls, text: object) -> Position:
        """Parse the result of `str(position)`. Raises InvalidInput."""
        match = _POSITION.fullmatch(text) if isinstance(text, str) else None
        position = cls(int(match[1], 16), int(match[2], 16)) if match is not None else None
        if position is None or str(position) != text:
            raise InvalidInput(
                "after", f"{text!r:.40} is not a position; pass what write_position() returned"
            )
        return position


# Every replica has reached it.
BEGINNING = Position(0, 0)


class ReplayPosition(msgspec.Struct, frozen=True):
    """What a replica has replayed. `timeline` is None on a primary."""

    timeline: int | None
    lsn: int | None
