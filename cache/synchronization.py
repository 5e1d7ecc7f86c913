"""Primitives for tasks and for threads: each comes as a pair, `AsyncX` for asyncio and `X` for threads.

The source in cache/_async and db/_async uses the first of each pair, the code generated from it the second:

- AsyncCompletion, Completion: a one-time event
- AsyncTurn, Turn: let the tasks that share an object use it one after another
- AsyncBackgroundTasks, BackgroundTasks: one-time background work that no caller waits for
- AsyncRepeating, Repeating: repeated background work
- async_uninterrupted, uninterrupted: finish an action although the task is cancelled
- async_completed, completed: the same, and wait for its end
- async_end_if_cancelled, end_if_cancelled: end a task that was cancelled
- async_caller, caller: identify the calling task or thread
- AsyncCancellation, Cancellation: detect that a task was cancelled while it waited
- async_time_limit, time_limit: a time limit for a block of code. A task is cancelled; in a thread, each socket
  operation gets the time left
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Hashable
from contextlib import AbstractContextManager, suppress
from inspect import ismethod
from time import monotonic
from types import TracebackType
from typing import TypeVar
from weakref import WeakMethod

from cache.forking import Exclusion, register

_A = TypeVar("_A")
_logger = logging.getLogger("groundwork.background")
# Background tasks at a time. More would take database connections from waiting callers.
_LIMIT = 4
_STOP_SECONDS = 2.0


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
    """An event for threads. A signal handler that interrupts one of them never blocks the others.

    threading.Event is written in Python: an exception between two of its steps leaves its lock locked.
    """

    __slots__ = ("_is_set", "_waiting")

    def __init__(self) -> None:
        self._is_set = False
        # A locked lock for each waiting thread.
        self._waiting: deque[threading.Lock] = deque()

    def is_set(self) -> bool:
        return self._is_set

    def set(self) -> None:
        self._is_set = True
        while self._waiting:
            # Another thread may be taking the last one at the same time.
            with suppress(IndexError):
                self._waiting.popleft().release()

    def wait(self, seconds: float) -> bool:
        """Wait up to `seconds` for the event, and return whether it is set."""
        if not self._is_set:
            lock = threading.Lock()
            lock.acquire()
            self._waiting.append(lock)
            # If it was set since the first look, perhaps nobody releases the lock.
            if not self._is_set and not lock.acquire(timeout=seconds):
                with suppress(ValueError):
                    self._waiting.remove(lock)
        return self._is_set


class AsyncTurn:
    """Lets the tasks that share an object use it one after another, in the order of their requests."""

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock = asyncio.Lock()

    async def take(self, seconds: float | None) -> bool:
        """Wait up to `seconds`, or without a limit, and return whether it is the caller's turn until `release`."""
        try:
            async with asyncio.timeout(seconds):
                await self._lock.acquire()
        except TimeoutError:
            return False
        return True

    def release(self) -> None:
        self._lock.release()


class Turn:
    """The sync counterpart. Threads share an object if they run in copies of its context, as in asyncio.to_thread.

    If a signal handler raises before `release`, the thread can take its turn again.
    """

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock = threading.RLock()

    def take(self, seconds: float | None) -> bool:
        return self._lock.acquire() if seconds is None else self._lock.acquire(timeout=max(seconds, 0.0))

    def release(self) -> None:
        self._lock.release()


class AsyncBackgroundTasks:
    """Runs actions in the background, at most four at a time, and not twice for the same key.

    An action above the limit is skipped, because a later read will start it again.
    """

    def __init__(self) -> None:
        self._is_stopped = False
        self.after_fork()
        register(self)

    def after_fork(self) -> None:
        self._under_way: dict[Hashable, asyncio.Task[None]] = {}

    def start(self, key: Hashable, action: Callable[[], Awaitable[None]]) -> None:
        if not self._is_stopped and key not in self._under_way and len(self._under_way) < _LIMIT:
            task = asyncio.create_task(_logged(action), name="cache-background-task")
            self._under_way[key] = task
            # Also for a task that is cancelled before it starts.
            task.add_done_callback(lambda _: self._under_way.pop(key, None))

    async def stop(self) -> None:
        self._is_stopped = True
        tasks = [*self._under_way.values()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=_STOP_SECONDS)


async def _logged(action: Callable[[], Awaitable[None]]) -> None:
    try:
        await action()
    except Exception as error:
        _logger.info("background work failed: %s", error, extra={"error": type(error).__name__})


class BackgroundTasks:
    """The sync counterpart of AsyncBackgroundTasks, with daemon threads."""

    def __init__(self) -> None:
        self._exclusively = Exclusion()
        self._is_stopped = False
        self.after_fork()
        register(self)

    def after_fork(self) -> None:
        self._under_way: dict[Hashable, threading.Thread] = {}

    def start(self, key: Hashable, action: Callable[[], None]) -> None:
        self._exclusively(self._start, key, action)

    def _start(self, key: Hashable, action: Callable[[], None]) -> None:
        # A thread removes itself, except one whose starter was interrupted before it started.
        for other, thread in [*self._under_way.items()]:
            if not thread.is_alive():
                self._under_way.pop(other, None)
        if self._is_stopped or key in self._under_way or len(self._under_way) >= _LIMIT:
            return
        thread = threading.Thread(
            target=self._run, args=(key, action), name="cache-background-task", daemon=True
        )
        self._under_way[key] = thread
        thread.start()

    def stop(self) -> None:
        self._is_stopped = True
        give_up_at = monotonic() + _STOP_SECONDS
        for thread in [*self._under_way.values()]:
            if thread.is_alive():
                thread.join(max(0.0, give_up_at - monotonic()))

    def _run(self, key: Hashable, action: Callable[[], None]) -> None:
        try:
            action()
        except Exception as error:
            _logger.info("background work failed: %s", error, extra={"error": type(error).__name__})
        finally:
            self._under_way.pop(key, None)


def _weak(action: Callable[[], _A]) -> Callable[[], Callable[[], _A] | None]:
    """Return a weak reference to a bound method, so that repeating it does not keep its object alive."""
    return WeakMethod(action) if ismethod(action) else lambda: action


class AsyncRepeating:
    """Calls `action` at once and again `seconds` after the end of each call, until `stop`. Errors are logged.

    An action may return another number of seconds for the next pause. If it is a method, it ends with its object.
    """

    def __init__(self, name: str, seconds: float, action: Callable[[], Awaitable[float | None]]) -> None:
        self._name = name
        self._seconds = seconds
        self._action = _weak(action)
        self.after_fork()
        register(self)

    def after_fork(self) -> None:
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start, unless it has started."""
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run(), name=self._name)

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task], timeout=2.0)

    def abandon(self) -> None:
        """Stop without waiting. May be called from any thread."""
        if self._task is not None:
            # If the loop is closed, the task has ended.
            with suppress(RuntimeError):
                self._task.get_loop().call_soon_threadsafe(self._task.cancel)

    async def _run(self) -> None:
        while (action := self._action()) is not None:
            pause = None
            try:
                pause = await action()
            except Exception:
                _logger.exception("%s failed; it will be retried", self._name)
            del action
            await asyncio.sleep(self._seconds if pause is None else pause)


class Repeating:
    """The sync counterpart of AsyncRepeating, with a daemon thread."""

    def __init__(self, name: str, seconds: float, action: Callable[[], float | None]) -> None:
        self._name = name
        self._seconds = seconds
        self._action = _weak(action)
        self.after_fork()
        register(self)

    def after_fork(self) -> None:
        # The parent may be stopping.
        self._stopped = Completion()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start, unless it has started."""
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(
                target=self._run, args=(self._stopped,), name=self._name, daemon=True
            )
            self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        if self._thread is not None:
            self._thread.join(timeout=2.0)

    def abandon(self) -> None:
        """Stop without waiting. May be called from any thread."""
        self._stopped.set()

    def _run(self, stopped: Completion) -> None:
        while not stopped.is_set() and (action := self._action()) is not None:
            pause = None
            try:
                pause = action()
            except Exception:
                _logger.exception("%s failed; it will be retried", self._name)
            del action
            stopped.wait(self._seconds if pause is None else pause)


async def async_uninterrupted(action: Callable[..., Awaitable[None]], *arguments: object) -> None:
    """Finish `action(*arguments)` even if the calling task is cancelled, so that no connection is half returned."""
    await asyncio.shield(asyncio.ensure_future(action(*arguments)))


def uninterrupted(action: Callable[..., None], *arguments: object) -> None:
    """The sync counterpart. A thread cannot be cancelled."""
    action(*arguments)


async def async_completed(action: Callable[..., Awaitable[None]], *arguments: object) -> None:
    """Run `action(*arguments)` and return when it has ended, however often the calling task is cancelled meanwhile.

    A cancelled task gets its CancelledError after that. The action needs a time limit of its own.
    """
    # Raises before there is a coroutine that nobody awaits.
    asyncio.get_running_loop()
    task = asyncio.ensure_future(action(*arguments))
    cancelled: tuple[object, ...] | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            # Not the error itself, which refers to this frame. anyio needs its text.
            cancelled = error.args
    if cancelled is None:
        task.result()
        return
    if not task.cancelled():
        # Otherwise asyncio reports that nobody has looked at the exception.
        task.exception()
    raise asyncio.CancelledError(*cancelled)


def completed(action: Callable[..., None], *arguments: object) -> None:
    """The sync counterpart. A thread cannot be cancelled, but a signal handler may raise inside the action."""
    action(*arguments)


def async_caller() -> object:
    """Return an object that identifies the calling task."""
    return asyncio.current_task()


def caller() -> object:
    """Return an object that identifies the calling thread."""
    return threading.get_ident()


def async_end_if_cancelled() -> None:
    """Raise CancelledError in a task that was cancelled, even if a library it called caught that error."""
    # No variable holds the task here: its error refers to this frame, and a cycle would need a garbage collection.
    if _is_cancelled():
        raise asyncio.CancelledError


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def end_if_cancelled() -> None:
    """The sync counterpart. It does nothing, because a thread cannot be cancelled."""


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
