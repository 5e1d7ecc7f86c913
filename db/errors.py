"""The root of the Postgres side's errors, and the classes its public names raise.

A driver's exception never crosses this package's edge: it becomes one of these, `raise ... from exc`,
with its SQLSTATE kept. No message carries a secret or a whole connection string.
"""

from __future__ import annotations


class DbError(Exception):
    """The Postgres side cannot do what was asked; the message says what, which one, and what to do.

    `sqlstate` is the server's five-character code where the server spoke, else None.
    """

    sqlstate: str | None = None

    def __init__(self, message: str, *, sqlstate: str | None = None) -> None:
        super().__init__(message)
        if sqlstate is not None:
            self.sqlstate = sqlstate


class InvalidSetting(DbError):
    """A setting of the pool or the connection string cannot be used."""


class InvalidInput(DbError):
    """A value cannot be stored or looked up; nothing was sent. `field` names it."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field = field


class InvalidCursor(InvalidInput):
    """A page's cursor was not made by this listing."""


class Unavailable(DbError):
    """Postgres could not be asked, and nothing was done: no connection, or no place in the queue for one."""


class DeadlineExceeded(DbError):
    """The call's deadline passed before the answer came; nothing was changed."""


class ConnectionLost(DbError):
    """The connection broke while reading, twice, or within a transaction; nothing was changed."""


class OutcomeUnknown(DbError):
    """A write was sent and its answer did not come: it may have been done. Read before writing again."""


class QueryFailed(DbError):
    """Postgres refused a statement; `query` is its name, `sqlstate` the reason."""

    def __init__(self, query: str, reason: str, *, sqlstate: str | None = None) -> None:
        super().__init__(f"query {query}: {reason}", sqlstate=sqlstate)
        self.query = query


class ConstraintViolated(QueryFailed):
    """A row would break a constraint; `constraint` is its name, None where it has none (`reason` tells)."""

    def __init__(
        self, query: str, constraint: str | None, reason: str = "", *, sqlstate: str | None = None
    ) -> None:
        super().__init__(
            query, f"would break constraint {constraint}" if constraint else reason, sqlstate=sqlstate
        )
        self.constraint = constraint


class NotFound(DbError):
    """There is no such record; `entity` and `key` say which was asked for."""

    def __init__(self, entity: str, key: object) -> None:
        super().__init__(f"no {entity} with {key}")
        self.entity = entity
        self.key = key


class VersionConflict(DbError):
    """A record was changed since it was read; read it again and decide anew."""

    def __init__(self, entity: str, record_id: int, expected_version: int) -> None:
        super().__init__(
            f"{entity} {record_id} is no longer at row version {expected_version}; read it again"
        )
        self.entity = entity
        self.record_id = record_id
        self.expected_version = expected_version


class TransactionAborted(DbError):
    """A transaction was rolled back at its end, for a statement in it had failed; nothing was changed."""

    def __init__(self) -> None:
        super().__init__(
            "a statement of this transaction had failed, so it was rolled back as a whole;"
            " let the error leave the block, or put the statement into a transaction() of its own inside"
        )


class TransactionOver(DbError):
    """A task or a callback used a transaction that had ended; nothing was sent."""

    def __init__(self) -> None:
        super().__init__("the transaction that this was started in is over; await what it starts, inside it")


class TransactionBusy(DbError):
    """A task used a transaction while another was in a nested block of it; nothing was sent.

    It would have been rolled back with that block, or that block with it.
    """

    def __init__(self) -> None:
        super().__init__(
            "another task is in a nested transaction() of this one (a write under an idempotency key is one too);"
            " await that first"
        )


class TokenUnreadable(DbError):
    """A token's ciphertext does not open; `place` says which, and the reason why. No part of it is shown."""

    def __init__(self, place: str, reason: str) -> None:
        super().__init__(f"{place} does not open: {reason}")
        self.place = place


class UnknownTokenKey(TokenUnreadable):
    """A token was encrypted with a key that is not among those given; `key_id` names it."""

    def __init__(self, place: str, key_id: str) -> None:
        super().__init__(place, f"key {key_id!r} is not among those given")
        self.key_id = key_id


class IdempotencyKeyReused(DbError):
    """A key that stands for one write was given to another; nothing was written."""

    def __init__(self, key: str, purpose: str, done: str | None) -> None:
        super().__init__(f"idempotency key {key!r} stands for {done!r}, not for {purpose!r}; take a new key")
        self.key = key
