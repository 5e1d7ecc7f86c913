"""The pool of Postgres connections: one deadline a call, typed errors, one retry of reads."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import psycopg
from psycopg import errors as sql_errors
from psycopg.pq import TransactionStatus
from psycopg.rows import BaseRowFactory, class_row
from psycopg_pool import AsyncConnectionPool

from cache.repeating import AsyncRepeating, async_uninterrupted
from db._async.connection import AsyncBoundedConnection
from db._async.transaction import AsyncTransaction, Effect, current_block, current_transaction
from db.cancellation import AsyncCancellation
from db.connection_limit import READ_CONNECTION_LIMIT, connection_problem
from db.deadline import Deadline
from db.errors import InvalidSetting
from db.metrics import POOLS
from db.named_query import NamedQuery
from db.query_call import QueryCall
from db.rows import ConnectionLimit
from db.settings import DatabaseSettings
from db.translation import is_lost_connection, translate_pool_error

_T = TypeVar("_T")
_logger = logging.getLogger("groundwork.db.pool")
# psycopg_pool's own backoff doubles for five minutes; giving up early leaves the pace to the probe.
_RECONNECT_SECONDS = 2.0
_PROBE_SECONDS = 1.0


class AsyncPool:
    """Connections to one Postgres database. Open it before use; it connects in the background."""

    def __init__(self, settings: DatabaseSettings, *, name: str = "groundwork") -> None:
        self.settings = settings
        self.name = name
        self._pool = AsyncConnectionPool(
            settings.conninfo,
            connection_class=AsyncBoundedConnection,
            # One statement is one round trip: no BEGIN and COMMIT around it.
            kwargs={"autocommit": True},
            configure=self._check_size,
            min_size=settings.pool_min_size,
            max_size=settings.pool_size,
            open=False,
            name=name,
            timeout=settings.deadline_seconds,
            max_waiting=settings.max_waiting,
            max_lifetime=settings.max_lifetime_seconds,
            max_idle=settings.max_idle_seconds,
            reconnect_timeout=_RECONNECT_SECONDS,
        )
        self._probing = AsyncRepeating(f"{name}-probe", _PROBE_SECONDS, self._probe)
        self._source_text: str | None = None
        # The first connection tells.
        self._is_size_known = False
        self._too_large: str | None = None

    async def open(self) -> None:
        """Start connecting; returns at once, whether or not the server is there."""
        self.settings.conninfo()
        self._source_text = self.settings.url.read()
        await self._pool.open()
        await self._probing.start()
        POOLS.add(self)

    async def close(self) -> None:
        POOLS.remove(self)
        await self._probing.stop()
        await self._pool.close(timeout=2.0)

    async def drain(self) -> None:
        """Replace every connection, those in use when they come back: for a rotation or a migration."""
        await self._pool.drain()

    def deadline(self) -> Deadline:
        """The deadline of a call that begins now; what a call does before it gets here counts too.

        In a transaction that has one, it is the transaction's.
        """
        transaction = current_transaction(self)
        if transaction is not None and transaction.deadline is not None:
            return transaction.deadline
        return Deadline(self.settings.deadline_seconds)

    def statistics(self) -> dict[str, int]:
        """psycopg_pool's statistics: pool_size, pool_available, requests_num, ..."""
        return self._pool.get_stats()

    async def fetch_one(
        self,
        query: NamedQuery,
        parameters: Mapping[str, Any],
        row_factory: BaseRowFactory[_T],
        deadline: Deadline | None = None,
    ) -> _T | None:
        """The first row of a query's answer, or None."""
        rows = await self.fetch_all(query, parameters, row_factory, deadline)
        return rows[0] if rows else None

    async def fetch_all(
        self,
        query: NamedQuery,
        parameters: Mapping[str, Any],
        row_factory: BaseRowFactory[_T],
        deadline: Deadline | None = None,
    ) -> list[_T]:
        """Every row of a query's answer, by the deadline (the settings' where none is given)."""
        deadline = deadline or self.deadline()
        transaction = current_transaction(self)
        with self.call(query, deadline, in_transaction=transaction is not None) as call:
            if transaction is None:
                return await self._retrying(query, parameters, row_factory, deadline, call)
            transaction.connection.deadline = deadline
            return await self._execute(transaction.connection, query, parameters, row_factory)

    async def copy(self, query: NamedQuery, rows: bytes) -> None:
        """Send rows in COPY's text format to the server, in this task's transaction or as one of its own."""
        deadline = self.deadline()
        transaction = current_transaction(self)
        with self.call(query, deadline, in_transaction=transaction is not None):
            if transaction is not None:
                transaction.connection.deadline = deadline
                await _copy(transaction.connection, query, rows)
            else:
                async with self.connection(deadline) as connection:
                    await _copy(connection, query, rows)

    @asynccontextmanager
    async def transaction(self, deadline: Deadline | None = None) -> AsyncIterator[None]:
        """Everything this task asks of the pool inside is one transaction, committed at the end of the block.

        An error that leaves the block rolls all of it back. One inside another is a savepoint, and the transaction
        is its task's alone until it ends (TransactionBusy for others). Each statement has a deadline of its own unless
        one for all of them is given, and none is sent twice. Raises OutcomeUnknown where COMMIT got no answer, and
        TransactionAborted where a statement had failed and the block went on.
        """
        outer = current_transaction(self)
        if outer is not None:
            async with outer.savepoint():
                yield
            return
        async with self.connection(deadline or self.deadline()) as connection:
            transaction = AsyncTransaction(self, connection, self.settings.deadline_seconds, deadline)
            async with transaction.run():
                yield
        for tell, _ in transaction.block.effects:
            await tell()

    def in_transaction(self) -> bool:
        """Whether this task is inside a transaction() of this pool."""
        return current_transaction(self) is not None

    async def after_commit(self, tell: Effect, forget: Effect) -> None:
        """Do `tell` once what was written is committed: now, or at the transaction's end.

        `forget` is done instead where nobody knows whether it was committed.
        """
        block = current_block(self)
        if block is None:
            await tell()
        else:
            block.effects.append((tell, forget))

    @asynccontextmanager
    async def connection(
        self, deadline: Deadline, *, is_retry: bool = False
    ) -> AsyncIterator[AsyncBoundedConnection]:
        """A connection in autocommit, given back at the end. Everything done on it ends by the deadline."""
        connection = await self._take(deadline, is_retry)
        try:
            yield connection
        finally:
            await self._give_back(connection)

    def call(self, query: NamedQuery, deadline: Deadline, *, in_transaction: bool) -> QueryCall:
        """A context in which a query is called."""
        return QueryCall(query, deadline, self.settings.slow_query_seconds, in_transaction=in_transaction)

    async def _retrying(
        self,
        query: NamedQuery,
        parameters: Mapping[str, Any],
        row_factory: BaseRowFactory[_T],
        deadline: Deadline,
        call: QueryCall,
    ) -> list[_T]:
        # Without the context manager of `connection`, whose generator is a good part of a short query's time.
        connection = await self._take(deadline)
        try:
            return await self._execute(connection, query, parameters, row_factory)
        except psycopg.Error as error:
            if not (query.is_read and is_lost_connection(error)):
                raise
        finally:
            await self._give_back(connection)
        call.repeated()
        async with self.connection(deadline, is_retry=True) as connection:
            return await self._execute(connection, query, parameters, row_factory)

    async def _execute(
        self,
        connection: AsyncBoundedConnection,
        query: NamedQuery,
        parameters: Mapping[str, Any],
        row_factory: BaseRowFactory[_T],
    ) -> list[_T]:
        cursor = connection.cursor(row_factory=row_factory)
        if connection.pgconn.transaction_status != TransactionStatus.IDLE:
            # What is below cannot be done in the middle of a transaction; a statement of its own never needs it.
            await cursor.execute(query.sql, parameters, prepare=False)
            return await cursor.fetchall()
        try:
            await cursor.execute(query.sql, parameters, prepare=True)
        except sql_errors.FeatureNotSupported:
            # 0A000: a migration changed what a prepared statement returns, and this connection would
            # fail for as long as it lives. Nothing was executed, so writes too may be sent again.
            _logger.info("prepared statements are out of date; preparing them anew")
            await connection.execute("DEALLOCATE ALL", prepare=False)
            await cursor.execute(query.sql, parameters, prepare=True)
        return await cursor.fetchall()

    async def _take(self, deadline: Deadline, is_retry: bool = False) -> AsyncBoundedConnection:
        while True:
            cancellation = AsyncCancellation()
            try:
                connection = await self._pool.getconn(timeout=max(deadline.left(), 0.0))
            except psycopg.Error as error:
                raise translate_pool_error(error, self.name, deadline.seconds) from error
            try:
                cancellation.heed()
                if self._too_large is not None:
                    raise InvalidSetting(self._too_large)
                # Where one connection was lost the others may be about to be: a round trip tells.
                if (not is_retry and connection.is_quiet()) or await connection.answers(deadline):
                    connection.deadline = deadline
                    return connection
            except BaseException:
                await self._give_back(connection)
                raise
            # The pool sees that it is closed, and makes another.
            await self._give_back(connection)

    async def _give_back(self, connection: AsyncBoundedConnection) -> None:
        connection.deadline = None
        await async_uninterrupted(self._pool.putconn, connection)

    async def _check_size(self, connection: AsyncBoundedConnection) -> None:
        """Hold the pool's size against what its role may have, once: before the first call has a connection.

        A limit lowered later is no reason to fail the calls of a pool that works; the server refuses what is over it.
        """
        if self._is_size_known:
            return
        cursor = connection.cursor(row_factory=class_row(ConnectionLimit))
        await cursor.execute(READ_CONNECTION_LIMIT.sql)
        limit = await cursor.fetchone()
        self._too_large = None if limit is None else connection_problem(limit, self.settings.connections)
        self._is_size_known = True

    async def _probe(self) -> None:
        if self._is_rotated():
            _logger.info("the connection string has changed; every connection is replaced")
            await self._pool.drain()
        # While the server is away the pool gives its connections up and would try again only for a caller.
        if self._pool.get_stats()["pool_size"] < max(self.settings.pool_min_size, 1):
            await self._pool.check()

    def _is_rotated(self) -> bool:
        """Whether the file with the connection string holds another one than when this was last asked."""
        try:
            text = self.settings.url.read()
        except InvalidSetting:
            # What connections there are go on; a new one will say what is wrong.
            return False
        if text == self._source_text:
            return False
        self._source_text = text
        return True


async def _copy(connection: AsyncBoundedConnection, query: NamedQuery, rows: bytes) -> None:
    async with connection.cursor() as cursor, cursor.copy(query.sql) as copy:
        await copy.write(rows)
