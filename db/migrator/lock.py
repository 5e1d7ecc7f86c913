"""sqlx's advisory lock, which allows one migrator per database, and the identification of its holder.

The session that holds the lock also runs the migrations, so a migrator needs one connection, and the statement of a
killed migrator keeps the lock until the server ends it. The lock is polled in autocommit mode. Waiting in
pg_advisory_lock would keep a snapshot, and CREATE INDEX CONCURRENTLY in the holder waits for all snapshots: a deadlock.
Between polls the connection is closed, so that waiting migrators do not use up the role's connections.
"""

from __future__ import annotations

import random
import time
import zlib
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from itertools import count
from typing import NamedTuple, cast

import psycopg

from db.migrator.connection import Connection, open_connection, reset_of
from db.migrator.errors import LockHeld

_SQLX_FACTOR = 0x3D32AD9E
_POLL_SECONDS = (0.05, 0.25)
_LONGEST_POLL_SECONDS = 1.0


# The tables on which other sessions hold locks and that a statement names.
_HOLDERS = """
    SELECT pid, string_agg(DISTINCT relname::text, ', ' ORDER BY relname::text)
    FROM pg_locks JOIN pg_class ON pg_class.oid = relation
    WHERE locktype = 'relation' AND granted AND pid <> pg_backend_pid() AND relname = ANY(%s)
      AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
    GROUP BY pid ORDER BY pid
"""


class Holder(NamedTuple):
    """A session that holds locks: its process id, its description, and the tables' names."""

    pid: int
    session: str
    tables: str


def lock_key(database: str) -> int:
    """Return the advisory lock key of a database, as sqlx computes it (sqlx-postgres, src/migrate.rs)."""
    return _SQLX_FACTOR * zlib.crc32(database.encode())


@dataclass(frozen=True)
class LockedSession:
    """The session that holds the migration lock."""

    connection: Connection
    key: int
    to_reset: str
    conninfo: str

    def reset(self, *statements: str) -> None:
        """Reset the session, but keep the lock, and run statements in the same round trip.

        A SET in one migration therefore does not affect the next. Raises LockHeld if a migration has released the lock,
        as pg_advisory_unlock_all does, and another migrator has taken it.
        """
        # Each call takes the lock once more. The end of migration_lock releases it completely.
        text = "; ".join([self.to_reset, *statements, f"SELECT pg_try_advisory_lock({self.key})"])
        cursor = self.connection.execute(text.encode())
        while cursor.nextset():
            pass
        if cursor.fetchone() != (True,):
            raise LockHeld(
                "the file released the migrator's lock, and another migrator has taken it; remove pg_advisory_unlock"
                " and pg_advisory_unlock_all from the file, and run again"
            )


@contextmanager
def migration_lock(
    conninfo: str,
    wait_seconds: float,
    on_wait: Callable[[str], None] = lambda holder: None,
    first: Connection | None = None,
) -> Iterator[LockedSession]:
    """Hold the database's migration lock during the block, and yield the session that holds it.

    `first` is an open connection for the first attempt. It is closed if the lock is not free.

    Raises LockHeld, with the holder, after `wait_seconds`. `on_wait` is called once, with the holder, if the lock is
    not free at once.
    """
    deadline = time.monotonic() + wait_seconds
    for attempt in count():
        with ExitStack() as stack:
            connection = first if first and attempt == 0 else stack.enter_context(open_connection(conninfo))
            (database,) = connection.execute("SELECT current_database()").fetchone() or ("",)
            key = lock_key(str(database))
            if _try(connection, key):
                try:
                    yield LockedSession(connection, key, reset_of(connection), conninfo)
                finally:
                    # A broken connection has lost the lock already; keep the error that broke it.
                    with suppress(psycopg.Error):
                        connection.execute("SELECT pg_advisory_unlock_all()")
                return
            # pg_stat_activity shows the details of the login's other sessions to the login, but not to role owner.
            connection.execute("SET ROLE NONE")
            holder = _holder(connection, key)
            connection.close()
        if attempt == 0:
            on_wait(holder)
        if time.monotonic() >= deadline:
            raise LockHeld(
                f"another migrator holds the lock of database {database}: {holder}; waited {wait_seconds:g} s."
                " Wait until it finishes or terminate its session, and run again"
            )
        time.sleep(max(0.0, min(_pause(attempt), deadline - time.monotonic())))


def _pause(attempt: int) -> float:
    """Return a random pause in seconds after an attempt, from 0. It grows up to the longest one."""
    # 1.5**1751 is no longer a float, and a wait may take more attempts.
    growing = random.uniform(*_POLL_SECONDS) * 1.5 ** min(attempt, 20)
    return min(growing, _LONGEST_POLL_SECONDS * random.uniform(0.5, 1))


def _try(connection: Connection, key: int) -> bool:
    row = connection.execute("SELECT pg_try_advisory_lock(%s)", [key]).fetchone()
    return row == (True,)


def _holder(connection: Connection, key: int) -> str:
    row = connection.execute(
        """
        SELECT pid FROM pg_locks
        WHERE locktype = 'advisory' AND granted AND objsubid = 1
          AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
          AND classid::bigint = %s AND objid::bigint = %s
        """,
        [key >> 32, key & 0xFFFFFFFF],
    ).fetchone()
    return describe_session(connection, None if row is None else row[0])


def describe_session(connection: Connection, pid: object) -> str:
    """Return pid, role, application and origin of a session, as far as the current role may see them."""
    row = connection.execute(
        """
        SELECT usename, application_name, host(client_addr), date_trunc('second', backend_start)
        FROM pg_stat_activity WHERE pid = %s::int
        """,
        [pid],
    ).fetchone()
    if row is None:
        return "a session that has just ended"
    user, application, address, since = row
    parts = [f"server process {pid}"]
    parts += [f"role {user}"] if user else []
    parts += [f"application {application!r}"] if application else []
    parts += [f"from {address}"] if address else []
    parts += [f"connected since {since}"] if since else []
    return ", ".join(parts)


def table_holders(connection: Connection, names: Collection[str], most: int) -> tuple[list[Holder], int]:
    """Return other sessions that hold locks on tables of these names, at most `most`, and the number of the rest.

    Resets the session's role.
    """
    # pg_stat_activity shows the details of the login's other sessions to the login, but not to role owner.
    connection.execute("SET ROLE NONE")
    found = connection.execute(_HOLDERS, [sorted(names)]).fetchall()
    shown = [
        Holder(cast("int", pid), describe_session(connection, pid), str(tables))
        for pid, tables in found[:most]
    ]
    connection.execute("RESET ROLE")
    return shown, len(found) - len(shown)
