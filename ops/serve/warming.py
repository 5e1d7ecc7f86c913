"""Warm the cache in the background when the service starts. Readiness does not wait for it."""

from __future__ import annotations

import asyncio
import logging

from cache.errors import CacheError
from db import AsyncDataAccess
from db.errors import DbError
from db.warming import Warming

_logger = logging.getLogger("groundwork.serve.warming")
# 1000 records take some seconds, which leaves capacity for callers.
_RATE = 200
_RETRY_SECONDS = 10.0


class StartWarming:
    """Runs once. After a failure it tries again in ten seconds; entries that are cached already cost little."""

    def __init__(self, data: AsyncDataAccess, limit: int) -> None:
        """With limit 0, warming is turned off."""
        self._data = data
        self._limit = limit
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        if self._limit:
            self._task = asyncio.create_task(self._run(), name="warming")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task], timeout=2.0)

    async def _run(self) -> None:
        failed = False
        while True:
            try:
                warmed = await Warming(self._data, self._limit, _RATE, lambda *_: None).run()
            except (DbError, CacheError) as error:
                if not failed:
                    _logger.info("warming the cache failed: %s; trying again", error)
                failed = True
                await asyncio.sleep(_RETRY_SECONDS)
                continue
            except Exception:
                _logger.exception("warming the cache failed")
                return
            _logger.info("the cache is warm", extra=warmed)
            return
