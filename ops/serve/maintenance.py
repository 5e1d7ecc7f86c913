"""Daily maintenance of the schema: create the next months' partitions in advance, and delete idempotency keys after a
day."""

from __future__ import annotations

import logging
from time import time

from prometheus_client import Gauge
from psycopg.rows import scalar_row

from cache.synchronization import AsyncRepeating
from db import AsyncDataAccess
from db.errors import DbError
from db.named_query import queries

_logger = logging.getLogger("groundwork.serve.maintenance")
_MAKE_PARTITIONS = queries("schema")["make_activity_partitions"]
_FORGET_KEYS = queries("idempotency")["forget_keys"]
DAY_SECONDS = 24 * 3600.0
_RETRY_SECONDS = 10.0
# The clock of a pause stands still while the machine is suspended. Shorter than `for` of the alert MaintenanceLate.
_PAUSE_SECONDS = 600.0

LAST_SUCCESS = Gauge(
    "groundwork_maintenance_last_success_timestamp_seconds", "Time at which maintenance last succeeded."
)


class Maintenance:
    """Runs at start and once a day by the wall clock. After a failure it runs again in ten seconds."""

    def __init__(self, data: AsyncDataAccess) -> None:
        self._data = data
        self._has_failed = False
        self._last_success: float | None = None
        self._repeating = AsyncRepeating("maintenance", _RETRY_SECONDS, self._run)

    async def start(self) -> None:
        await self._repeating.start()

    async def stop(self) -> None:
        await self._repeating.stop()

    async def _run(self) -> float | None:
        """Run if it is due. Return the seconds until the next call, or None to retry."""
        # After the clock was set back, the time of the last success is in the future.
        if self._last_success is not None and 0 <= (elapsed := time() - self._last_success) < DAY_SECONDS:
            return min(_PAUSE_SECONDS, DAY_SECONDS - elapsed)
        try:
            made = await self._data.pool.fetch_all(_MAKE_PARTITIONS, {}, scalar_row)
            await self._data.pool.fetch_all(_FORGET_KEYS, {}, scalar_row)
        except DbError as error:
            if not self._has_failed:
                _logger.warning("maintenance failed: %s; trying again", error)
            self._has_failed = True
            return None
        self._has_failed = False
        self._last_success = time()
        LAST_SUCCESS.set(self._last_success)
        _logger.info("partitions of activities are there", extra={"made": made})
        return _PAUSE_SECONDS
