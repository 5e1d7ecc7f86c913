"""Empties the outbox: whatever a committed write made stale leaves the cache, whoever wrote it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from time import monotonic

import psycopg
from prometheus_client import Counter, Gauge

from cache.errors import CacheError
from db import AsyncDataAccess
from db.errors import DbError
from db.migrator.ledger import SCHEMA_CHANGED_CHANNEL

_logger = logging.getLogger("groundwork.serve.outbox")
CHANNEL = "cache_outbox"
# A NOTIFY is lost where nobody listens yet, and a sweep is cheap.
SWEEP_SECONDS = 1.0
_MEASURE_SECONDS = 5.0
# How often it looks whether the connection string is another one.
_ROTATION_SECONDS = 1.0
# Silence for so long is a reason not to be ready.
_OVERDUE_SECONDS = 10.0

DEPTH = Gauge("groundwork_outbox_depth", "Entries waiting in the outbox.")
AGE = Gauge("groundwork_outbox_age_seconds", "Age of the oldest entry waiting in the outbox.")
DRAINED = Counter("groundwork_outbox_drained", "Outbox entries whose keys were invalidated.")
# Depth and age stand still where the database cannot be asked; this one tells.
LAST_SWEEP = Gauge(
    "groundwork_outbox_last_sweep_timestamp_seconds",
    "When a batch of the outbox was last done, or nothing was left of it; 0 means not yet.",
)


class OutboxDrainer:
    """Three tasks: one listens for the triggers' NOTIFY, one sweeps when woken and every second, one measures."""

    def __init__(self, data: AsyncDataAccess) -> None:
        self._data = data
        self._wake = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._swept_at = monotonic()
        self._sweeping = _Endeavour("the outbox is not emptied", "the outbox is emptied again")
        self._measuring = _Endeavour("the outbox is not measured", "the outbox is measured again")

    def start(self) -> None:
        self._tasks = [
            asyncio.create_task(self._listen(), name="outbox-listen"),
            asyncio.create_task(self._sweep_forever(), name="outbox-sweep"),
            # Beside the sweep: neither waits for the other, and what cannot be emptied is measured all the same.
            asyncio.create_task(self._measure_forever(), name="outbox-measure"),
        ]

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=2.0)

    def problem(self) -> str | None:
        """Why stale entries may stay in the cache, or None."""
        silence = monotonic() - self._swept_at
        if silence < _OVERDUE_SECONDS:
            return None
        return f"not emptied for {silence:.0f} s: {self._sweeping.failure or 'the sweep hangs'}"

    async def _sweep_forever(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(SWEEP_SECONDS):
                    await self._wake.wait()
            self._wake.clear()
            with self._sweeping.attempted():
                await self._sweep()

    async def _sweep(self) -> None:
        """Empty it. Each batch is told: after a bulk load it takes minutes, in which the sweep does not hang."""
        while True:
            drained = await self._data.outbox.drain_batch()
            DRAINED.inc(drained)
            LAST_SWEEP.set_to_current_time()
            self._swept_at = monotonic()
            if drained < self._data.outbox.BATCH_SIZE:
                return

    async def _measure_forever(self) -> None:
        while True:
            with self._measuring.attempted():
                depth, age = await self._data.outbox.measure()
                DEPTH.set(depth)
                AGE.set(age)
            await asyncio.sleep(_MEASURE_SECONDS)

    async def _listen(self) -> None:
        while True:
            try:
                await self._listen_once()
            except (psycopg.Error, DbError) as error:
                # The sweep goes on without it, a second late at most.
                _logger.info("not listening: %s", type(error).__name__)
            await asyncio.sleep(SWEEP_SECONDS)

    async def _listen_once(self) -> None:
        """Listen until the connection is lost, or its password rotated: the old login's sessions will be ended."""
        settings = self._data.pool.settings
        # Not the conninfo: a new token is none the less for the same login, whose sessions go on.
        source = settings.url.read()
        async with await psycopg.AsyncConnection.connect(settings.conninfo(), autocommit=True) as connection:
            await connection.execute(f"LISTEN {CHANNEL}")
            await connection.execute(f"LISTEN {SCHEMA_CHANGED_CHANNEL}")
            self._wake.set()
            while settings.url.read() == source:
                async for notification in connection.notifies(timeout=_ROTATION_SECONDS):
                    if notification.channel == SCHEMA_CHANGED_CHANNEL:
                        # Statements prepared before the migration would fail once on every connection.
                        await self._data.pool.drain()
                    else:
                        self._wake.set()


class _Endeavour:
    """What is tried again and again: says once that it fails, and once that it works again."""

    def __init__(self, fails: str, works_again: str) -> None:
        self._fails = fails
        self._works_again = works_again
        self.failure: str | None = None

    @contextmanager
    def attempted(self) -> Iterator[None]:
        """No error leaves the block."""
        try:
            yield
        except (DbError, CacheError) as error:
            if self.failure is None:
                _logger.warning("%s: %s", self._fails, error)
            self.failure = str(error)
        except Exception as error:
            _logger.exception(self._fails)
            self.failure = type(error).__name__
        else:
            if self.failure is not None:
                _logger.info(self._works_again)
            self.failure = None
