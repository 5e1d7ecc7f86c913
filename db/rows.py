"""Rows of queries that are no records: what outbox, tokens, idempotency and readiness read."""

from __future__ import annotations

import msgspec


class OutboxEntry(msgspec.Struct, frozen=True):
    """One entry of the outbox: what is stale, and the row version that stands now."""

    id: int
    entity: str
    entity_id: int
    row_version: int | None


class OutboxMeasure(msgspec.Struct, frozen=True):
    """How many entries wait, and for how many seconds the oldest has."""

    depth: int
    age: float


class DoneWrite(msgspec.Struct, frozen=True):
    """What was done under an idempotency key, and the record that came of it."""

    purpose: str
    record_id: int | None


class SealedTokens(msgspec.Struct, frozen=True):
    """A user's tokens as they lie in the table."""

    id: int
    access_token: bytes | None
    refresh_token: bytes | None


class RotatedTokens(msgspec.Struct, frozen=True):
    """What a batch of a rotation did. `last_id` is where the next one goes on, None where nothing is left."""

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
    """What READ_CONNECTION_LIMIT returns; a role's limit of -1 is none."""

    role_limit: int
    server_limit: int


class GithubId(msgspec.Struct, frozen=True):
    """GitHub's number of a record, and our own."""

    github_id: int
    id: int
