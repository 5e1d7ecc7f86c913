"""A pool of Postgres connections with a deadline per call, typed errors and one retry of reads."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractContextManager, ExitStack, asynccontextmanager, nullcontext, suppress
from typing import Any, TypeVar

import psycopg
from psycopg.rows import BaseRowFactory, class_row

from cache.timing import update_budget
from db._async.driver_pool import Lease
from db._async.lending import AsyncLender
from db._async.replicas import AsyncReplicas
from db._async.transaction import (
    AsyncTransaction,
    Effect,
    current_block,
    current_transaction,
    innermost_block,
)
from db.deadline import Deadline, chosen_deadline, end_of_block, nearer, next_deadline
from db.errors import DbError, InvalidRow
from db.isolation import DEFAULT, Isolation
from db.named_query import NamedQuery, queries
from db.query_call import QueryCall
from db.reading import current_reading
from db.rows import Position
from db.settings import DatabaseSettings
from db.translation import is_lost_connection

_T = TypeVar("_T")
_POSITION = queries("replicas")["read_write_position"]
# Limit for asking the primary for its position in the background.
_SAMPLE_SECONDS = 2.0


class AsyncPool(AsyncLender):
    """A pool of connections to one Postgres database. Open it before use; it connects in the background.

    Each call has a deadline (`DatabaseSettings.deadline_seconds`) that covers waiting for a connection, the statement
    and its retry. A read is sent once more if its connection was lost; a write never is. All methods raise subclasses
    of `db.errors.DbError`.

    `replicas` are the connections to replicas, or None without `DatabaseSettings.read_url`.
    """

    def __init__(self, settings: DatabaseSettings, *, name: str = "groundwork") -> None:
        super().__init__(settings, name=name)
        of_replicas = settings.of_replicas()
        self.replicas = None if of_replicas is None else AsyncReplicas(of_replicas, name=f"{name}-replicas")

    async def open(self) -> None:
        if self.replicas is not None:
            # Raises InvalidSetting before anything is opened.
            self.replicas.settings.conninfo()
        await super().open()
        if self.replicas is not None:
            await self.replicas.open()

    async def close(self) -> None:
        try:
            if self.replicas is not None:
                await self.replicas.close()
        finally:
            await super().close()

    def deadline(self) -> Deadline:
        """Return the deadline of a call that starts now: that of the settings, the transaction or the block.

        The earliest counts. Take it at the start of a call, so that work before the query counts against it.
        """
        transaction = current_transaction(self)
        if transaction is not None and transaction.deadline is not None:
            return nearer(transaction.deadline, chosen_deadline())
        return next_deadline(self.settings.deadline_seconds)

    async def fetch_one(
        self,
        query: NamedQuery,
        parameters: Mapping[str, Any],
        row_factory: BaseRowFactory[_T],
        deadline: Deadline | None = None,
    ) -> _T | None:
        """Return the first row of the query's result, or None."""
        rows = await self.fetch_all(query, parameters, row_factory, deadline)
        return rows[0] if rows else None

    async def fetch_all(
        self,
        query: NamedQuery,
        parameters: Mapping[str, Any],
        row_factory: BaseRowFactory[_T],
        deadline: Deadline | None = None,
    ) -> list[_T]:
        """Return all rows of the query's result.

        Without `deadline`, the settings' deadline applies.
        """
        if innermost_block() is not None and (transaction := current_transaction(self)) is not None:
            deadline = deadline or self.deadline()
            with self.call(query, deadline, in_transaction=True):
                deadline.require(query.name)
                connection = await transaction.begin_call(query.name, deadline)
                try:
                    rows = await connection.fetch(query, parameters, row_factory)
                except InvalidRow:
                    # The statement has succeeded.
                    if not query.is_read:
                        transaction.wrote()
                    raise
                except psycopg.Error:
                    raise
                except BaseException:
                    if not query.is_read:
                        transaction.doubt()
                    raise
                finally:
                    transaction.end_call()
                if not query.is_read:
                    transaction.wrote()
                return rows
        # Here each call of a function is a measurable part of a short query's time.
        settings = self.settings
        if deadline is None:
            deadline = next_deadline(settings.deadline_seconds)
        if self.replicas is not None and not query.is_read:
            with self._writing(self.replicas), self.call(query, deadline, in_transaction=False) as call:
                deadline.require(query.name)
                return await self._retrying(query, parameters, row_factory, deadline, call)
        with QueryCall(query, deadline, settings.slow_query_seconds, in_transaction=False) as call:
            deadline.require(query.name)
            return await self._retrying(query, parameters, row_factory, deadline, call)

    async def read_one(
        self, query: NamedQuery, parameters: Mapping[str, Any], row_factory: BaseRowFactory[_T]
    ) -> _T | None:
        """Return the first row of `read_all`, or None."""
        rows = await self.read_all(query, parameters, row_factory)
        return rows[0] if rows else None

    async def read_all(
        self, query: NamedQuery, parameters: Mapping[str, Any], row_factory: BaseRowFactory[_T]
    ) -> list[_T]:
        """Return all rows of the query's result, from a replica if the caller is in a `reading()` block.

        Do not use it for rows that fill the cache. In a transaction, and if no replica can answer, it is `fetch_all`.
        """
        replicas = self.replicas
        if replicas is None or (reading := current_reading()) is None or not query.is_read:
            return await self.fetch_all(query, parameters, row_factory)
        if self.in_transaction():
            return await self.fetch_all(query, parameters, row_factory)
        deadline = self.deadline()
        with self.call(query, deadline, in_transaction=False) as call:
            deadline.require(query.name)
            rows = await replicas.read(query, parameters, row_factory, deadline, reading, self.position)
            if rows is None:
                rows = await self._retrying(query, parameters, row_factory, deadline, call)
            return rows

    async def position(self, deadline: Deadline) -> Position:
        """Return the primary's position, which is after all writes that this process has completed."""
        before = None if self.replicas is None else self.replicas.positions.before_asking()
        position = await self.fetch_one(_POSITION, {}, class_row(Position), deadline)
        assert position is not None, "the query returns one row"
        if self.replicas is not None and before is not None:
            self.replicas.positions.learned(before, position)
        return position

    def _writing(self, replicas: AsyncReplicas) -> AbstractContextManager[None]:
        """Return the context manager around a write. Replicas answer no read that might miss it."""
        return replicas.positions.writing(self.settings.deadline_seconds)

    async def _probe(self) -> None:
        await super()._probe()
        # In the background, so that a read finds a position that replicas have had time to reach.
        if self.replicas is not None and self.replicas.positions.needs_sample():
            with suppress(DbError):
                await self.position(Deadline(_SAMPLE_SECONDS))

    @asynccontextmanager
    async def copying(self, query: NamedQuery, rows: bytes) -> AsyncIterator[None]:
        """Send rows in COPY's binary format, run the block while the server stores them, and wait for its answer.

        Use it in a transaction. The block may use the transaction too.
        """
        deadline = self.deadline()
        transaction = current_transaction(self)
        assert transaction is not None, "a load has a transaction"
        call = self.call(query, deadline, in_transaction=True)
        with call:
            deadline.require(query.name)
            connection = await transaction.begin_call(query.name, deadline)
            try:
                answer = await connection.send_copy(query.sql, rows)
            finally:
                transaction.end_call()
            call.halve()
        try:
            yield
        except DbError:
            # After a failed COPY, every statement of the block fails.
            if answer.error is None:
                raise
        with call:
            await transaction.begin_call(query.name, self.deadline())
            try:
                await answer.end()
            finally:
                transaction.end_call()
            transaction.wrote()

    @asynccontextmanager
    async def transaction(
        self,
        deadline: Deadline | None = None,
        isolation: Isolation = DEFAULT,
    ) -> AsyncIterator[None]:
        """Run every call of this task inside the block in one transaction, committed at the end of the block.

        An exception that leaves the block rolls the transaction back. A nested `transaction()` is a savepoint; until it
        ends, other tasks that use the transaction get TransactionBusy. Each statement has its own deadline, unless
        `deadline` is given for all of them. No statement is retried.

        Raises OutcomeUnknown if COMMIT got no answer, and TransactionAborted if a statement failed and the block
        caught the error and continued.
        """
        outer = current_transaction(self)
        if outer is not None:
            outer.isolation.require(isolation)
            async with outer.savepoint():
                yield
            return
        own = deadline or self.deadline()
        own.require("begin_transaction")
        replicas = None if isolation.read_only else self.replicas
        with ExitStack() as updating:
            with nullcontext() if replicas is None else self._writing(replicas):
                async with self._leased(own) as lease:
                    transaction = AsyncTransaction(
                        self, lease, self.settings.deadline_seconds, deadline, isolation
                    )
                    async with transaction.run():
                        yield
                        # Not earlier, because tasks that are started in the block must not get this budget.
                        ends_at = end_of_block() if deadline is None else deadline.ends_at
                        updating.enter_context(update_budget(ends_at))
            for effect, _ in transaction.block.effects:
                await effect()

    def in_transaction(self) -> bool:
        """Return whether this task is inside a transaction() of this pool."""
        return current_transaction(self) is not None

    async def after_commit(self, effect: Effect, invalidate: Effect) -> None:
        """Run `effect` after COMMIT: at once outside a transaction, otherwise when the transaction ends.

        If the outcome of COMMIT is unknown, `invalidate` runs instead.
        """
        block = current_block(self)
        if block is None:
            with update_budget(end_of_block()):
                await effect()
        else:
            block.effects.append((effect, invalidate))

    def call(self, query: NamedQuery, deadline: Deadline, *, in_transaction: bool) -> QueryCall:
        """Return the context manager to run `query` in."""
        return QueryCall(query, deadline, self.settings.slow_query_seconds, in_transaction=in_transaction)

    async def _retrying(
        self,
        query: NamedQuery,
        parameters: Mapping[str, Any],
        row_factory: BaseRowFactory[_T],
        deadline: Deadline,
        call: QueryCall,
    ) -> list[_T]:
        # Not `connection()`: its generator takes a large part of a short query's time.
        lease: Lease = []
        try:
            try:
                return await (await self._take(lease, deadline)).fetch(query, parameters, row_factory)
            except psycopg.Error as error:
                if not (query.is_read and is_lost_connection(error)):
                    raise
            finally:
                await self._give_back(lease)
        finally:
            if lease:
                await self._give_back(lease)
        call.repeated()
        async with self.connection(deadline, is_retry=True) as connection:
            return await connection.fetch(query, parameters, row_factory)
