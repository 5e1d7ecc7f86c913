"""Writers that insert numbered rows all the time, and remember which of them the server has acknowledged.

A writer has a deadline for each statement, after which it cuts the connection, as the data access does: a frozen server
sends no error. A row without an answer may or may not exist. An acknowledged row must exist.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import Any

import psycopg

from tests.scale import IS_FULL, scaled

TABLE = "acknowledged"
SCHEMA_SQL = f"""
CREATE TABLE IF NOT EXISTS groundwork.{TABLE} (number bigint PRIMARY KEY);
GRANT SELECT, INSERT ON groundwork.{TABLE} TO app;
"""
_DEADLINE_SECONDS = 1.5
# Three hosts, each with a connect_timeout of 2 s.
_CONNECT_SECONDS = 7.0
# Without SCALE=full it is longer, and there are fewer writers, because other tests share the cores.
_PAUSE_SECONDS = 0.01 if IS_FULL else 0.1
_WRITERS = scaled(4, 8)


@dataclass
class Writers:
    """`acknowledged` maps each number to the time of its answer. `unknown` got no answer."""

    url: str
    acknowledged: dict[int, float] = field(default_factory=dict)
    unknown: set[int] = field(default_factory=set)
    _number: int = 0
    _stop: bool = False

    def gap(self) -> float:
        """Return the longest time between two acknowledged writes, in seconds."""
        times = sorted(self.acknowledged.values())
        return max((after - before for before, after in pairwise(times)), default=0.0)

    def rows(self) -> set[int]:
        """Return the numbers that the primary has."""
        with psycopg.connect(self.url) as connection:
            return {row[0] for row in connection.execute(f"SELECT number FROM {TABLE}").fetchall()}

    def has_written_since(self, moment: float, rows: int = 20) -> bool:
        return sum(at > moment for at in tuple(self.acknowledged.values())) >= rows

    async def work(self) -> None:
        connection: psycopg.AsyncConnection[Any] | None = None
        while not self._stop:
            try:
                if connection is None:
                    opening = psycopg.AsyncConnection.connect(self.url, autocommit=True)
                    connection = await _bounded(opening, _CONNECT_SECONDS)
                self._number += 1
                number = self._number
                self.unknown.add(number)
                insert = connection.execute(f"INSERT INTO {TABLE} VALUES (%s)", [number])
                await _bounded(insert, _DEADLINE_SECONDS, connection)
                # A commit whose wait for a replica was cancelled is answered too, with a warning, but is not safe.
                self.acknowledged[number] = time.monotonic()
                self.unknown.discard(number)
            except TimeoutError:
                connection = None
            except (psycopg.Error, OSError):
                if connection is not None:
                    await connection.close()
                connection = None
            await asyncio.sleep(_PAUSE_SECONDS)
        if connection is not None:
            await connection.close()


@contextmanager
def writing(url: str) -> Iterator[Writers]:
    """Write in a thread with several connections until the end of the block."""
    with psycopg.connect(url) as connection:
        (first,) = connection.execute(f"SELECT coalesce(max(number), 0) FROM {TABLE}").fetchone() or (0,)
    writers = Writers(url, _number=first)

    async def all_of_them() -> None:
        await asyncio.gather(*(writers.work() for _ in range(_WRITERS)))

    thread = threading.Thread(target=asyncio.run, args=[all_of_them()])
    thread.start()
    try:
        yield writers
    finally:
        writers._stop = True
        thread.join()


async def _bounded(
    work: Awaitable[Any], seconds: float, connection: psycopg.AsyncConnection[Any] | None = None
) -> Any:
    """Like asyncio.wait_for, but do not wait until the driver has cancelled: a frozen server does not answer.

    The connection is closed when the driver has ended. psycopg crashes if a connection is closed during a statement.
    """
    task = asyncio.ensure_future(work)
    done, _ = await asyncio.wait({task}, timeout=seconds)
    if not done:
        task.cancel()
        if connection is not None:
            task.add_done_callback(partial(_close, connection))
        raise TimeoutError
    return task.result()


def _close(connection: psycopg.AsyncConnection[Any], done: asyncio.Future[Any]) -> None:
    if not done.cancelled():
        # Otherwise asyncio logs that nobody has asked for it.
        done.exception()
    connection.pgconn.finish()
