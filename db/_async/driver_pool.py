"""A connection pool of psycopg_pool that replaces connections which interrupted callers have lost.

It relies on private names of psycopg_pool 3.3. Tests in tests/unit/db check these names.
"""

from __future__ import annotations

import logging
from collections import deque
from time import monotonic
from traceback import clear_frames
from typing import Any
from weakref import ref

from psycopg.pq import TransactionStatus
from psycopg_pool import AsyncConnectionPool
from psycopg_pool.pool_async import AddConnection, StopWorker

from cache.forking import abandon
from cache.synchronization import async_end_if_cancelled
from db._async.connection import AsyncBoundedConnection
from db.hosts import Hosts
from db.pool_primitives import (
    AsyncTaskQueue,
    AsyncWaitQueue,
    IdleConnections,
    async_at_once,
    detach_log_records,
)
from db.pool_release import async_heed_cancellation

_logger = logging.getLogger("groundwork.db.pool")
# The connection that a call or a transaction uses, if it has one. The list is created before the
# connection is put into it, so that an interrupted caller can return the connection. No other reference is kept.
Lease = list[AsyncBoundedConnection]
detach_log_records()


class AsyncDriverPool(AsyncConnectionPool[AsyncBoundedConnection]):
    """A pool that keeps a list of all its connections, also of those in use, and of the tasks that make new ones."""

    def __init__(self, *arguments: Any, hosts: Hosts, **options: Any) -> None:
        super().__init__(*arguments, connection_class=AsyncBoundedConnection, **options)
        self.hosts = hosts
        # Not empty if the pool may count a connection that does not exist, because a caller was interrupted. An open
        # connection also adds an entry when it is garbage-collected.
        self.doubts: deque[None] = deque()
        self._pool: Any = IdleConnections()
        self._waiting: Any = AsyncWaitQueue()
        self._existing: set[ref[AsyncBoundedConnection]] = set()
        # The tasks that make a connection: queued, running, or scheduled for another attempt.
        self._adding: set[ref[AddConnection]] = set()

    def know(self, connection: AsyncBoundedConnection) -> None:
        """Register a new connection. Called before it is first used."""
        connection.doubts, connection.hosts = self.doubts, self.hosts
        self._existing.add(ref(connection, self._existing.discard))

    def forget(self, connection: AsyncBoundedConnection) -> None:
        """Unregister a closed connection that the pool has replaced. An error may still refer to it."""
        self._existing.discard(ref(connection))

    def take_idle(self, lease: Lease) -> None:
        """Put an idle connection into `lease` if there is one. Takes a third of the time of `getconn`."""
        async_at_once(self._lock, self._take_idle, lease)

    def take_oldest(self, lease: Lease) -> None:
        """Put the connection into `lease` that was not used for the longest time, if one is idle."""
        async_at_once(self._lock, self._take_oldest, lease)

    def _take_oldest(self, lease: Lease) -> None:
        self._pool.rotate(1)
        self._take_idle(lease)

    def _take_idle(self, lease: Lease) -> None:
        if self._pool:
            connection = self._pool.popleft()
            self._nconns_min = min(self._nconns_min, len(self._pool))
            self._stats[self._REQUESTS_NUM] += 1
            connection._pool = self
            lease.append(connection)

    def put_idle(self, lease: Lease) -> bool:
        """Return the connection in `lease`, and True, if it can be used again and no caller waits for one.

        Otherwise `putconn` has more to do. Takes a third of its time.
        """
        connection = lease[0]
        if (
            connection.is_inherited
            or connection.pgconn.transaction_status != TransactionStatus.IDLE
            or connection._created_at <= self._drained_at
            or connection._expire_at <= monotonic()
        ):
            return False
        return async_at_once(self._lock, self._put_idle, lease) is True

    def _put_idle(self, lease: Lease) -> bool:
        if self._closed or self._waiting:
            return False
        connection = lease.pop()
        connection.deadline = connection._pool = None
        self._pool.append(connection)
        return True

    async def drain(self) -> None:
        """Replace every connection, those in use when they are returned."""
        self.hosts.drained()
        await super().drain()

    def is_connected(self) -> bool:
        """Return whether the pool has an open connection, in use or not."""
        connections = [reference() for reference in [*self._existing]]
        return any(connection is not None and not connection.closed for connection in connections)

    def doubt(self, error: BaseException) -> None:
        """Record that `error` interrupted a caller inside the pool, and free the connection in its frames."""
        clear_frames(error.__traceback__)
        self.doubts.append(None)

    async def replace_lost(self) -> None:
        """Open a new connection for each one that the pool counts but that does not exist.

        An interrupted caller loses a connection that it had taken out of the pool. It may also have counted a new one
        without queueing the task that connects.
        """
        if not self.closed:
            self.doubts.clear()
            try:
                # In one line, for the reason given in cache.forking.Exclusion.
                async with self._lock: self._replace_lost()  # fmt: skip # noqa: E701
            except BaseException as error:
                self.doubt(error)
                raise

    def _replace_lost(self) -> None:
        # In this order: no task ends while the lock is held, and a connection exists until its successor is queued.
        existing = len(self._existing)
        adding = [task for reference in [*self._adding] if (task := reference()) is not None]
        for _ in range(self._nconns - existing - len(adding)):
            _logger.warning("a connection was lost by an interrupted call; replacing it")
            self.run_task(AddConnection(self))
        if self._growing and not any(task.growing for task in adding):
            self._growing = False
        # The pool may have failed to grow since these callers began to wait.
        if self._waiting:
            self._maybe_grow_pool()

    def run_task(self, task: Any) -> None:
        """Register a task that makes a connection, and queue it."""
        if isinstance(task, AddConnection):
            self._adding.add(ref(task, self._adding.discard))
        super().run_task(task)

    async def give_up(self) -> None:
        """End a pool whose `open` was interrupted, and what it has started."""
        self._closed = True
        if hasattr(self, "_sched"):
            await self._sched.enter(0, None)
            for _ in range(self.num_workers):
                self.run_task(StopWorker(self))

    def abandon(self) -> None:
        """In a forked child, stop using the connections, which belong to the parent."""
        # The pool's finalizer would otherwise wait for threads or locks of the parent.
        self._closed = True
        abandon(self)
        for reference in [*self._existing]:
            connection = reference()
            if connection is not None:
                connection.is_inherited = True
                abandon(connection, None if connection.closed else connection.pgconn.socket)

    def _start_workers(self) -> None:
        self._tasks: Any = AsyncTaskQueue()
        async_heed_cancellation(self._sched)
        super()._start_workers()

    @classmethod
    async def worker(cls, q: Any) -> None:
        """Run the pool's tasks until the pool stops or the event loop ends.

        psycopg_pool's own worker continues if it is cancelled while it connects, so the event loop would wait for it.
        """
        while not isinstance(task := await q.get(), StopWorker):
            try:
                await task.run()
            except Exception as error:
                _logger.warning("task %s failed: %s", task, type(error).__name__)
            del task
            async_end_if_cancelled()

    async def schedule_task(self, task: Any, delay: float) -> None:
        """Run a task later, unless the event loop is ending. The task would otherwise keep the scheduler running."""
        async_end_if_cancelled()
        if isinstance(task, AddConnection):
            self._adding.add(ref(task, self._adding.discard))
        await super().schedule_task(task, delay)
