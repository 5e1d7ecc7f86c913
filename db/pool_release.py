"""End the background work of a psycopg pool that is not closed: one that was dropped, or whose event loop ends.

Each function comes as a pair, for tasks and for threads.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from psycopg_pool._acompat import AEvent

from cache.synchronization import async_end_if_cancelled

# How long to wait for the pool's threads. They usually stop at once, but a thread that connects first finishes that.
_JOIN_SECONDS = 0.1


def async_release_pool(pool: Any) -> None:
    """Cancel the pool's tasks. Its connections are closed when they are deleted."""
    pool._closed = True
    tasks = (*pool._workers, pool._sched_runner)
    # The error of a task that is cancelled while it connects refers to the pool. If the pool also referred to the task,
    # only a garbage collection would delete them.
    pool._workers, pool._sched_runner = [], None
    for task in tasks:
        # RuntimeError means that the event loop is closed, so the task has ended.
        with suppress(RuntimeError):
            task.get_loop().call_soon_threadsafe(task.cancel)


def release_pool(pool: Any) -> None:
    """Close the pool."""
    # The last reference to the pool may have been in one of its own threads, which cannot wait for itself.
    with suppress(RuntimeError):
        pool.close(timeout=_JOIN_SECONDS)


class _Event(AEvent):
    async def wait_timeout(self, timeout: float) -> bool:
        is_set = await super().wait_timeout(timeout)
        async_end_if_cancelled()
        return is_set


def async_heed_cancellation(scheduler: Any) -> None:
    """Make the task of a new scheduler end when it is cancelled.

    asyncio.wait_for of Python 3.11 ignores a cancellation at the moment at which the event is set, as in a new pool.
    """
    scheduler._event = _Event()


def heed_cancellation(scheduler: Any) -> None:
    """Do nothing, because a thread cannot be cancelled. The sync counterpart of `async_heed_cancellation`."""
