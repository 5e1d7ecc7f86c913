"""Empties the outbox: whatever a committed write made stale leaves the cache, whoever wrote it."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
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
    "groundwork_outbox_last_sweep_timestamp_seconds", "When the outbox was last emptied; 0 means not yet."
)


class OutboxDrainer:
    """Two tasks: one listens for the triggers' NOTIFY, one sweeps when woken and every second."""

    def __init__(self, data: AsyncDataAccess) -> None:
        self._data = data
        self._wake = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._swept_at = monotonic()
        self._failure: str | None = None

    def start(self) -> None:
        self._tasks = [
            asyncio.create_task(self._listen(), name="outbox-listen"),
            asyncio.create_task(self._sweep_forever(), name="outbox-sweep"),
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
        return f"not emptied for {silence:.0f} s: {self._failure or 'the sweep hangs'}"

    async def _sweep_forever(self) -> None:
        measured_at = 0.0
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(SWEEP_SECONDS):
                    await self._wake.wait()
            self._wake.clear()
            try:
                # First, for what cannot be drained grows.
                if monotonic() - measured_at >= _MEASURE_SECONDS:
                    measured_at = monotonic()
                    depth, age = await self._data.outbox.measure()
                    DEPTH.set(depth)
                    AGE.set(age)
                DRAINED.inc(await self._data.outbox.drain())
                LAST_SWEEP.set_to_current_time()
            except (DbError, CacheError) as error:
                if self._failure is None:
                    _logger.warning("the outbox is not emptied: %s", error)
                self._failure = str(error)
            except Exception as error:
                _logger.exception("the sweep of the outbox failed")
                self._failure = type(error).__name__
            else:
                if self._failure is not None:
                    _logger.info("the outbox is emptied again")
                self._failure = None
                self._swept_at = monotonic()

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
