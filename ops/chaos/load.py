"""A load through the public data access: writers that remember what was acknowledged, and readers that check it.

The rows are users whose `github_id` GitHub never assigns. They are deleted at the end of a run, or by the next one if
writes were lost.
"""

from __future__ import annotations

import asyncio
import threading
import time
from bisect import bisect
from collections.abc import Awaitable, Iterable, Iterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from operator import itemgetter
from typing import Any

import psycopg
from msgspec.structs import replace as changed

from cache.settings import CacheSettings
from db import AsyncDataAccess
from db.errors import DbError, NotFound, OutcomeUnknown
from db.models import NewUser, User
from db.session import connect
from db.settings import DatabaseSettings
from infra.spec.roles import SCHEMA
from ops.chaos.journal import Journal
from ops.chaos.outcome import LoadOutcome, Write
from ops.errors import Exit, OpsError

NAME = "data-access"
# GitHub's numbers are below 2^40.
_FIRST_ID, _LAST_ID = 2**62, 2**62 + 2**40
_WRITERS, _HOT_USERS, _POOL_SIZE = 3, 4, 4
# How far a reader may be behind. The first has no near cache, the second has one.
_READER_LAGS = {0: 0.0, 1000: 0.25}
_DEADLINE_SECONDS = 2.0
_WRITE_PAUSE, _READ_PAUSE, _ERROR_PAUSE = 0.03, 0.02, 0.1
_START_SECONDS = 60.0
_STOP_SECONDS = 60.0
_CONNECT_SECONDS, _STATEMENT_SECONDS = 10, 60
_BATCH = 5000
_DELETE = f"""
DELETE FROM {SCHEMA}.users WHERE id IN (
    SELECT id FROM {SCHEMA}.users WHERE github_id >= %s AND github_id < %s LIMIT {_BATCH}
)
"""
_ROWS = f"SELECT github_id, username FROM {SCHEMA}.users WHERE github_id >= %s AND github_id < %s"


@dataclass
class _HotUser:
    """A user that one writer updates continuously. Its name contains the number of the update.

    `acknowledged` are the updates that are not known to be lost. `told` lists (time, update) of each update whose
    invalidation had reached Redis, by the monotonic clock.
    """

    user: User
    version: int = 0
    acknowledged: list[Write] = field(default_factory=list)
    told: list[tuple[float, int]] = field(default_factory=list)


class DataAccessLoad:
    """Writes and reads in a thread from `start` to `stop`."""

    name = NAME

    def __init__(self, urls: Mapping[str, str], journal: Journal) -> None:
        """`urls` are the variables of role app, such as DATABASE_URL."""
        self.outcome = LoadOutcome()
        self._database_url = urls["DATABASE_URL"]
        self._database = replace(
            DatabaseSettings.from_environment(urls),
            pool_size=_POOL_SIZE,
            read_pool_size=_POOL_SIZE,
            deadline_seconds=_DEADLINE_SECONDS,
        )
        self._cache = CacheSettings.from_environment(urls)
        self._journal = journal
        self._added: list[Write] = []
        self._hot: list[_HotUser] = []
        self._stopped = threading.Event()
        self._ready = threading.Event()
        self._failure: BaseException | None = None
        self._began = time.monotonic()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self, began: float) -> None:
        """Delete the rows of a killed run, and write until `stop`. `began` is the run's beginning (monotonic clock).

        Raise OpsError (6) if nothing can be written.
        """
        self._began = began
        self._journal.note_rows()
        delete_rows(self._database_url, self._journal.stack)
        self._thread.start()
        self._ready.wait(_START_SECONDS)
        if self._failure is not None or not self._ready.is_set():
            self._stopped.set()
            reason = f": {self._failure}" if self._failure else ""
            raise OpsError(f"the load cannot write to the stack{reason}", Exit.UNREACHABLE)

    @property
    def is_over(self) -> bool:
        """Return whether the thread has ended, which is a bug. `stop` then raises its error."""
        return not self._thread.is_alive()

    def stop(self) -> None:
        """Stop writing and reading."""
        self._stopped.set()
        if self._thread.ident is not None:
            self._thread.join(_STOP_SECONDS)
        # `start` reports an error of the first writes.
        if self._failure is not None and self._hot:
            raise self._failure

    def verify(self) -> None:
        """Look up the acknowledged writes, and delete the load's rows unless writes were lost.

        The outcome says if they cannot be looked up. Raise OpsError (6) if the rows cannot be deleted.
        """
        try:
            with _bounded(self._database_url) as connection:
                rows = dict(connection.execute(_ROWS, [_FIRST_ID, _LAST_ID]).fetchall())
        except psycopg.Error as error:
            self.outcome.unchecked = str(error).splitlines()[0]
            return
        self.outcome.unchecked = ""
        updates = (each for hot in self._hot for each in hot.acknowledged)
        self.outcome.lost += lost_writes(rows, [*self._added, *updates])
        if not self.outcome.lost:
            delete_rows(self._database_url, self._journal.stack)
            self._journal.forget_rows()

    def _run(self) -> None:
        try:
            asyncio.run(self._work())
        except BaseException as error:
            self._failure = error
        finally:
            self._ready.set()

    async def _work(self) -> None:
        async with AsyncExitStack() as stack:
            writer = await stack.enter_async_context(self._open(0))
            readers = [
                (await stack.enter_async_context(self._open(entries)), lag)
                for entries, lag in _READER_LAGS.items()
            ]
            self._hot = [_HotUser(await self._create(writer, _FIRST_ID + n)) for n in range(_HOT_USERS)]
            self.outcome.began = self._now()
            self._ready.set()
            numbers = iter(range(_FIRST_ID + _HOT_USERS, _LAST_ID))
            await asyncio.gather(
                *(self._add(writer, numbers) for _ in range(_WRITERS)),
                *(self._update(writer, hot) for hot in self._hot),
                *(self._read(reader, lag) for reader, lag in readers),
                self._read_own(writer),
            )

    def _open(self, near_entries: int) -> AsyncDataAccess:
        return AsyncDataAccess(self._database, replace(self._cache, near_entries=near_entries))

    async def _create(self, data: AsyncDataAccess, number: int) -> User:
        """Create a hot user, with retries, because a busy machine may need longer than one deadline at first."""
        while True:
            try:
                return await data.users.upsert(_new_user(number, 0))
            except DbError:
                if self._stopped.is_set() or self._now() > _START_SECONDS / 2:
                    raise
            await asyncio.sleep(_ERROR_PAUSE)

    async def _add(self, data: AsyncDataAccess, numbers: Iterator[int]) -> None:
        while not self._stopped.is_set():
            number = next(numbers)
            try:
                await data.users.add(_new_user(number, 0))
            except DbError as error:
                await self._failed(error)
                continue
            self._added.append(self._acknowledged(number, 0))
            await asyncio.sleep(_WRITE_PAUSE)

    async def _update(self, data: AsyncDataAccess, hot: _HotUser) -> None:
        breaker = data.cache.breaker
        while not self._stopped.is_set():
            hot.version += 1
            base = _version(hot.user.username)
            reaches = not breaker.is_open
            try:
                name = _new_user(hot.user.github_id, hot.version).username
                hot.user = await data.users.update(changed(hot.user, username=name))
            except DbError as error:
                await self._failed(error)
                await self._read_again(data, hot)
                continue
            # The row still was as the writer had read it. So what was acknowledged after that is lost.
            while hot.acknowledged and hot.acknowledged[-1].update > base:
                self.outcome.lost.append(hot.acknowledged.pop())
            hot.acknowledged.append(self._acknowledged(hot.user.github_id, hot.version))
            if reaches and not breaker.is_open:
                # An invalidation that cannot be delivered opens the breaker. The outbox then delivers it later.
                hot.told.append((time.monotonic(), hot.version))
            await asyncio.sleep(_WRITE_PAUSE)

    async def _read_again(self, data: AsyncDataAccess, hot: _HotUser) -> None:
        """Read the row from Postgres, because an update may have been applied without an answer, or be lost."""
        while not self._stopped.is_set():
            try:
                hot.user = await data.users.get_by_github_id(hot.user.github_id)
                return
            except DbError as error:
                await self._failed(error)

    async def _read(self, data: AsyncDataAccess, lag: float) -> None:
        turn = 0
        while not self._stopped.is_set():
            turn += 1
            hot = self._hot[turn % _HOT_USERS]
            position = bisect(hot.told, time.monotonic() - lag, key=itemgetter(0))
            expected = hot.told[position - 1][1] if position else 0
            await self._check(data.users.get(hot.user.id), expected)

    async def _read_own(self, data: AsyncDataAccess) -> None:
        """Read what this data access has written, from a replica if there is one."""
        turn = 0
        while not self._stopped.is_set():
            turn += 1
            hot = self._hot[turn % _HOT_USERS]
            expected = hot.acknowledged[-1].update if hot.acknowledged else 0
            with data.reading():
                await self._check(data.users.get_by_github_id(hot.user.github_id), expected)

    async def _check(self, read: Awaitable[User], expected: int) -> None:
        """Wait for a read, and count it as stale if it has an older update than `expected`, or finds no row."""
        try:
            seen = _version((await read).username)
        except NotFound:
            # The rows were acknowledged before the readers started.
            seen = -1
        except DbError as error:
            await self._failed(error)
            return
        self.outcome.reads += 1
        self.outcome.bucket(self._now()).reads += 1
        self.outcome.stale += seen < expected
        await asyncio.sleep(_READ_PAUSE)

    def _acknowledged(self, github_id: int, update: int) -> Write:
        write = Write(github_id, update, self._now())
        self.outcome.writes.append(write.at)
        self.outcome.bucket(write.at).writes += 1
        return write

    async def _failed(self, error: DbError) -> None:
        self.outcome.unknown += isinstance(error, OutcomeUnknown)
        self.outcome.errors.append((self._now(), type(error).__name__))
        self.outcome.bucket(self._now()).errors += 1
        await asyncio.sleep(_ERROR_PAUSE)

    def _now(self) -> float:
        return time.monotonic() - self._began


def lost_writes(rows: Mapping[int, str], acknowledged: Iterable[Write]) -> list[Write]:
    """Return the acknowledged writes that are missing in `rows` (github_id -> username)."""
    stored = {number: _version(username) for number, username in rows.items()}
    return [each for each in acknowledged if each.update > stored.get(each.github_id, -1)]


def delete_rows(database_url: str, stack: str) -> None:
    """Delete the rows of a load from the stack's database. Raise OpsError (6) if the database cannot be reached."""
    try:
        with _bounded(database_url) as connection:
            while connection.execute(_DELETE, [_FIRST_ID, _LAST_ID]).rowcount:
                pass
    except psycopg.Error as error:
        raise OpsError(
            f"cannot delete the rows of the load: {str(error).splitlines()[0]}; run"
            f" `groundwork chaos stop --stack {stack}` when Postgres answers",
            Exit.UNREACHABLE,
        ) from error


def _bounded(database_url: str) -> psycopg.Connection[Any]:
    """Connect with time limits. Without a replica, a server with replicas never confirms a commit."""
    return connect(
        database_url,
        connect_timeout=_CONNECT_SECONDS,
        options=f"-c statement_timeout={_STATEMENT_SECONDS}s",
    )


def _new_user(number: int, version: int) -> NewUser:
    return NewUser(github_id=number, username=f"groundwork-chaos-{version}")


def _version(username: str) -> int:
    return int(username.rpartition("-")[2])
