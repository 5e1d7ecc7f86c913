"""Daily maintenance of the schema: run db.upkeep, and delete idempotency keys after a day."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from datetime import UTC, datetime
from time import time

from prometheus_client import Gauge
from psycopg.rows import class_row, scalar_row

from cache.synchronization import AsyncRepeating
from db import AsyncDataAccess
from db.errors import DbError
from db.named_query import queries
from db.rows import ForgottenKeys
from db.upkeep import UPKEEP, Upkeep

_logger = logging.getLogger("groundwork.serve.maintenance")
_FORGET_KEYS = queries("idempotency")["forget_keys"]
DAY_SECONDS = 24 * 3600.0
# Each batch is a statement with a deadline of its own, and a small transaction. A day can have millions of keys.
BATCH_SIZE = 5000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_RETRY_SECONDS = 10.0
# The clock of a pause stands still while the machine is suspended. Shorter than `for` of the alerts PartitionsLate and
# IdempotencyKeysLate.
_PAUSE_SECONDS = 600.0

LAST_SUCCESS = Gauge(
    "groundwork_maintenance_last_success_timestamp_seconds",
    "Time at which a daily task last succeeded; 0 before that.",
    ["task"],
)


class Maintenance:
    """Runs each task at start and once a day by the wall clock. A task that failed runs again in ten seconds."""

    def __init__(self, data: AsyncDataAccess) -> None:
        self._tasks = (*(_UpkeepTask(data, upkeep) for upkeep in UPKEEP), _IdempotencyKeys(data))
        self._repeating = AsyncRepeating("maintenance", _RETRY_SECONDS, self._run)

    async def start(self) -> None:
        await self._repeating.start()

    async def stop(self) -> None:
        await self._repeating.stop()

    async def _run(self) -> float | None:
        """Run the tasks that are due. Return the seconds until the next call, or None to retry."""
        pauses = [await task.run_if_due() for task in self._tasks]
        return min((_RETRY_SECONDS if pause is None else pause) for pause in pauses)


class _DailyTask(ABC):
    """Work for once a day. Its failure is logged once."""

    NAME: str
    FAILURE: str
    SUCCESS: str

    def __init__(self, data: AsyncDataAccess) -> None:
        self._data = data
        self._has_failed = False
        self._last_success: float | None = None
        self._metric = LAST_SUCCESS.labels(self.NAME)

    async def run_if_due(self) -> float | None:
        """Run if it is due. Return the seconds until the next call, or None to retry."""
        # After the clock was set back, the time of the last success is in the future.
        if self._last_success is not None and 0 <= (elapsed := time() - self._last_success) < DAY_SECONDS:
            return min(_PAUSE_SECONDS, DAY_SECONDS - elapsed)
        try:
            result = await self._run()
        except DbError as error:
            if not self._has_failed:
                _logger.warning("%s: %s; trying again", self.FAILURE, error)
            self._has_failed = True
            return None
        self._has_failed = False
        self._last_success = time()
        self._metric.set(self._last_success)
        _logger.info(self.SUCCESS, extra=result)
        return _PAUSE_SECONDS

    @abstractmethod
    async def _run(self) -> dict[str, object]:
        """Do the work, and return what to log with its success."""


class _UpkeepTask(_DailyTask):
    def __init__(self, data: AsyncDataAccess, upkeep: Upkeep) -> None:
        self.NAME = upkeep.name
        self.FAILURE = f"{upkeep.objects} are not created"
        self.SUCCESS = f"{upkeep.objects} are there"
        self._query = upkeep.query
        super().__init__(data)

    async def _run(self) -> dict[str, object]:
        return {"made": await self._data.pool.fetch_all(self._query, {}, scalar_row)}


class _IdempotencyKeys(_DailyTask):
    NAME = "idempotency_keys"
    FAILURE = "old idempotency keys are not deleted"
    SUCCESS = "old idempotency keys are deleted"

    async def _run(self) -> dict[str, object]:
        # Where the batch before ended. From the beginning, each batch would read the deleted rows of all batches before
        # it again, while a long transaction keeps them.
        since: datetime | None = _EPOCH
        deleted = 0
        while since is not None:
            parameters = {"since": since, "batch_size": BATCH_SIZE}
            batch = await self._data.pool.fetch_one(_FORGET_KEYS, parameters, class_row(ForgottenKeys))
            assert batch is not None, "an aggregate returns a row"
            deleted += batch.deleted
            since = batch.last if batch.deleted == BATCH_SIZE else None
        return {"deleted": deleted}
