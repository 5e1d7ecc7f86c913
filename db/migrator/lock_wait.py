"""How long a migration's statements wait for locks, so that no other query waits long behind them.

A statement that waits for a table makes every later query of that table wait too, and so does a lock that its
transaction already holds: both together are bounded, not each statement's wait alone.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from dataclasses import dataclass

import psycopg

from db.migrator.connection import Connection

# A transaction that has used up its time may still take a lock that is as good as free.
_LEAST_SHARE = 0.2
_FIRST_PAUSE_SECONDS = 0.1

_HOLDS_UP_OTHERS = """
    SELECT EXISTS (
        SELECT FROM pg_locks
        WHERE pid = pg_backend_pid() AND locktype = 'relation'
          AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
          AND mode IN ('ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')
          AND relation <> %s::regclass
    )
"""


@dataclass(frozen=True)
class LockLimits:
    """How long to wait for locks, in seconds.

    `migrator_lock_seconds` bounds the wait for another migrator. `table_lock_seconds` bounds how long a statement
    waits for a table, for behind it every reader queues, and how long the transaction goes on waiting once it holds
    a lock that others wait for; then it gives way, and tries again up to `attempts` times, after random, growing
    pauses.
    """

    migrator_lock_seconds: float = 30.0
    table_lock_seconds: float = 0.25
    attempts: int = 40
    longest_pause_seconds: float = 3.0

    def pauses(self) -> Iterator[float | None]:
        """The pause after each attempt; None after the last."""
        for n in range(self.attempts - 1):
            longest = min(self.longest_pause_seconds, _FIRST_PAUSE_SECONDS * 2 ** min(n, 20))
            yield random.uniform(0.1, 1) * longest
        yield None


DEFAULT_LIMITS = LockLimits()


def bound_lock_waits(connection: Connection, seconds: float) -> None:
    """Let each statement from here on wait so long for a lock; 0 lets it wait for ever.

    In a transaction it holds to the transaction's end.
    """
    in_transaction = connection.info.transaction_status != psycopg.pq.TransactionStatus.IDLE
    milliseconds = max(int(seconds * 1000), 1 if seconds else 0)
    connection.execute("SELECT set_config('lock_timeout', %s, %s)", [f"{milliseconds}ms", in_transaction])


class LockBudget:
    """What one transaction may spend on waiting for locks. Call `before_statement` before each statement."""

    def __init__(self, connection: Connection, limit_seconds: float, ledger: str) -> None:
        self._connection = connection
        self._limit = limit_seconds
        self._ledger = ledger
        # When the statement began by which the transaction first held others up; None while it does not.
        self._held_since: float | None = None
        self._last_began: float | None = None

    def before_statement(self) -> None:
        if self._held_since is None and self._last_began is not None and self._holds_up_others():
            self._held_since = self._last_began
        self._last_began = time.monotonic()
        if self._limit and self._held_since is not None:
            left = self._limit - (self._last_began - self._held_since)
            bound_lock_waits(self._connection, max(left, self._limit * _LEAST_SHARE))

    def _holds_up_others(self) -> bool:
        row = self._connection.execute(_HOLDS_UP_OTHERS, [self._ledger]).fetchone()
        return row == (True,)
