"""Limit how long a migration waits for locks, so that no other query waits long behind it.

A statement that waits for a table's lock makes every later query of that table wait too, and so does a lock that its
transaction already holds. The limit covers both together, not each statement's wait alone.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from dataclasses import dataclass

import psycopg
from psycopg import sql
from psycopg.errors import LockNotAvailable

from db.migrator.connection import Connection, execute_statement
from db.migrator.errors import LockHeld
from db.migrator.ledger import Ledger
from db.migrator.source import Script
from db.migrator.transactions import Group

# The share of the limit that each statement gets at least, enough for a lock that is almost free.
_LEAST_SHARE = 0.2
_FIRST_PAUSE_SECONDS = 0.1
# The server's largest lock_timeout.
_LONGEST_MILLISECONDS = 2**31 - 1

# How the server shows the lock_timeout that means no limit, and its units in milliseconds.
UNLIMITED = "0"
_UNITS = (("d", 86_400_000), ("h", 3_600_000), ("min", 60_000), ("s", 1000), ("ms", 1))

_HOLDS_UP_OTHERS = """
    EXISTS (
        SELECT FROM pg_locks
        WHERE pid = pg_backend_pid() AND locktype = 'relation'
          AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
          AND mode IN ('ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')
          -- The file may have changed the role, and to_regclass fails for a schema without USAGE.
          AND relation IS DISTINCT FROM (
              SELECT pg_class.oid FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
              WHERE nspname = {schema} AND relname = {table}
          )
    )
"""


@dataclass(frozen=True)
class LockLimits:
    """Limits for lock waits, in seconds.

    `migrator_lock_seconds`: how long to wait for another migrator.
    `table_lock_seconds`: how long a statement waits for a table, and how long a transaction waits for further locks
    once it holds one that blocks other queries. After that the transaction is rolled back and tried again.
    `attempts`: the number of attempts, with random, growing pauses of at most `longest_pause_seconds` between them.
    """

    migrator_lock_seconds: float = 30.0
    table_lock_seconds: float = 0.25
    attempts: int = 40
    longest_pause_seconds: float = 3.0

    def pauses(self) -> Iterator[float | None]:
        """Yield the pause after each attempt in seconds, and None after the last one."""
        for n in range(self.attempts - 1):
            longest = min(self.longest_pause_seconds, _FIRST_PAUSE_SECONDS * 2 ** min(n, 20))
            yield random.uniform(0.1, 1) * longest
        yield None


DEFAULT_LIMITS = LockLimits()


def bound_lock_waits(connection: Connection, seconds: float) -> None:
    """Limit the lock wait of each following statement; 0 removes the limit.

    In a transaction the limit applies until its end, otherwise until the end of the session.
    """
    in_transaction = connection.info.transaction_status != psycopg.pq.TransactionStatus.IDLE
    connection.execute(
        "SELECT set_config('lock_timeout', %s, %s)", [f"{milliseconds(seconds)}ms", in_transaction]
    )


def milliseconds(seconds: float) -> int:
    """Return a limit in milliseconds, at least 1 and at most what the server allows. 0 s, no limit, stays 0."""
    return min(max(int(seconds * 1000), 1 if seconds else 0), _LONGEST_MILLISECONDS)


def shown_setting(seconds: float) -> str:
    """Return the text with which the server shows a lock_timeout: in the largest unit of which it is a multiple."""
    number = milliseconds(seconds)
    if not number:
        return UNLIMITED
    return next(f"{number // size}{unit}" for unit, size in _UNITS if number % size == 0)


def lock_ledger(connection: Connection, ledger: Ledger, wait_seconds: float) -> None:
    """Lock the ledger against other writers until the transaction ends, and limit its other lock waits, too.

    Raises LockHeld if another session still has a lock on the ledger after `wait_seconds`.
    """
    # 0 would remove the limit.
    bound_lock_waits(connection, max(wait_seconds, 0.001))
    try:
        ledger.lock(connection)
    except LockNotAvailable as exc:
        raise LockHeld(
            f"another session has a lock on {ledger.name}; waited {wait_seconds:g} s, and nothing was changed. Find the"
            " session in pg_stat_activity, and run again when it has ended its transaction, or with a longer --wait",
            sqlstate=exc.sqlstate,
        ) from exc


class LockBudget:
    """The time that one transaction may wait for locks. Runs the transaction's statements."""

    def __init__(self, connection: Connection, limit_seconds: float, ledger: Ledger) -> None:
        self._connection = connection
        self._limit = limit_seconds
        self._holds_up_others = (
            sql.SQL(_HOLDS_UP_OTHERS)
            .format(schema=sql.Literal(ledger.schema), table=sql.Literal(ledger.table))
            .as_string(connection)
        )
        # The start of the statement with which the transaction began to block others; None before that.
        self._held_since: float | None = None
        # The setting that this object made last, as the server shows it. Any other one is the file's own.
        self._ours = shown_setting(limit_seconds)

    def execute(self, script: Script, group: Group, following: Group | None) -> None:
        """Run statements, and limit the lock waits of the following ones to the time that is left then.

        A lock_timeout that the statements set counts instead. 0 does not: the header of a pg_dump has it, and other
        queries would queue behind a statement that waits without a limit.
        """
        if following is None or not self._limit:
            execute_statement(self._connection, script, group.text)
            return
        began = time.monotonic()
        # In the same round trip, after the statement, so that pg_stat_activity begins with the statement.
        cursor = execute_statement(
            self._connection, script, group.text, f";\n{self._adjust(began, following.count)}"
        )
        while cursor.nextset():
            pass
        before, after, holds_up_others = cursor.fetchone() or (None, None, False)
        if before in {UNLIMITED, self._ours}:
            self._ours = str(after)
        if self._held_since is None and holds_up_others:
            self._held_since = began

    def _adjust(self, began: float, count: int) -> str:
        """Return SQL that limits each of `count` statements, unless the file has a limit of its own.

        It returns the setting before and after, and whether the transaction blocks others.
        """
        held = self._holds_up_others if self._held_since is None else "true"
        used = 0.0 if self._held_since is None else began - self._held_since
        # The server subtracts the time of the statements that were sent in the same round trip.
        left = (
            f"('{(self._limit - used) * 1000}'::float8"
            " - '1000'::float8 * extract(epoch FROM clock_timestamp() - statement_timestamp())::float8)"
        )
        least = milliseconds(self._limit * _LEAST_SHARE)
        # Every operator has operands of its own types: see db.migrator.ledger.
        return f"""
            SELECT before, set_config('lock_timeout', CASE
                WHEN before NOT IN ('{UNLIMITED}'::text, '{self._ours}'::text) THEN before
                WHEN held THEN greatest({least}, ({left} / '{count}'::float8)::int)::text || 'ms'
                ELSE '{milliseconds(self._limit)}ms'
            END, true), held
            FROM (SELECT current_setting('lock_timeout') AS before, {held} AS held OFFSET 0) AS now
        """
