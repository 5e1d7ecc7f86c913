"""The queues of the pool, for callers that wait for a connection and for its tasks, and the records of its logger.

psycopg_pool uses Python's Condition and Queue, which are written in Python. If a signal handler raises between their
`acquire` and the block that releases the lock, every other caller of the pool waits forever. The locks here are
acquired and released in C.
"""

from __future__ import annotations

import _thread
import logging
from asyncio import Lock, Queue
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from db.outage_log import demote_replaced

_R = TypeVar("_R")

# The queue of the pool's tasks. The queue of asyncio needs no lock.
AsyncTaskQueue = Queue
TaskQueue = SimpleQueue

# The callers that wait for a connection.
AsyncWaitQueue = deque


class IdleConnections(deque[Any]):
    """The connections that nobody uses. psycopg_pool takes them from the left.

    The connection that was returned last is used next, because it and its server process are still in the processor's
    caches.
    """

    def append(self, connection: Any) -> None:
        self.appendleft(connection)


def async_at_once(lock: Lock, action: Callable[..., _R], *arguments: Any) -> _R | None:
    """Run an action of the pool that does not wait, or return None if another task has the pool's lock.

    The calling task is not suspended, so it cannot be cancelled here.
    """
    return None if lock.locked() else action(*arguments)


def at_once(lock: AbstractContextManager[object], action: Callable[..., _R], *arguments: Any) -> _R | None:
    """The sync counterpart, which takes the lock."""
    # In one line, for the reason given in cache.forking.Exclusion.
    with lock: return action(*arguments)  # fmt: skip # noqa: E701


class _Gate(_thread.RLock):  # type: ignore[misc]
    """A condition variable that one caller waits on."""

    def __init__(self) -> None:
        self._answers: SimpleQueue[None] = SimpleQueue()

    def wait(self, timeout: float) -> bool:
        """Wait for `notify_all`, and return False after `timeout`. The caller must hold the lock, acquired once."""
        try:
            self.release()
            self._answers.get(timeout=timeout)
        except Empty:
            return False
        finally:
            if not self._is_owned():  # type: ignore[attr-defined]
                self.acquire()
        return True

    def notify_all(self) -> None:
        self._answers.put(None)


class WaitQueue(deque[Any]):
    """The sync counterpart of AsyncWaitQueue. Each caller that is added gets a condition variable of its own."""

    def append(self, waiting: Any) -> None:
        waiting._cond = _Gate()
        super().append(waiting)


def detach_log_records() -> None:
    """Let the records of psycopg_pool's logger refer to no connection, and OutageLog replace some. Idempotent.

    A handler may keep records, as those of error trackers do. A connection in a record would never be deleted, so the
    pool would not notice that an interrupted caller has lost it.
    """
    logging.getLogger("psycopg.pool").addFilter(_detach)


def _detach(record: logging.LogRecord) -> bool:
    demote_replaced(record)
    record.msg, record.args = record.getMessage(), None
    # The logger has let the record pass with the level that it had before.
    return logging.getLogger(record.name).isEnabledFor(record.levelno)
