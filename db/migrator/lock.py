"""sqlx's advisory lock: one migrator a database, and a name for whoever holds it.

The lock is polled on a connection of its own in autocommit. Waiting in pg_advisory_lock would hold a
snapshot, and CREATE INDEX CONCURRENTLY in the holder waits for snapshots: a deadlock. Nobody keeps a connection
between two polls, or those who wait would take the role's last one from the one who works.
"""

from __future__ import annotations

import random
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import count

import psycopg

from db.migrator.connection import Connection, open_connection
from db.migrator.errors import LockHeld, PoolerRefused

_SQLX_FACTOR = 0x3D32AD9E
# The two-key space of advisory locks, apart from sqlx's: held by the session at work outside a transaction.
_WORK_LOCK = (0x67776D67, 0)
_POLL_SECONDS = (0.05, 0.25)
_LONGEST_POLL_SECONDS = 1.0


def lock_key(database: str) -> int:
    """The advisory lock of a database, as sqlx computes it (sqlx-postgres, src/migrate.rs)."""
    return _SQLX_FACTOR * zlib.crc32(database.encode())


@contextmanager
def migration_lock(
    conninfo: str, wait_seconds: float, on_wait: Callable[[str], None] = lambda holder: None
) -> Iterator[None]:
    """Hold the database's migration lock. LockHeld, naming the holder, after `wait_seconds`.

    `on_wait` is called once, with the holder, if there is something to wait for.
    """
    deadline = time.monotonic() + wait_seconds
    for attempt in count():
        with open_connection(conninfo) as connection:
            if attempt == 0:
                _refuse_transaction_pooler(conninfo, connection)
            # As itself the login sees the details of its other sessions in pg_stat_activity; as owner it does not.
            connection.execute("SET ROLE NONE")
            (database,) = connection.execute("SELECT current_database()").fetchone() or ("",)
            key = lock_key(str(database))
            if _try(connection, "SELECT pg_try_advisory_lock(%s)", key):
                try:
                    yield
                finally:
                    # A broken connection has lost the lock already, and must not hide the error that broke it.
                    with suppress(psycopg.OperationalError):
                        connection.execute("SELECT pg_advisory_unlock(%s)", [key])
                return
            holder = _holder(connection, key)
        if attempt == 0:
            on_wait(holder)
        if time.monotonic() >= deadline:
            raise LockHeld(
                f"another migrator holds the lock of database {database}: {holder}; waited {wait_seconds:g} s. Let it"
                " end, or end its session, and run again"
            )
        pause = min(
            random.uniform(*_POLL_SECONDS) * 1.5**attempt, _LONGEST_POLL_SECONDS * random.uniform(0.5, 1)
        )
        time.sleep(max(0.0, min(pause, deadline - time.monotonic())))


def await_former_worker(connection: Connection, wait_seconds: float) -> None:
    """Wait for a server process that still works on a killed migrator's statement, then take its place.

    The session keeps this second lock until it ends, which is after its statement has; the first lock went
    with the killed migrator's other connection. LockHeld after `wait_seconds`.
    """
    deadline = time.monotonic() + wait_seconds
    while not _try(connection, "SELECT pg_try_advisory_lock(%s::int, %s::int)", *_WORK_LOCK):
        if time.monotonic() >= deadline:
            raise LockHeld(
                "a statement is still at work for a migrator that is gone;"
                f" waited {wait_seconds:g} s. Let it end, or end its session, and run again"
            )
        time.sleep(random.uniform(*_POLL_SECONDS))


def _try(connection: Connection, query: str, *keys: int) -> bool:
    row = connection.execute(query, keys).fetchone()
    return row is not None and bool(row[0])


def _holder(connection: Connection, key: int) -> str:
    row = connection.execute(
        """
        SELECT pid, usename, application_name, host(client_addr), date_trunc('second', backend_start)
        FROM pg_locks JOIN pg_stat_activity USING (pid)
        WHERE locktype = 'advisory' AND granted AND objsubid = 1
          AND pg_locks.database = (SELECT oid FROM pg_database WHERE datname = current_database())
          AND classid::bigint = %s AND objid::bigint = %s
        """,
        [key >> 32, key & 0xFFFFFFFF],
    ).fetchone()
    if row is None:
        return "a session that has just ended"
    pid, user, application, address, since = row
    parts = [f"server process {pid}", f"role {user}"]
    parts += [f"application {application!r}"] if application else []
    parts += [f"from {address}"] if address else []
    parts += [f"connected since {since}"] if since else []
    return ", ".join(parts)


def _refuse_transaction_pooler(conninfo: str, connection: Connection) -> None:
    server_pid = _server_pid(connection)
    if server_pid == connection.info.backend_pid:
        return
    # A pooler made up the process id of the handshake. In session mode it keeps the server connection for
    # this client; in transaction mode it hands the one that is idle now to the next transaction.
    with open_connection(conninfo) as other, other.transaction():
        if _server_pid(other) != server_pid:
            return
    raise PoolerRefused(
        "a pooler in transaction mode stands before the database, and the migration lock would protect"
        " nothing; use the server's own address, or a pool in session mode"
    )


def _server_pid(connection: Connection) -> object:
    row = connection.execute("SELECT pg_backend_pid()").fetchone()
    return row and row[0]
