"""Warms the cache once when the service starts, beside its work: readiness does not wait for it."""

from __future__ import annotations

import asyncio
import logging

from cache.errors import CacheError
from db import AsyncDataAccess
from db.errors import DbError
from db.warming import Warming

_logger = logging.getLogger("groundwork.serve.warming")
# A thousand records take some seconds: callers come first.
_RATE = 200
_RETRY_SECONDS = 10.0


class StartWarming:
    """Runs once; after a failure again in ten seconds, for what is cached already costs a look."""

    def __init__(self, data: AsyncDataAccess, limit: int) -> None:
        """With a limit of 0 nothing is done."""
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
