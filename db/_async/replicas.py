"""Reads from replicas that have replayed what the reader must see."""

from __future__ import annotations

from asyncio import sleep
from collections.abc import Awaitable, Callable, Mapping
from time import monotonic
from typing import Any, TypeVar

import psycopg
from psycopg import errors as sql_errors
from psycopg.rows import BaseRowFactory, class_row

from db._async.connection import AsyncBoundedConnection
from db._async.driver_pool import Lease
from db._async.lending import AsyncLender
from db.deadline import Deadline
from db.errors import DbError, Unavailable
from db.metrics import REPLICA_READS
from db.named_query import NamedQuery, queries
from db.positions import KnownPositions
from db.reading import Reading
from db.rows import Position, ReplayPosition
from db.settings import DatabaseSettings
from db.translation import DeadlinePassed

_T = TypeVar("_T")
Ask = Callable[[Deadline], Awaitable[Position]]
_GUARD = queries("replicas")["read_replay_position"]
_REPLAYED = class_row(ReplayPosition)
# How long a read waits until a replica has replayed a position, and how often it looks.
_REPLAY_SECONDS = 0.005
_POLL_SECONDS = 0.001
# How long a server may take to report its position.
_GUARD_SECONDS = 1.0
# A replica that has answered within this time is considered alive.
_TRUST_SECONDS = 1.0
# The class of states for a query that needs more than its limits allow: temporary files, memory.
_EXHAUSTED = "53"


class _NotHereError(Exception):
    """The replica cannot answer the read. `outcome` is the label of the metric."""

    def __init__(self, outcome: str) -> None:
        super().__init__(outcome)
        self.outcome = outcome


class AsyncReplicas(AsyncLender):
    """A pool of connections to replicas. Its reads never wait for a replica that is gone or far behind."""

    def __init__(self, settings: DatabaseSettings, *, name: str) -> None:
        super().__init__(settings, name=name)
        self.positions = KnownPositions()

    async def read(
        self,
        query: NamedQuery,
        parameters: Mapping[str, Any],
        row_factory: BaseRowFactory[_T],
        deadline: Deadline,
        reading: Reading,
        ask: Ask,
    ) -> list[_T] | None:
        """Return all rows of the query's result, or None if the primary has to answer.

        `ask` asks the primary for its position.
        """
        try:
            position = await self._required(reading, deadline, ask)
            rows = await self._read(query, parameters, row_factory, deadline, position)
        except _NotHereError as error:
            REPLICA_READS.labels(error.outcome).inc()
            return None
        REPLICA_READS.labels("replica").inc()
        return rows

    async def _required(self, reading: Reading, deadline: Deadline, ask: Ask) -> Position:
        """Return the position that the replica must have replayed."""
        if self.positions.is_unknown():
            raise _NotHereError("unknown_write")
        position = self.positions.required(reading.max_staleness)
        if position is None:
            try:
                position = await ask(deadline.within(_GUARD_SECONDS))
            except DbError:
                raise _NotHereError("no_position") from None
        return max(position, reading.after)

    async def _read(
        self,
        query: NamedQuery,
        parameters: Mapping[str, Any],
        row_factory: BaseRowFactory[_T],
        deadline: Deadline,
        position: Position,
    ) -> list[_T]:
        if self._is_forked:
            await self._start()
        if self._hosts.moves:
            await self._replace_outdated()
        if not self._pool.is_connected():
            raise _NotHereError("no_replica")
        lease: Lease = []
        # The connection is given back twice, because a signal handler may raise inside the first `finally`.
        try:
            try:
                connection = await self._take(lease, deadline.within(deadline.left() / 2))
                await self._await_replay(connection, position, deadline)
                connection.deadline = deadline
                rows = await connection.fetch(query, parameters, row_factory)
                connection.replayed_at = monotonic()
                return rows
            except Unavailable:
                raise _NotHereError("no_replica") from None
            except psycopg.Error as error:
                self._judge(error, deadline)
                raise _NotHereError("failed") from None
            finally:
                await self._give_back(lease)
        finally:
            await self._give_back(lease)

    async def _await_replay(
        self, connection: AsyncBoundedConnection, position: Position, deadline: Deadline
    ) -> None:
        """Wait until the replica has replayed `position`, for a few milliseconds.

        A replica that is known to have replayed it is not asked. Others are asked in a statement of its own, because
        the statement of the read would see a state from before the answer.
        """
        is_recent = monotonic() - connection.replayed_at < _TRUST_SECONDS
        if is_recent and _reaches(connection.replayed, position):
            return
        if is_recent and connection.replayed.timeline not in (0, position.timeline):
            raise _NotHereError("other_timeline")
        connection.deadline = deadline.within(_GUARD_SECONDS)
        ends_at = monotonic() + _REPLAY_SECONDS
        while True:
            (replayed,) = await connection.fetch(_GUARD, {}, _REPLAYED)
            if replayed.timeline is None or replayed.lsn is None:
                # It was promoted. The next connection leads to a replica.
                connection.pgconn.finish()
                raise _NotHereError("no_replica")
            connection.replayed = Position(replayed.timeline, replayed.lsn)
            connection.replayed_at = monotonic()
            if position.timeline not in (0, replayed.timeline):
                if replayed.timeline > position.timeline:
                    self.positions.forget()
                raise _NotHereError("other_timeline")
            if _reaches(connection.replayed, position):
                return
            if connection.replayed_at > ends_at:
                raise _NotHereError("lagging")
            await sleep(_POLL_SECONDS)

    def _judge(self, error: psycopg.Error, deadline: Deadline) -> None:
        """Raise an error after which the primary must not execute the query, and note what others mean."""
        if isinstance(error, sql_errors.QueryCanceled) or (error.sqlstate or "").startswith(_EXHAUSTED):
            raise error
        if isinstance(error, DeadlinePassed):
            if deadline.left() <= 0:
                raise error
            # The replica does not answer, and other connections may lead to it too.
            self._hosts.moves.append(None)


def _reaches(replayed: Position, position: Position) -> bool:
    return position.timeline in (0, replayed.timeline) and replayed.lsn >= position.lsn
