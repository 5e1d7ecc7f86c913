"""Things done once in the background, for nobody who waits: as tasks, or as threads."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable, Hashable
from time import monotonic

_logger = logging.getLogger("groundwork.background")
# More at a time would take the database's connections from those who wait for an answer.
_LIMIT = 4
_STOP_SECONDS = 2.0


class AsyncErrands:
    """At most four at a time, and none twice at once; one too many is left out, for it will come again."""

    def __init__(self) -> None:
        self._under_way: dict[Hashable, asyncio.Task[None]] = {}
        self._is_stopped = False

    def start(self, key: Hashable, action: Callable[[], Awaitable[None]]) -> None:
        if not self._is_stopped and key not in self._under_way and len(self._under_way) < _LIMIT:
            self._under_way[key] = asyncio.create_task(self._run(key, action), name="cache-errand")

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
            _logger.info("an errand failed: %s", error, extra={"error": type(error).__name__})
        finally:
            del self._under_way[key]


class Errands:
    """As AsyncErrands, in daemon threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._under_way: dict[Hashable, threading.Thread] = {}
        self._is_stopped = False

    def start(self, key: Hashable, action: Callable[[], None]) -> None:
        with self._lock:
            if self._is_stopped or key in self._under_way or len(self._under_way) >= _LIMIT:
                return
            thread = threading.Thread(target=self._run, args=(key, action), name="cache-errand", daemon=True)
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
            _logger.info("an errand failed: %s", error, extra={"error": type(error).__name__})
        finally:
            with self._lock:
                del self._under_way[key]
