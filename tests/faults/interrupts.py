"""Raise an exception inside a call: at the n-th line of our code in a thread, or at the n-th await of a task."""

from __future__ import annotations

import asyncio
import queue
import sys
import threading
from collections.abc import Awaitable, Callable, Coroutine, Generator
from pathlib import Path
from types import FrameType
from typing import Any, Literal

import psycopg_pool

ROOT = Path(__file__).parents[2]
OURS = (str(ROOT / "cache"), str(ROOT / "db"))
# The code in Python that a caller runs while it waits for a connection.
DRIVER = (str(Path(psycopg_pool.__file__).parent), str(threading.__file__), str(queue.__file__))


class Interrupted(Exception):
    """The exception of a signal handler, such as that of Celery's soft time limit."""


class Interrupt:
    """Raises Interrupted at one line of the code in `db` and `cache` that this thread runs in the block.

    Counts the lines only, without a number. The exception comes once, as from a signal. In `files` of a driver it comes
    at the `return` of a function, because no signal handler runs while a `with` block releases a lock.
    """

    def __init__(
        self, at: int | None = None, files: tuple[str, ...] = OURS, event: Literal["line", "return"] = "line"
    ) -> None:
        self.lines = 0
        self.where = ""
        self._at = at
        self._files = files
        self._event = event

    def __enter__(self) -> Interrupt:
        sys.settrace(self._enter_function)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(None)

    def _enter_function(self, frame: FrameType, event: str, _: Any) -> Any:
        return self._reach_line if frame.f_code.co_filename.startswith(self._files) else None

    def _reach_line(self, frame: FrameType, event: str, _: Any) -> Any:
        if event != self._event:
            return self._reach_line
        if self.lines == self._at:
            self.where = f"{frame.f_code.co_filename.removeprefix(f'{ROOT}/')}:{frame.f_lineno}"
            self.lines += 1
            raise Interrupted
        self.lines += 1
        return self._reach_line


class _Awaits(Awaitable[Any]):
    """Awaits a coroutine that is cancelled at its n-th await, and `times` - 1 times more at the awaits after that."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any], at: int | None, times: int) -> None:
        self._coroutine = coroutine
        self._at = range(-1, -1) if at is None else range(at, at + times)
        self.awaits = 0

    def __await__(self) -> Generator[Any, Any, Any]:
        iterator = self._coroutine.__await__()
        error: BaseException | None = None
        while True:
            try:
                awaited = iterator.send(None) if error is None else iterator.throw(error)
            except StopIteration as end:
                return end.value
            error, number = None, self.awaits
            self.awaits += 1
            if number in self._at:
                if awaited is not None:
                    awaited._asyncio_future_blocking = False
                    awaited.cancel()
                error = asyncio.CancelledError()
            else:
                try:
                    yield awaited
                except BaseException as raised:
                    error = raised


async def cancelled_at(
    call: Callable[[], Coroutine[Any, Any, Any]], at: int | None, times: int = 1
) -> tuple[bool, int]:
    """Cancel a call at its n-th await. Return whether it was cancelled, and how many awaits it made."""
    awaits = _Awaits(call(), at, times)
    try:
        await awaits
    except asyncio.CancelledError:
        return True, awaits.awaits
    return False, awaits.awaits
