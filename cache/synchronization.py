"""Primitives for tasks and for threads: each comes as a pair, `AsyncX` for asyncio and `X` for threads.

The source in cache/_async and db/_async uses the first of each pair, the code generated from it the second:

- AsyncSemaphore, Semaphore: limit concurrent calls
- AsyncCompletion, Completion: a one-time event
- AsyncBackgroundTasks, BackgroundTasks: one-time background work that no caller waits for
- AsyncRepeating, Repeating: repeated background work
- async_uninterrupted, uninterrupted: finish an action although the task is cancelled
- AsyncCancellation, Cancellation: detect that a task was cancelled while it waited
- async_time_limit, time_limit: a time limit for a block of code. A task is cancelled; in a thread, each socket
  operation gets the time left
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable, Hashable
from contextlib import AbstractContextManager
from queue import Empty, SimpleQueue
from time import monotonic
from types import TracebackType
from typing import TypeVar

_A = TypeVar("_A")
_logger = logging.getLogger("groundwork.background")
# Background tasks at a time. More would take database connections from waiting callers.
_LIMIT = 4
_STOP_SECONDS = 2.0


class AsyncSemaphore:
    """A semaphore for the tasks of one event loop. Callers wait here, and not inside a call with a time limit."""

    def __init__(self, count: int) -> None:
        self._semaphore = asyncio.Semaphore(count)

    async def acquire(self, seconds: float) -> bool:
        """Acquire, waiting up to `seconds`, and return whether it succeeded."""
        if not self._semaphore.locked():
            return await self._semaphore.acquire()
        try:
            async with asyncio.timeout(seconds):
                return await self._semaphore.acquire()
        except TimeoutError:
            return False

    def release(self) -> None:
        self._semaphore.release()


class Semaphore:
    """A semaphore for threads."""

    def __init__(self, count: int) -> None:
        # Implemented in C, it takes a tenth of the time of threading.Semaphore.
        self._free: SimpleQueue[None] = SimpleQueue()
        for _ in range(count):
            self._free.put(None)

    def acquire(self, seconds: float) -> bool:
        """Acquire, waiting up to `seconds`, and return whether it succeeded."""
        try:
            self._free.get(timeout=seconds)
        except Empty:
            return False
        return True

    def release(self) -> None:
        self._free.put(None)


class AsyncCompletion:
    """An event for the tasks of one event loop."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def set(self) -> None:
        self._event.set()

    async def wait(self, seconds: float) -> bool:
        """Wait up to `seconds` for the event, and return whether it is set."""
        try:
            async with asyncio.timeout(seconds):
                await self._event.wait()
        except TimeoutError:
            return False
        return True


class Completion:
    """An event for threads."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def set(self) -> None:
        self._event.set()

    def wait(self, seconds: float) -> bool:
        """Wait up to `seconds` for the event, and return whether it is set."""
        return self._event.wait(seconds)


class AsyncBackgroundTasks:
    """Runs actions in the background, at most four at a time, and not twice for the same key.

    An action above the limit is skipped, because a later read will start it again.
    """

    def __init__(self) -> None:
        self._under_way: dict[Hashable, asyncio.Task[None]] = {}
        self._is_stopped = False

    def start(self, key: Hashable, action: Callable[[], Awaitable[None]]) -> None:
        if not self._is_stopped and key not in self._under_way and len(self._under_way) < _LIMIT:
            self._under_way[key] = asyncio.create_task(self._run(key, action), name="cache-background-task")

    async def stop(self) -> None:
        self._is_stopped = True
        tasks = [*self._under_way.values()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=_STOP_SECONDS)

    async def _run(self, key: Hashable, action: Callable[[], Awaitable[None]]) -> None:
        try:
            await action()
        except Exception as error:
            _logger.info("background work failed: %s", error, extra={"error": type(error).__name__})
        finally:
            del self._under_way[key]


class BackgroundTasks:
    """The sync counterpart of AsyncBackgroundTasks, with daemon threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._under_way: dict[Hashable, threading.Thread] = {}
        self._is_stopped = False

    def start(self, key: Hashable, action: Callable[[], None]) -> None:
        with self._lock:
            if self._is_stopped or key in self._under_way or len(self._under_way) >= _LIMIT:
                return
            thread = threading.Thread(
                target=self._run, args=(key, action), name="cache-background-task", daemon=True
            )
            self._under_way[key] = thread
            thread.start()

    def stop(self) -> None:
        with self._lock:
            self._is_stopped = True
            threads = [*self._under_way.values()]
        give_up_at = monotonic() + _STOP_SECONDS
        for thread in threads:
            thread.join(max(0.0, give_up_at - monotonic()))

    def _run(self, key: Hashable, action: Callable[[], None]) -> None:
        try:
            action()
        except Exception as error:
            _logger.info("background work failed: %s", error, extra={"error": type(error).__name__})
        finally:
            with self._lock:
                del self._under_way[key]


class AsyncRepeating:
    """Calls `action` at once and again `seconds` after the end of each call, until `stop`. Errors are logged.

    An action may return another number of seconds for the next pause.
    """

    def __init__(self, name: str, seconds: float, action: Callable[[], Awaitable[float | None]]) -> None:
        self._name = name
        self._seconds = seconds
        self._action = action
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name=self._name)

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task], timeout=2.0)

    async def _run(self) -> None:
        while True:
            pause = None
            try:
                pause = await self._action()
            except Exception:
                _logger.exception("%s failed; it will be retried", self._name)
            await asyncio.sleep(self._seconds if pause is None else pause)


class Repeating:
    """The sync counterpart of AsyncRepeating, with a daemon thread."""

    def __init__(self, name: str, seconds: float, action: Callable[[], float | None]) -> None:
        self._name = name
        self._seconds = seconds
        self._action = action
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        if self._thread is not None:
            self._thread.join(timeout=2.0)

    def _run(self) -> None:
        while not self._stopped.is_set():
            pause = None
            try:
                pause = self._action()
            except Exception:
                _logger.exception("%s failed; it will be retried", self._name)
            self._stopped.wait(self._seconds if pause is None else pause)


async def async_uninterrupted(action: Callable[[_A], Awaitable[None]], argument: _A) -> None:
    """Finish `action(argument)` even if the calling task is cancelled, so that no connection is half returned."""
    await asyncio.shield(asyncio.ensure_future(action(argument)))


def uninterrupted(action: Callable[[_A], None], argument: _A) -> None:
    """The sync counterpart. A thread cannot be cancelled."""
    action(argument)


class AsyncCancellation:
    """Create it before a wait and call `heed` after it, to raise the CancelledError that the wait should have raised.

    asyncio.wait_for of Python 3.11 returns its result to a task that is cancelled in the same step of the event loop.
    psycopg_pool uses it to wait for a connection, so the cancelled task would continue.
    """

    __slots__ = ("_before", "_task")

    def __init__(self) -> None:
        self._task = asyncio.current_task()
        # A task that cleans up after an earlier cancellation still counts that one.
        self._before = self._task.cancelling() if self._task is not None else 0

    def heed(self) -> None:
        if self._task is not None and self._task.cancelling() > self._before:
            raise asyncio.CancelledError


class Cancellation:
    """The sync counterpart. It does nothing, because a thread cannot be cancelled."""

    __slots__ = ()

    def heed(self) -> None:
        return


class _Current(threading.local):
    """The end of this thread's time limit (monotonic), or None."""

    ends_at: float | None = None


_current = _Current()


def async_time_limit(seconds: float) -> asyncio.Timeout:
    """Return a context manager that raises TimeoutError if the block takes longer than `seconds`."""
    return asyncio.timeout(seconds)


class _TimeLimit:
    __slots__ = ("_ends_at",)

    def __init__(self, seconds: float) -> None:
        self._ends_at = monotonic() + seconds

    def __enter__(self) -> None:
        _current.ends_at = self._ends_at

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        _current.ends_at = None


def time_limit(seconds: float) -> AbstractContextManager[None]:
    """Return a context manager that sets this thread's time limit.

    A thread cannot be stopped from outside. Instead its sockets call `seconds_left` before each operation (cache.tls).
    """
    return _TimeLimit(seconds)


def seconds_left(usual: float) -> float:
    """Return the seconds left of this thread's time limit, at most `usual` and at least 0.001."""
    ends_at = _current.ends_at
    return usual if ends_at is None else min(usual, max(ends_at - monotonic(), 0.001))


def async_socket_seconds(seconds: float) -> float | None:
    """Return no socket timeout: redis-py would start a task for every command, and the block has a limit already."""
    return None


def socket_seconds(seconds: float) -> float:
    """Return the timeout of each read and write in a thread."""
    return seconds
