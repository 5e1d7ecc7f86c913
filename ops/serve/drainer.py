"""Drain the outbox: invalidate the cache entries that committed writes made stale, whichever client wrote."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from time import monotonic

import psycopg
from prometheus_client import Counter, Gauge, Histogram

from cache.errors import CacheError
from cache.synchronization import AsyncRepeating
from db import AsyncDataAccess
from db._async.connection import AsyncBoundedConnection
from db.errors import DbError
from db.hosts import Hosts
from db.migrator.ledger import SCHEMA_CHANGED_CHANNEL

_logger = logging.getLogger("groundwork.serve.outbox")
CHANNEL = "cache_outbox"
# The time limit of a call to Redis. No caller waits for the access service, and a call that is given up leaves its
# entries in the outbox for another second or more.
REDIS_SECONDS = 2.0
# Seconds between two sweeps without a NOTIFY. NOTIFY may be lost with the connection that it arrives on.
SWEEP_SECONDS = 1.0
# Detect a silently dropped connection within 3 s.
_KEEPALIVES = {"keepalives_idle": 1, "keepalives_interval": 1, "keepalives_count": 2}
_MEASURE_SECONDS = 5.0
# How often to check whether the connection string has changed.
_ROTATION_SECONDS = 1.0
# Without a successful batch for this long, the service is not ready.
_OVERDUE_SECONDS = 10.0

DEPTH = Gauge("groundwork_outbox_depth", "Entries waiting in the outbox.")
AGE = Gauge("groundwork_outbox_age_seconds", "Age of the oldest entry waiting in the outbox, in seconds.")
LAG = Histogram(
    "groundwork_outbox_lag_seconds",
    "Time from a write to the invalidation of its keys through the outbox, in seconds.",
    buckets=(0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0, 300.0),
)
DRAINED = Counter("groundwork_outbox_drained", "Outbox entries whose keys were invalidated.")
# Depth and age keep their last value while the database cannot be reached. This metric reveals that.
LAST_SWEEP = Gauge(
    "groundwork_outbox_last_sweep_timestamp_seconds",
    "Time at which a batch of the outbox was last drained, or the outbox was found empty; 0 before that.",
)


class OutboxDrainer:
    """Three tasks: listen for the triggers' NOTIFY, sweep when notified and every second, and measure."""

    def __init__(self, data: AsyncDataAccess) -> None:
        self._data = data
        self._wake = asyncio.Event()
        self._swept_at = monotonic()
        # The start of the last read that found the whole outbox. All entries in it now were committed after that, even
        # if their transactions began earlier.
        self._complete_at = float("-inf")
        self._sweeping = _Endeavour("the outbox is not emptied", "the outbox is emptied again")
        self._measuring = _Endeavour("the outbox is not measured", "the outbox is measured again")
        self._tasks = (
            AsyncRepeating("outbox-listen", SWEEP_SECONDS, self._listen),
            # Waits before each sweep, for a NOTIFY too.
            AsyncRepeating("outbox-sweep", 0.0, self._sweep_when_due),
            # Separate from the sweep, so that neither waits for the other and a stuck outbox is still measured.
            AsyncRepeating("outbox-measure", _MEASURE_SECONDS, self._measure),
        )

    async def start(self) -> None:
        for task in self._tasks:
            await task.start()

    async def stop(self) -> None:
        await asyncio.gather(*(task.stop() for task in self._tasks))

    def problem(self) -> str | None:
        """Return why stale entries may stay in the cache, or None."""
        silence = monotonic() - self._swept_at
        if silence < _OVERDUE_SECONDS:
            return None
        return f"not emptied for {silence:.0f} s: {self._sweeping.failure or 'the sweep hangs'}"

    async def _sweep_when_due(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(SWEEP_SECONDS):
                await self._wake.wait()
        self._wake.clear()
        with self._sweeping.attempted():
            await self._sweep()

    async def _sweep(self) -> None:
        """Drain the outbox. Each batch counts as progress, because a bulk load can take minutes to drain."""
        while True:
            began = monotonic()
            drained = await self._data.outbox.drain_batch(self._on_drained)
            LAST_SWEEP.set_to_current_time()
            self._swept_at = monotonic()
            if drained < self._data.outbox.BATCH_SIZE:
                self._complete_at = began
                return

    def _on_drained(self, age: float) -> None:
        DRAINED.inc()
        LAG.observe(self._waited(age))

    def _waited(self, age: float) -> float:
        """Return how long an entry of this age can have been visible: less than its age after a long transaction."""
        return min(age, monotonic() - self._complete_at)

    async def _measure(self) -> None:
        with self._measuring.attempted():
            depth, age = await self._data.outbox.measure()
            DEPTH.set(depth)
            AGE.set(self._waited(age))

    async def _listen(self) -> None:
        try:
            await self._listen_until_lost()
        except (psycopg.Error, DbError) as error:
            # Until listening works again, a sweep every second finds the entries.
            _logger.info("not listening: %s", type(error).__name__)
        finally:
            self._wake.set()

    async def _listen_until_lost(self) -> None:
        """Listen until the connection is lost or its password is rotated, which will terminate the old sessions."""
        settings = self._data.pool.settings
        # Compare the URL, not the conninfo: a new IAM token is for the same login, whose sessions stay.
        source = settings.url.read()
        conninfo = psycopg.conninfo.make_conninfo(settings.conninfo(), **_KEEPALIVES)
        # As the pool connects: to the primary of several servers, with a token for each server if it uses tokens.
        hosts = Hosts(settings.tokens)
        async with await AsyncBoundedConnection.connect(conninfo, autocommit=True, hosts=hosts) as connection:
            await connection.execute(f"LISTEN {CHANNEL}")
            await connection.execute(f"LISTEN {SCHEMA_CHANGED_CHANNEL}")
            self._wake.set()
            while settings.url.read() == source:
                await _readable(connection.fileno(), _ROTATION_SECONDS)
                async for notification in connection.notifies(timeout=0):
                    if notification.channel == SCHEMA_CHANGED_CHANNEL:
                        # Statements prepared before the migration would fail once per connection.
                        await self._data.pool.drain()
                    else:
                        self._wake.set()


async def _readable(file: int, timeout_seconds: float) -> None:
    """Return when a file is readable, or after the timeout. psycopg's own wait wakes up ten times a second."""
    loop, is_readable = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(file, is_readable.set)
    try:
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_seconds):
                await is_readable.wait()
    finally:
        loop.remove_reader(file)


class _Endeavour:
    """An operation that is repeated. Its failure is logged once, and so is its recovery."""

    def __init__(self, fails: str, works_again: str) -> None:
        self._fails = fails
        self._works_again = works_again
        self.failure: str | None = None

    @contextmanager
    def attempted(self) -> Iterator[None]:
        """Catch and record every error of the block."""
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
