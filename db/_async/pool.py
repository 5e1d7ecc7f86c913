"""A pool of Postgres connections with a deadline per call, typed errors and one retry of reads."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, TypeVar
from warnings import warn
from weakref import ref

import psycopg
import psycopg_pool
from psycopg import errors as sql_errors
from psycopg.pq import TransactionStatus
from psycopg.rows import BaseRowFactory, class_row

from cache.forking import register
from cache.synchronization import AsyncCancellation, AsyncCompletion, AsyncRepeating, async_uninterrupted
from db._async.connection import AsyncBoundedConnection
from db._async.driver_pool import AsyncDriverPool
from db._async.transaction import AsyncTransaction, Effect, Lease, current_block, current_transaction
from db.connection_limit import READ_CONNECTION_LIMIT, connection_problem
from db.deadline import Deadline, chosen_deadline, nearer, next_deadline
from db.errors import DbError, InvalidSetting, Unavailable
from db.isolation import DEFAULT, Isolation
from db.login import LoginAttempts, unavailable
from db.metrics import POOLS, WeaklyMeasured
from db.named_query import NamedQuery
from db.pool_release import async_release_pool
from db.query_call import QueryCall
from db.rows import ConnectionLimit
from db.settings import DatabaseSettings
from db.translation import is_lost_connection, translate_pool_error

_T = TypeVar("_T")
_logger = logging.getLogger("groundwork.db.pool")
# psycopg_pool's backoff doubles for up to five minutes. With a short limit the probe sets the pace.
_RECONNECT_SECONDS = 2.0
_PROBE_SECONDS = 1.0


class AsyncPool:
    """A pool of connections to one Postgres database. Open it before use; it connects in the background.

    Each call has a deadline (`DatabaseSettings.deadline_seconds`) that covers waiting for a connection, the statement
    and its retry. A read is sent once more if its connection was lost; a write never is. All methods raise subclasses
    of `db.errors.DbError`.
    """

    def __init__(self, settings: DatabaseSettings, *, name: str = "groundwork") -> None:
        self.settings = settings
        self.name = name
        self._pool = self._make_pool()
        self._probing = AsyncRepeating(f"{name}-probe", _PROBE_SECONDS, self._probe)
        self._source_text: str | None = None
        # Both are set when the first connection is made.
        self._is_size_known = False
        self._too_large: str | None = None
        self._is_open = False
        # True in a forked child until its first call.
        self._is_forked = False
        self._measured = WeaklyMeasured(name, self.statistics)
        register(self)

    def _make_pool(self) -> AsyncDriverPool:
        settings = self.settings
        self._first_attempt = AsyncCompletion()
        self._attempts = LoginAttempts(
            settings.url.read,
            may_change=settings.url.file is not None or settings.tokens is not None,
            on_end=self._first_attempt.set,
        )
        return AsyncDriverPool(
            _connecting(settings, self._attempts),
            # One statement is one round trip: no BEGIN and COMMIT around it.
            kwargs={"autocommit": True, "attempts": self._attempts},
            configure=_configuring(ref(self)),
            min_size=settings.pool_min_size,
            max_size=settings.pool_size,
            open=False,
            name=self.name,
            timeout=settings.deadline_seconds,
            max_waiting=settings.max_waiting,
            max_lifetime=settings.max_lifetime_seconds,
            max_idle=settings.max_idle_seconds,
            reconnect_timeout=_RECONNECT_SECONDS,
        )

    async def open(self) -> None:
        """Start connecting in the background and return at once, even if the server is down.

        Raises InvalidSetting if the connection string is invalid, and Unavailable if the pool was closed before.
        """
        self.settings.conninfo()
        self._source_text = self.settings.url.read()
        self._is_open = True
        try:
            await self._start()
        except psycopg_pool.PoolClosed as error:
            self._is_open = False
            raise Unavailable(
                f"pool {self.name} was closed and cannot be opened again; create a new DataAccess"
            ) from error
        POOLS.add(self._measured)

    async def close(self) -> None:
        """Close the pool. Later calls, and those that wait for a connection, raise Unavailable."""
        self._is_open = self._is_forked = False
        POOLS.remove(self._measured)
        # Wake the callers that wait for it.
        self._first_attempt.set()
        await self._probing.stop()
        await self._pool.close(timeout=2.0)

    def after_fork(self) -> None:
        """Give up the parent's connections. The child's first call makes its own."""
        self._pool.abandon()
        self._pool = self._make_pool()
        self._is_forked = self._is_open

    async def _start(self) -> None:
        pool = self._pool
        try:
            await pool.open()
        except psycopg_pool.PoolClosed:
            if self._pool is pool:
                raise
            # Another thread was interrupted, as below.
            return await self._start()
        except BaseException:
            # psycopg_pool does not continue to open a pool that a signal handler left half open.
            self._first_attempt.set()
            self._pool = self._make_pool()
            await pool.give_up()
            raise
        await self._probing.start()
        # Last, because a signal handler may raise above. Starting twice is harmless.
        self._is_forked = False

    def __del__(self) -> None:
        # The attribute does not exist if the constructor failed.
        if getattr(self, "_is_open", False) and not self._is_forked:
            POOLS.remove(self._measured)
            self._probing.abandon()
            async_release_pool(self._pool)
            # Last, because it raises if warnings are errors.
            message = f"pool {self.name} was not closed; use the data access as a context manager"
            warn(message, ResourceWarning, stacklevel=2)

    async def drain(self) -> None:
        """Replace every connection, those in use when they are returned. Used after a rotation or a migration."""
        await self._pool.drain()

    def deadline(self) -> Deadline:
        """Return the deadline of a call that starts now: that of the settings, the transaction or the block.

        The earliest counts. Take it at the start of a call, so that work before the query counts against it.
        """
        transaction = current_transaction(self)
        if transaction is not None and transaction.deadline is not None:
            return nearer(transaction.deadline, chosen_deadline())
        return next_deadline(self.settings.deadline_seconds)

    def statistics(self) -> dict[str, int]:
        """Return psycopg_pool's statistics: pool_size, pool_available, requests_num, ..."""
        return self._pool.get_stats()

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
        deadline = deadline or self.deadline()
        transaction = current_transaction(self)
        with self.call(query, deadline, in_transaction=transaction is not None) as call:
            deadline.require(query.name)
            if transaction is None:
                return await self._retrying(query, parameters, row_factory, deadline, call)
            transaction.connection.deadline = deadline
            return await self._execute(transaction.connection, query, parameters, row_factory)

    async def copy(self, query: NamedQuery, rows: bytes) -> None:
        """Send rows in COPY's text format, in this task's transaction if there is one, otherwise in a new one."""
        deadline = self.deadline()
        transaction = current_transaction(self)
        with self.call(query, deadline, in_transaction=transaction is not None):
            deadline.require(query.name)
            if transaction is not None:
                transaction.connection.deadline = deadline
                await _copy(transaction.connection, query, rows)
            else:
                async with self.connection(deadline) as connection:
                    await _copy(connection, query, rows)

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
        async with self._leased(own) as lease:
            transaction = AsyncTransaction(self, lease, self.settings.deadline_seconds, deadline, isolation)
            async with transaction.run():
                yield
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
            await effect()
        else:
            block.effects.append((effect, invalidate))

    @asynccontextmanager
    async def connection(
        self, deadline: Deadline, *, is_retry: bool = False
    ) -> AsyncIterator[AsyncBoundedConnection]:
        """Take a connection in autocommit mode and return it at the end of the block.

        Every operation on it ends by `deadline`.
        """
        async with self._leased(deadline, is_retry) as lease:
            yield lease[0]

    @asynccontextmanager
    async def _leased(self, deadline: Deadline, is_retry: bool = False) -> AsyncIterator[Lease]:
        """Take a connection into a lease, which is empty after the block."""
        lease: Lease = []
        # Given back twice, because a signal handler may raise inside the first `finally`.
        try:
            try:
                await self._take(lease, deadline, is_retry)
                yield lease
            finally:
                await self._give_back(lease)
        finally:
            await self._give_back(lease)

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
                return await self._execute(await self._take(lease, deadline), query, parameters, row_factory)
            except psycopg.Error as error:
                if not (query.is_read and is_lost_connection(error)):
                    raise
            finally:
                await self._give_back(lease)
        finally:
            await self._give_back(lease)
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
            # The repair below is not possible inside a transaction, and unprepared statements do not need it.
            await cursor.execute(query.sql, parameters, prepare=False)
            return [] if query.gives is None else await cursor.fetchall()
        try:
            await cursor.execute(query.sql, parameters, prepare=True)
        except (sql_errors.FeatureNotSupported, sql_errors.InvalidSqlStatementName):
            # 0A000: a migration changed the result type of a prepared statement. 26000: the server does not know the
            # statement. Either would fail on this connection every time. Nothing was executed, so writes may be sent
            # again too.
            _logger.info("prepared statements are out of date; preparing them again")
            await connection.deallocate_all()
            await cursor.execute(query.sql, parameters, prepare=True)
        return [] if query.gives is None else await cursor.fetchall()

    async def _take(self, lease: Lease, deadline: Deadline, is_retry: bool = False) -> AsyncBoundedConnection:
        """Take a connection into `lease` and return it. The caller gives it back even if this raises."""
        if self._is_forked:
            await self._start()
        if self._pool.doubts:
            await self._pool.replace_lost()
        while True:
            if self._attempts.is_in_doubt:
                await self._require_login(deadline)
            cancellation = AsyncCancellation()
            try:
                lease.append(await self._pool.getconn(timeout=max(deadline.left(), 0.0)))
            except psycopg.Error as error:
                refusal = self._attempts.reason(deadline.seconds)
                raise translate_pool_error(error, self.name, deadline.seconds, refusal) from error
            except BaseException as error:
                self._pool.doubt(error)
                raise
            connection = lease[0]
            cancellation.heed()
            if self._too_large is not None:
                raise InvalidSetting(self._too_large)
            # After one lost connection, others may be dead too: check them with a round trip.
            if (not is_retry and connection.is_quiet()) or await connection.answers(deadline):
                connection.deadline = deadline
                return connection
            # The pool notices that it is closed and opens another.
            await self._give_back(lease)

    async def _require_login(self, deadline: Deadline) -> None:
        """Wait for the end of the first attempt to connect, and raise Unavailable if waiting longer does not help."""
        if self._pool.closed:
            return
        await self._first_attempt.wait(max(deadline.left(), 0.0))
        refusal = self._attempts.hopeless()
        if refusal is not None and not self._pool.is_connected():
            raise unavailable(self.name, refusal)

    async def _give_back(self, lease: Lease) -> None:
        """Return the connection in `lease` to the pool. Idempotent."""
        if lease:
            try:
                await async_uninterrupted(self._put, lease)
            except BaseException as error:
                self._pool.doubt(error)
                raise

    async def _put(self, lease: Lease) -> None:
        for connection in lease:
            connection.deadline = None
        if lease and lease[0].is_inherited:
            lease.clear()
        if lease:
            connection = lease.pop()
            await self._pool.putconn(connection)
            if connection.closed:
                self._pool.forget(connection)

    async def _configure(self, connection: AsyncBoundedConnection) -> None:
        """Register a new connection. On the first one, check the pool's size against the role's connection limit.

        A limit that is lowered later does not fail a working pool; the server refuses the excess connections.
        """
        self._pool.know(connection)
        if self._is_size_known:
            return
        try:
            cursor = connection.cursor(row_factory=class_row(ConnectionLimit))
            await cursor.execute(READ_CONNECTION_LIMIT.sql)
            limit = await cursor.fetchone()
        except psycopg.Error as error:
            self._attempts.failed(error)
            raise
        self._too_large = None if limit is None else connection_problem(limit, self.settings.connections)
        self._is_size_known = True

    async def _probe(self) -> None:
        if self._is_rotated():
            _logger.info("the connection string has changed; replacing all connections")
            await self._pool.drain()
        await self._pool.replace_lost()
        # While the server is down, the pool drops its connections and reconnects only when a caller needs one.
        if self._pool.get_stats()["pool_size"] < max(self.settings.pool_min_size, 1):
            await self._pool.check()

    def _is_rotated(self) -> bool:
        """Return whether the connection string has changed since the last call."""
        try:
            text = self.settings.url.read()
        except InvalidSetting:
            # Open connections keep working, and opening a new one reports the error.
            return False
        if text == self._source_text:
            return False
        self._source_text = text
        return True


def _connecting(settings: DatabaseSettings, attempts: LoginAttempts) -> Callable[[], str]:
    """Return the function that gives psycopg_pool the connection string. It does not keep the pool alive."""

    def conninfo() -> str:
        try:
            attempts.start()
            return settings.conninfo()
        except DbError as error:
            attempts.failed(error)
            raise

    return conninfo


def _configuring(owner: ref[AsyncPool]) -> Callable[[AsyncBoundedConnection], Awaitable[None]]:
    """Return the function that psycopg_pool calls for a new connection. It does not keep the pool alive."""

    async def configure(connection: AsyncBoundedConnection) -> None:
        pool = owner()
        if pool is not None:
            await pool._configure(connection)

    return configure


async def _copy(connection: AsyncBoundedConnection, query: NamedQuery, rows: bytes) -> None:
    async with connection.cursor() as cursor, cursor.copy(query.sql) as copy:
        await copy.write(rows)
