"""The daily care of the schema that needs no operator: next months' partitions are there before the rows, and
idempotency keys go after a day."""

from __future__ import annotations

import asyncio
import logging

from prometheus_client import Gauge
from psycopg.rows import scalar_row

from db import AsyncDataAccess
from db.errors import DbError
from db.named_query import queries

_logger = logging.getLogger("groundwork.serve.maintenance")
_MAKE_PARTITIONS = queries("schema")["make_activity_partitions"]
_FORGET_KEYS = queries("idempotency")["forget_keys"]
DAY_SECONDS = 24 * 3600.0
_RETRY_SECONDS = 10.0

LAST_SUCCESS = Gauge(
    "groundwork_maintenance_last_success_timestamp_seconds", "When maintenance last succeeded."
)


class Maintenance:
    """Runs at start and once a day; after a failure again in ten seconds."""

    def __init__(self, data: AsyncDataAccess) -> None:
        self._data = data
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="maintenance")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task], timeout=2.0)

    async def _run(self) -> None:
        failed = False
        while True:
            try:
                made = await self._data.pool.fetch_all(_MAKE_PARTITIONS, {}, scalar_row)
                await self._data.pool.fetch_all(_FORGET_KEYS, {}, scalar_row)
            except DbError as error:
                if not failed:
                    _logger.warning("maintenance failed: %s; trying again", error)
                failed = True
                await asyncio.sleep(_RETRY_SECONDS)
                continue
            failed = False
            LAST_SUCCESS.set_to_current_time()
            _logger.info("partitions of activities are there", extra={"made": made})
            await asyncio.sleep(DAY_SECONDS)
