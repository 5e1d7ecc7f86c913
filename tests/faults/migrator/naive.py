"""A naive migrator for negative controls, which waits for its lock in the server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import db.migrator.repair
import db.migrator.runner
from db.migrator.connection import Connection, open_connection, reset_of
from db.migrator.lock import LockedSession, lock_key

# Many times the duration of the migrations that are waited for.
PATIENCE_SECONDS = 10


def lock_blocking() -> None:
    """Make this process wait in pg_advisory_lock, as sqlx's library does."""

    @contextmanager
    def blocking_lock(
        conninfo: str,
        wait_seconds: float,
        on_wait: Callable[[str], None] = lambda holder: None,
        first: Connection | None = None,
    ) -> Iterator[LockedSession]:
        with open_connection(conninfo) as connection, open_connection(conninfo) as worker:
            (database,) = connection.execute("SELECT current_database()").fetchone() or ("",)
            key = lock_key(str(database))
            # The index is built on another connection than the lock holder's, so the server cannot detect the deadlock.
            connection.execute(f"SET statement_timeout = '{PATIENCE_SECONDS}s'")
            connection.execute("SELECT pg_advisory_lock(%s)", [key])
            try:
                # The worker takes another lock, because this session has the one that it would take.
                yield LockedSession(worker, key + 1, reset_of(worker), conninfo)
            finally:
                connection.execute("SELECT pg_advisory_unlock(%s)", [key])

    db.migrator.runner.migration_lock = blocking_lock
