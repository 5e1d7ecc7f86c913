"""Send the application's named queries from several threads, and measure how long each call is blocked.

Reads are sent as the pool does: prepared, in autocommit mode. Writes are rolled back, so that their rows are there for
the next call; the checks of a COMMIT run before the rollback. A separate session watches pg_locks for lock waits.
Callers also wait for each other, and run into deadlocks with each other. Neither counts.
"""

from __future__ import annotations

import itertools
import random
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import psycopg

from db.named_query import NamedQuery
from db.session import connect
from ops.migrations.rehearsal.parameters import Parameters

_CONTROL = re.compile(r"(?:BEGIN|COMMIT|ROLLBACK|SAVEPOINT|RELEASE)\b")
_COPY = re.compile(r"COPY (\w+) \(([^)]*)\) FROM STDIN")
_BINARY = b" WITH (FORMAT binary)"
_TRIALS = 3
_PAUSE_SECONDS = (0.001, 0.008)
_WATCH_SECONDS = 0.005
# Allowed difference between this clock and the server's.
_SLACK_SECONDS = 0.05
# Runs the checks of a COMMIT: deferred constraints and constraint triggers.
_AS_COMMIT_WOULD = b"SET CONSTRAINTS ALL IMMEDIATE"
# In the detail of a deadlock: "Process 7 waits for ShareLock on transaction 900; blocked by process 8."
_PROCESS = re.compile(r"\bprocess (\d+)", re.IGNORECASE)
_WAITS = """
SELECT pid, extract(epoch FROM clock_timestamp() - waitstart)::float8, pg_blocking_pids(pid)
FROM pg_locks WHERE NOT granted AND waitstart IS NOT NULL
"""

Connection = psycopg.Connection[tuple[Any, ...]]


@dataclass
class Call:
    """One call of a query, in seconds of time.monotonic(). `blocked` is its longest lock wait for other sessions.

    Other sessions are those that are not callers. A wait for a caller that waits for such a session counts too.

    `error` is the SQLSTATE, the exception's name if the connection was lost, or None if the call succeeded or was part
    of a deadlock between callers alone.
    """

    query: str
    started: float
    ended: float = 0.0
    blocked: float = 0.0
    error: str | None = None


def unreplayable(queries: Mapping[str, NamedQuery], parameters: Parameters) -> dict[str, str]:
    """Return the queries that cannot be sent on their own, with reasons."""
    reasons = {}
    for key, query in queries.items():
        text = query.sql.decode()
        copied = _COPY.match(text)
        if _CONTROL.match(text):
            reasons[key] = "transaction control, which each write has already"
        elif copied and parameters.row_for_copy(copied[1], _columns(copied[2]), random.Random()) is None:
            reasons[key] = f"{copied[1]} has no row to copy values from"
    return reasons


def failing(
    connection: Connection, queries: Mapping[str, NamedQuery], parameters: Parameters
) -> dict[str, str]:
    """Send each query until it works once, a few times at most. Return those that never work, with reasons."""
    reasons = {}
    for key, query in queries.items():
        for seed in range(_TRIALS):
            try:
                send(connection, query, parameters, random.Random(seed))
            except psycopg.Error as error:
                message = " ".join(str(error.diag.message_primary or error).split())
                reasons[key] = f"it fails without the migrations: {message} (SQLSTATE {error.sqlstate})"
            else:
                reasons.pop(key, None)
                break
    return reasons


def send(connection: Connection, query: NamedQuery, parameters: Parameters, rng: random.Random) -> None:
    """Send one query with matching parameters. A write is rolled back. Raises psycopg.Error."""
    text = query.sql.decode()
    if copied := _COPY.match(text):
        table, columns = copied[1], _columns(copied[2])
        row = parameters.row_for_copy(table, columns, rng)
        with connection.transaction(force_rollback=True), connection.cursor() as cursor:
            with cursor.copy(query.sql) as copy:
                if query.sql.endswith(_BINARY):
                    copy.set_types(parameters.types_for_copy(table, columns))
                copy.write_row(row or [])
            cursor.execute(_AS_COMMIT_WOULD)
        return
    values = parameters.for_query(query, rng)
    if query.is_read:
        _execute(connection, query, values)
        return
    with connection.transaction(force_rollback=True):
        connection.execute(query.sql, values, prepare=True)
        connection.execute(_AS_COMMIT_WOULD)


def _execute(connection: Connection, query: NamedQuery, values: Mapping[str, Any]) -> None:
    try:
        connection.execute(query.sql, values, prepare=True).fetchall()
    except psycopg.errors.FeatureNotSupported:
        # As the pool does when a migration has changed the result type of a prepared statement.
        connection.execute("DEALLOCATE ALL", prepare=False)
        connection.execute(query.sql, values, prepare=True).fetchall()


class Caller(threading.Thread):
    """Sends the queries repeatedly, in a random order, until `over` is set.

    It adds the process ID of each of its sessions to `callers`, which all callers share.
    """

    def __init__(
        self,
        connect: Callable[[], Connection],
        queries: Mapping[str, NamedQuery],
        parameters: Parameters,
        over: threading.Event,
        callers: set[int],
        seed: int,
    ) -> None:
        super().__init__(daemon=True)
        self.calls: list[Call] = []
        self.current: Call | None = None
        self.pid = 0
        self._connect, self._queries, self._parameters, self._over = connect, queries, parameters, over
        self._callers = callers
        self._rng = random.Random(seed)

    def run(self) -> None:
        order = list(self._queries)
        self._rng.shuffle(order)
        connection: Connection | None = None
        for key in itertools.cycle(order):
            if self._over.is_set():
                break
            call = self.current = Call(key, time.monotonic())
            try:
                if connection is None or connection.closed:
                    connection = self._connect()
                    self.pid = connection.info.backend_pid
                    self._callers.add(self.pid)
                    call.started = time.monotonic()
                send(connection, self._queries[key], self._parameters, self._rng)
            except psycopg.Error as error:
                if not self._is_between_callers(error):
                    call.error = error.sqlstate or type(error).__name__
            call.ended = time.monotonic()
            self.current = None
            self.calls.append(call)
            self._over.wait(self._rng.uniform(*_PAUSE_SECONDS))
        if connection is not None:
            connection.close()

    def _is_between_callers(self, error: psycopg.Error) -> bool:
        """Return whether the error is a deadlock that no other session is part of."""
        if not isinstance(error, psycopg.errors.DeadlockDetected):
            return False
        processes = {int(pid) for pid in _PROCESS.findall(error.diag.message_detail or "")}
        return bool(processes) and processes <= self._callers


@dataclass
class Traffic:
    """Runs callers for the duration of a block. `connect` opens a session of one of them.

    `on_other_wait` gets the lock waits of other sessions.
    """

    connect: Callable[[], Connection]
    watcher_url: str
    queries: Mapping[str, NamedQuery]
    parameters: Parameters
    callers: int
    on_other_wait: Callable[[float], None] = lambda seconds: None
    _over: threading.Event = field(default_factory=threading.Event)
    _pids: set[int] = field(default_factory=set)
    _threads: list[Caller] = field(default_factory=list)

    def __enter__(self) -> Traffic:
        self._threads = [
            Caller(self.connect, self.queries, self.parameters, self._over, self._pids, seed)
            for seed in range(self.callers)
        ]
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        for thread in (*self._threads, self._watcher):
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._over.set()
        if error is None:
            for thread in (*self._threads, self._watcher):
                thread.join()

    @property
    def calls(self) -> list[Call]:
        """All finished calls."""
        return [call for thread in self._threads for call in list(thread.calls)]

    def unsent_since(self, moment: float) -> set[str]:
        """Return the queries of which no call that started after the moment has finished. Callers may be running."""
        calls = (
            itertools.takewhile(lambda call: call.started >= moment, reversed(list(thread.calls)))
            for thread in self._threads
        )
        return self.queries.keys() - {call.query for call in itertools.chain.from_iterable(calls)}

    def _watch(self) -> None:
        try:
            with connect(self.watcher_url) as connection:
                while not self._over.wait(_WATCH_SECONDS):
                    self._note(connection)
        except psycopg.Error:
            # The server is removed when the block is left.
            if not self._over.is_set():
                raise

    def _note(self, connection: Connection) -> None:
        by_pid = {thread.pid: thread for thread in self._threads}
        waits = connection.execute(_WAITS).fetchall()
        blockers = {pid: set(blocking) for pid, _, blocking in waits}
        for pid, seconds, _ in waits:
            if pid not in by_pid:
                self.on_other_wait(seconds)
                continue
            call = by_pid[pid].current
            if call is None or seconds > time.monotonic() - call.started + _SLACK_SECONDS:
                continue
            if not all_blockers(pid, blockers) <= self._pids:
                call.blocked = max(call.blocked, seconds)


def all_blockers(pid: int, blockers: Mapping[int, set[int]]) -> set[int]:
    """Return the sessions for which a session waits, directly or because its blockers wait for them."""
    found: set[int] = set()
    left = {pid}
    while left:
        found |= left
        left = set[int]().union(*(blockers.get(each, ()) for each in left)) - found
    return found - {pid}


def _columns(text: str) -> list[str]:
    return [column.strip() for column in text.split(",")]
