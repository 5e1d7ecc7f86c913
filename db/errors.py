"""The errors that the data access raises. All are subclasses of DbError.

psycopg's exceptions never leave this package: each is translated to one of these classes. The new error keeps the
SQLSTATE, and has the original exception as `__cause__`, which is lost by pickling. No message contains a secret or a
whole connection string.
"""

from __future__ import annotations

from infra.spec.errors import PortableError


class DbError(PortableError):
    """The base class of the data access's errors.

    `sqlstate` is the server's five-character error code, or None if the error did not come from the server.
    """

    sqlstate: str | None = None

    def __init__(self, message: str, *, sqlstate: str | None = None) -> None:
        # `args` stays as the constructor got it, because Celery restores an error from JSON as `kind(*args)`.
        self._message = message
        if sqlstate is not None:
            self.sqlstate = sqlstate

    def __str__(self) -> str:
        return self._message


class InvalidSetting(DbError):
    """A setting or the connection string is missing or invalid."""


class InvalidInput(DbError):
    """A value cannot be stored or looked up. Nothing was sent. `field` is the name of the field or argument."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field = field


class InvalidCursor(InvalidInput):
    """The cursor passed as `after` belongs to another listing, or was changed."""


class InvalidRow(DbError, TypeError):
    """A row of a result does not fit its type, or has a value that Python cannot represent, such as `infinity`.

    The statement was executed. A write was applied, unless a transaction rolls it back. `query` is the query's name.
    """

    def __init__(self, query: str, problem: str) -> None:
        super().__init__(f"query {query}: {problem}")
        self.query = query


class Unavailable(DbError):
    """No connection to Postgres was available. The message says why the last attempt to connect failed.

    `sqlstate` is the server's reason for refusing the login, such as 28P01, or None. Nothing was changed, so the call
    may be retried.
    """


class DeadlineExceeded(DbError):
    """The call's deadline passed before the answer came. Nothing was changed."""


class ConnectionLost(DbError):
    """The connection was lost during a read and its retry, or in a transaction before COMMIT. Nothing was changed."""


class OutcomeUnknown(DbError):
    """A write was sent and no answer came, so it may have been committed.

    With replicas: it was committed, but its wait for a replica was cancelled, so a failover may lose it.

    Read the record before you write again, or pass an idempotency key to make the write safe to retry.
    """


class QueryFailed(DbError):
    """Postgres rejected a statement. `query` is the name of the query; `sqlstate` is the reason."""

    def __init__(self, query: str, reason: str, *, sqlstate: str | None = None) -> None:
        super().__init__(f"query {query}: {reason}", sqlstate=sqlstate)
        self.query = query


class TransactionConflict(QueryFailed):
    """A serialization failure (`sqlstate` 40001) or a deadlock (40P01) with another transaction. Nothing was changed.

    Run the whole transaction again, from its first read.
    """

    def __init__(self, query: str, reason: str, *, sqlstate: str | None = None) -> None:
        super().__init__(query, f"{reason}; retry the transaction", sqlstate=sqlstate)


class LockTimeout(QueryFailed):
    """A statement or a COMMIT waited for a lock for longer than the role's lock_timeout (`sqlstate` 55P03).

    Nothing was changed. A COMMIT waits for a lock while others wait for a replica.
    """


class ConstraintViolated(QueryFailed):
    """A write would violate a constraint. `constraint` is its name, or None for NOT NULL, which has no name."""

    def __init__(
        self, query: str, constraint: str | None, reason: str = "", *, sqlstate: str | None = None
    ) -> None:
        super().__init__(
            query, f"would violate constraint {constraint}" if constraint else reason, sqlstate=sqlstate
        )
        self.constraint = constraint


class NotFound(DbError):
    """The record does not exist. `entity` is the kind of record, and `key` describes how it was looked up."""

    def __init__(self, entity: str, key: object) -> None:
        super().__init__(f"no {entity} with {key}")
        self.entity = entity
        self.key = key


class VersionConflict(DbError):
    """A record was changed since it was read. Read it again and repeat the change."""

    def __init__(self, entity: str, record_id: int, expected_version: int) -> None:
        super().__init__(
            f"{entity} {record_id} is no longer at row version {expected_version}; read it again and retry"
        )
        self.entity = entity
        self.record_id = record_id
        self.expected_version = expected_version


class TransactionAborted(DbError):
    """A transaction was rolled back at its end, because a statement had failed or was interrupted. Nothing was changed.

    If the block was nested in another transaction(), only the nested block was rolled back.
    """

    def __init__(self) -> None:
        super().__init__(
            "the transaction was rolled back because a statement in it had failed or was interrupted;"
            " let the error leave the block, or run the statement in a nested transaction()"
        )


class TransactionOver(DbError):
    """A task or a callback used a transaction that had ended, or was rolled back meanwhile. Nothing was changed."""

    def __init__(
        self,
        message: str = "the transaction that this task was started in has ended;"
        " await the task inside the transaction",
    ) -> None:
        super().__init__(message)


class TransactionRequired(DbError):
    """`lock` was called outside of a transaction, where the lock would end at once. Nothing was sent."""

    def __init__(self, call: str) -> None:
        super().__init__(f"{call} holds its lock until a transaction ends; call it inside data.transaction()")
        self.call = call


class TransactionBusy(DbError):
    """A task used a transaction while another task was in a nested block of it. Nothing was sent.

    A rollback of the nested block would also undo the task's statements.
    """

    def __init__(self) -> None:
        super().__init__(
            "another task is in a nested transaction() of this one (a write with an idempotency key is one too);"
            " await that task first"
        )


class TokenUnreadable(DbError):
    """A token's ciphertext cannot be decrypted. `place` names its column and row; no part of it is shown."""

    def __init__(self, place: str, reason: str) -> None:
        super().__init__(f"cannot decrypt {place}: {reason}")
        self.place = place


class UnknownTokenKey(TokenUnreadable):
    """A token was encrypted with a key that is not in GROUNDWORK_TOKEN_KEYS. `key_id` is the id of the key."""

    def __init__(self, place: str, key_id: str) -> None:
        super().__init__(place, f"key {key_id!r} is not in the keyring; add it to GROUNDWORK_TOKEN_KEYS")
        self.key_id = key_id


class IdempotencyKeyReused(DbError):
    """An idempotency key was used again for a different write. Nothing was written."""

    def __init__(self, key: str, purpose: str, done: str | None) -> None:
        super().__init__(
            f"idempotency key {key!r} was used for {done!r} and cannot be used for {purpose!r}; use a new key"
        )
        self.key = key
