"""Lend the connections of a pool: open and close it, take a connection and give it back."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from time import monotonic
from traceback import clear_frames
from warnings import warn
from weakref import ref

import psycopg
import psycopg_pool
from psycopg.rows import class_row

from cache.forking import register
from cache.synchronization import AsyncCancellation, AsyncCompletion, AsyncRepeating, async_uninterrupted
from db._async.connection import AsyncBoundedConnection
from db._async.driver_pool import AsyncDriverPool, Lease
from db.connection_limit import READ_CONNECTION_LIMIT, connection_problem
from db.deadline import Deadline
from db.errors import DbError, InvalidSetting, Unavailable
from db.hosts import Hosts
from db.login import LoginAttempts, unavailable
from db.metrics import POOLS, WeaklyMeasured
from db.pool_release import async_release_pool
from db.rows import ConnectionLimit
from db.settings import DatabaseSettings, ReplicaSettings
from db.translation import translate_pool_error

_logger = logging.getLogger("groundwork.db.pool")
# psycopg_pool's backoff doubles for up to five minutes. With a short limit the probe sets the pace.
_RECONNECT_SECONDS = 2.0
_PROBE_SECONDS = 1.0
# How long an idle connection may take to answer after a call got no answer.
_ANSWER_SECONDS = 2.0


class AsyncLender:
    """Lends the connections of one pool. `db._async.pool` runs queries on them."""

    def __init__(self, settings: DatabaseSettings, *, name: str = "groundwork") -> None:
        self.settings = settings
        self.name = name
        self._hosts = Hosts(settings.tokens, are_replicas=isinstance(settings, ReplicaSettings))
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
            self.name,
            settings.url.read,
            may_change=settings.url.file is not None or settings.tokens is not None,
            on_end=self._first_attempt.set,
        )
        return AsyncDriverPool(
            _connecting(settings, self._attempts),
            # One statement is one round trip: no BEGIN and COMMIT around it.
            kwargs={"autocommit": True, "attempts": self._attempts, "hosts": self._hosts},
            hosts=self._hosts,
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
        """Close the pool, even if the task is cancelled. Later calls, and those that wait, raise Unavailable."""
        self._is_forked = False
        POOLS.remove(self._measured)
        # Wake the callers that wait for the first attempt to connect.
        self._first_attempt.set()
        await async_uninterrupted(self._close)

    async def _close(self) -> None:
        try:
            await self._probing.stop()
        finally:
            try:
                await self._pool.close(timeout=2.0)
            except BaseException as error:
                # The event loop ends. The connections in the frames of psycopg_pool are closed when they are deleted.
                clear_frames(error.__traceback__)
                raise
            finally:
                self._is_open = not self._pool.closed

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

    async def _replace_outdated(self) -> None:
        """Replace the connections, because one of them or a new one has shown that they are outdated."""
        _logger.info("the server has changed, stops or does not answer; replacing all connections")
        await self._pool.drain()

    async def _check_one(self) -> None:
        """Check an idle connection after a call got no answer, so that callers do not fail on each dead connection.

        Checks the connection that was not used for the longest time, because the others may be newer than the fault.
        """
        self._hosts.is_silent = False
        lease: Lease = []
        try:
            self._pool.take_oldest(lease)
            if lease and not await lease[0].answers(Deadline(_ANSWER_SECONDS)):
                self._hosts.moves.append(None)
        finally:
            await self._give_back(lease)

    def statistics(self) -> dict[str, int]:
        """Return psycopg_pool's statistics: pool_size, pool_available, requests_num, ..."""
        return self._pool.get_stats()

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
        # The connection is given back twice, because a signal handler may raise inside the first `finally`.
        try:
            try:
                await self._take(lease, deadline, is_retry)
                yield lease
            finally:
                await self._give_back(lease)
        finally:
            await self._give_back(lease)

    async def _take(self, lease: Lease, deadline: Deadline, is_retry: bool = False) -> AsyncBoundedConnection:
        """Take a connection into `lease` and return it. The caller gives it back even if this raises."""
        if self._is_forked:
            await self._start()
        if self._pool.doubts:
            await self._pool.replace_lost()
        while True:
            if self._hosts.moves:
                await self._replace_outdated()
            if self._attempts.is_in_doubt:
                await self._require_login(deadline)
            try:
                if deadline.ends_at > monotonic():
                    self._pool.take_idle(lease)
            except BaseException as error:
                self._pool.doubt(error)
                raise
            if not lease:
                await self._wait(lease, deadline)
            connection = lease[0]
            if self._too_large is not None:
                raise InvalidSetting(self._too_large)
            # After one lost connection, others may be dead too: check them with a round trip.
            if (not is_retry and connection.is_quiet()) or await connection.answers(deadline):
                connection.deadline = deadline
                return connection
            # The pool notices that the connection is closed, and opens another.
            await self._give_back(lease)

    async def _wait(self, lease: Lease, deadline: Deadline) -> None:
        """Wait for a connection, and put it into `lease`."""
        cancellation = AsyncCancellation()
        try:
            lease.append(await self._pool.getconn(timeout=max(deadline.left(), 0.0)))
        except psycopg.Error as error:
            refusal = self._attempts.reason(deadline.seconds)
            raise translate_pool_error(error, self.name, deadline.seconds, refusal) from error
        except BaseException as error:
            self._pool.doubt(error)
            raise
        cancellation.heed()

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
                if not self._pool.put_idle(lease):
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
        # Before the new connection counts as one that the pool has made.
        if self._hosts.moves:
            await self._replace_outdated()
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
        if self._hosts.is_silent:
            await self._check_one()
        if self._is_rotated():
            _logger.info("the connection string has changed; replacing all connections")
            await self._pool.drain()
        elif self._hosts.moves:
            await self._replace_outdated()
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


def _configuring(owner: ref[AsyncLender]) -> Callable[[AsyncBoundedConnection], Awaitable[None]]:
    """Return the function that psycopg_pool calls for a new connection. It does not keep the pool alive."""

    async def configure(connection: AsyncBoundedConnection) -> None:
        pool = owner()
        if pool is not None:
            await pool._configure(connection)

    return configure
