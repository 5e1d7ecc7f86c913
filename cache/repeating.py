"""Something done again and again in the background until it is stopped: as a task, or as a thread."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable
from typing import TypeVar

_A = TypeVar("_A")
_logger = logging.getLogger("groundwork.background")


class AsyncRepeating:
    """Calls `action` at once, and again `seconds` after each call; an error is logged, and not the end."""

    def __init__(self, name: str, seconds: float, action: Callable[[], Awaitable[None]]) -> None:
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
            try:
                await self._action()
            except Exception:
                _logger.exception("%s failed; it will be tried again", self._name)
            await asyncio.sleep(self._seconds)


class Repeating:
    """As AsyncRepeating, in a daemon thread."""

    def __init__(self, name: str, seconds: float, action: Callable[[], None]) -> None:
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
            try:
                self._action()
            except Exception:
                _logger.exception("%s failed; it will be tried again", self._name)
            self._stopped.wait(self._seconds)


async def async_uninterrupted(action: Callable[[_A], Awaitable[None]], argument: _A) -> None:
    """Finish `action(argument)` even if the calling task is cancelled: nothing is left half given back."""
    await asyncio.shield(asyncio.ensure_future(action(argument)))


def uninterrupted(action: Callable[[_A], None], argument: _A) -> None:
    """The sync counterpart: a thread is not cancelled."""
    action(argument)
