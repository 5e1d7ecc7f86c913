"""Drop everything in a schema, so that its migrations can be applied from the first one again."""

from __future__ import annotations

import time

from psycopg.errors import DeadlockDetected, LockNotAvailable

from db.migrator.connection import LOCK_NOT_AVAILABLE, Connection
from db.migrator.errors import LockHeld
from db.migrator.lock import migration_lock
from db.migrator.lock_wait import DEFAULT_LIMITS, LockLimits, bound_lock_waits

# The objects that are directly in the schema. Extensions and their objects, and default privileges, are kept.
_DROPS = """
    SELECT pg_catalog.format('DROP %s IF EXISTS %s CASCADE', CASE type
        WHEN 'statistics object' THEN 'statistics'
        -- DROP AGGREGATE does not take the identity of one without arguments.
        WHEN 'aggregate' THEN 'routine'
        ELSE type END, identity)
    FROM pg_depend AS inside, pg_identify_object(classid, objid, objsubid)
    WHERE refclassid = 'pg_namespace'::regclass::oid AND refobjid = current_schema()::regnamespace::oid
      AND deptype = 'n'
      AND classid NOT IN ('pg_default_acl'::regclass::oid, 'pg_extension'::regclass::oid)
      AND NOT EXISTS (
        SELECT FROM pg_depend AS of
        WHERE of.classid = inside.classid AND of.objid = inside.objid AND of.deptype = 'e'
      )
    ORDER BY identity
"""


def drop_objects(conninfo: str, limits: LockLimits = DEFAULT_LIMITS) -> int:
    """Drop every object in the first schema of the search_path, with the ledger, and return their number.

    All or nothing: it is one transaction, under the lock of the migrators. The schema itself and its privileges are
    kept. Raises LockHeld, and has dropped nothing, if a table stays locked.
    """
    with migration_lock(conninfo, limits.migrator_lock_seconds) as session:
        for pause in limits.pauses():
            try:
                return _drop(session.connection, limits.table_lock_seconds)
            except (LockNotAvailable, DeadlockDetected) as error:
                if pause is None:
                    raise LockHeld(
                        "another session keeps a lock on a table of the schema; nothing was dropped. Find it in"
                        " pg_stat_activity, and run again when it has ended",
                        sqlstate=LOCK_NOT_AVAILABLE,
                    ) from error
                time.sleep(pause)
    raise AssertionError("the last pause is None")


def _drop(connection: Connection, lock_seconds: float) -> int:
    with connection.transaction():
        bound_lock_waits(connection, lock_seconds)
        drops = [str(statement) for (statement,) in connection.execute(_DROPS).fetchall()]
        for statement in drops:
            connection.execute(statement.encode())
    return len(drops)
