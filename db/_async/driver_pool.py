"""psycopg_pool's pool, which replaces the connections of callers that were interrupted and never returned them.

It relies on private names of psycopg_pool 3.3; tests in tests/unit/db check them.
"""

from __future__ import annotations

import logging
from collections import deque
from typing import Any
from weakref import ref

from psycopg_pool import AsyncConnectionPool
from psycopg_pool.pool_async import AddConnection, StopWorker

from cache.forking import abandon
from cache.synchronization import async_end_if_cancelled
from db._async.connection import AsyncBoundedConnection
from db.pool_release import async_heed_cancellation

_logger = logging.getLogger("groundwork.db.pool")


class AsyncDriverPool(AsyncConnectionPool[AsyncBoundedConnection]):
    """A pool that knows its connections, also those that are in use."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, connection_class=AsyncBoundedConnection, **options)
        # One entry for each connection that was deleted while it was open: its caller was interrupted.
        self.lost: deque[None] = deque()
        self._existing: set[ref[AsyncBoundedConnection]] = set()

    def know(self, connection: AsyncBoundedConnection) -> None:
        """Register a new connection. Called before it is first used."""
        connection.lost = self.lost
        self._existing.add(ref(connection, self._existing.discard))

    def is_connected(self) -> bool:
        """Return whether the pool has an open connection, in use or not."""
        connections = [reference() for reference in [*self._existing]]
        return any(connection is not None and not connection.closed for connection in connections)

    def replace_lost(self) -> None:
        """Connect again for each lost connection, which the pool still counts."""
        while self.lost and not self.closed:
            self.lost.pop()
            _logger.warning("a connection was lost by an interrupted call; replacing it")
            self.run_task(AddConnection(self))

    def abandon(self) -> None:
        """Give up the connections, which are the parent's, in a forked child."""
        # So that its finalizer does not wait for threads or locks of the parent.
        self._closed = True
        abandon(self)
        for reference in [*self._existing]:
            connection = reference()
            if connection is not None:
                connection.is_inherited = True
                abandon(connection, None if connection.closed else connection.pgconn.socket)

    def _start_workers(self) -> None:
        async_heed_cancellation(self._sched)
        super()._start_workers()

    @classmethod
    async def worker(cls, q: Any) -> None:
        """Do the pool's tasks until it stops, or until the event loop ends.

        psycopg_pool's own worker continues if it is cancelled while it connects, and the loop would wait for it.
        """
        while not isinstance(task := await q.get(), StopWorker):
            try:
                await task.run()
            except Exception as error:
                _logger.warning("task %s failed: %s", task, type(error).__name__)
            del task
            async_end_if_cancelled()

    async def schedule_task(self, task: Any, delay: float) -> None:
        """Try again later, unless the event loop ends: the scheduler would take it for a reason to continue."""
        async_end_if_cancelled()
        await super().schedule_task(task, delay)
