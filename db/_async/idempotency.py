"""Idempotent writes: a write whose answer was lost is sent again, and takes effect once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from psycopg.rows import class_row, scalar_row

from db._async.pool import AsyncPool
from db.deadline import Deadline
from db.errors import (
    ConnectionLost,
    ConstraintViolated,
    DeadlineExceeded,
    IdempotencyKeyReused,
    OutcomeUnknown,
    QueryFailed,
    Unavailable,
)
from db.named_query import queries
from db.record_kind import Record
from db.rows import DoneWrite
from db.validation import idempotency_key

T = TypeVar("T", bound=Record)
_QUERIES = queries("idempotency")


async def write_once(
    pool: AsyncPool,
    key: str | None,
    purpose: str,
    write: Callable[[], Awaitable[T]],
    again: Callable[[int], Awaitable[T]],
) -> T:
    """Run `write` under `key` in a transaction, and once more if the connection was lost, within one deadline.

    Without a key, `write` runs as it is. If an earlier attempt or an earlier call has done the write, `again` is called
    with the record's id and returns the current record.

    Raises IdempotencyKeyReused if the key was used with another `purpose`. Raises OutcomeUnknown if the second attempt
    could not find out whether the first one was committed.
    """
    if key is None:
        return await write()
    idempotency_key(key)
    if pool.in_transaction():
        # Only the owner of the transaction can repeat it as a whole.
        return await _attempt(pool, key, purpose, write, again)
    deadline = pool.deadline()
    unknown: OutcomeUnknown | None = None
    try:
        return await _attempt(pool, key, purpose, write, again, deadline)
    except ConnectionLost:
        pass
    except OutcomeUnknown as error:
        if deadline.left() <= 0:
            raise
        unknown = error
    try:
        return await _attempt(pool, key, purpose, write, again, deadline)
    except ConstraintViolated:
        # The second attempt has claimed the key, so the first one was not committed.
        raise
    except (Unavailable, DeadlineExceeded, ConnectionLost, QueryFailed) as error:
        # These errors mean that nothing was changed, which is true only of the second attempt.
        if unknown is None:
            raise
        raise unknown from error


async def _attempt(
    pool: AsyncPool,
    key: str,
    purpose: str,
    write: Callable[[], Awaitable[T]],
    again: Callable[[int], Awaitable[T]],
    deadline: Deadline | None = None,
) -> T:
    async with pool.transaction(deadline):
        parameters = {"key": key, "purpose": purpose}
        if await pool.fetch_one(_QUERIES["claim_key"], parameters, scalar_row) is not None:
            record = await write()
            await pool.fetch_one(_QUERIES["settle_key"], {"key": key, "record_id": record.id}, scalar_row)
            return record
        done = await pool.fetch_one(_QUERIES["find_key"], {"key": key}, class_row(DoneWrite))
        if done is None or done.purpose != purpose or done.record_id is None:
            raise IdempotencyKeyReused(key, purpose, None if done is None else done.purpose)
        return await again(done.record_id)
