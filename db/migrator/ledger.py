"""sqlx's table of applied migrations: its exact form, and every statement that reads or writes it.

Nothing here decides; the runner does. All functions take a connection and translate nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from psycopg import sql
from psycopg.errors import DuplicateTable, UniqueViolation
from psycopg.rows import class_row

from db.migrator.connection import Connection
from db.migrator.errors import MigrationError
from db.migrator.source import Migration

TABLE = "_sqlx_migrations"
# Listeners (a pool whose prepared statements went stale) hear of each change to the schema.
SCHEMA_CHANGED_CHANNEL = "schema_changed"
_EXECUTION_TIME_UNKNOWN = -1

_CREATE = """
    CREATE TABLE IF NOT EXISTS {} (
        version BIGINT PRIMARY KEY,
        description TEXT NOT NULL,
        installed_on TIMESTAMPTZ NOT NULL DEFAULT now(),
        success BOOLEAN NOT NULL,
        checksum BYTEA NOT NULL,
        execution_time BIGINT NOT NULL
    )
"""


@dataclass(frozen=True)
class LedgerRow:
    """One applied (or begun, where `success` is False) migration; `execution_time` in nanoseconds, -1 unknown."""

    version: int
    description: str
    installed_on: datetime
    success: bool
    checksum: bytes
    execution_time: int


class Ledger:
    """The ledger of one database, named with its schema: a migration may change the search_path."""

    def __init__(self, schema: str) -> None:
        self._table = sql.Identifier(schema, TABLE)

    @property
    def name(self) -> str:
        """Its name with its schema, quoted, as SQL takes it."""
        return self._table.as_string()

    @classmethod
    def find(cls, connection: Connection) -> Ledger | None:
        """The ledger on the session's search_path, None where there is none yet."""
        row = connection.execute(
            "SELECT nspname FROM pg_class"
            " JOIN pg_namespace ON pg_namespace.oid = relnamespace"
            " WHERE pg_class.oid = to_regclass(%s)",
            [TABLE],
        ).fetchone()
        return None if row is None else cls(str(row[0]))

    @classmethod
    def ensure(cls, connection: Connection) -> Ledger:
        """The ledger, made in the first schema of the search_path where there is none."""
        if (found := cls.find(connection)) is not None:
            return found
        (schema,) = connection.execute("SELECT current_schema()").fetchone() or (None,)
        if schema is None:
            raise MigrationError(
                "search_path names no schema that exists, so there is none for the tables; log in as migrator,"
                " or create the schema first"
            )
        ledger = cls(str(schema))
        try:
            connection.execute(sql.SQL(_CREATE).format(ledger._table))
        except (DuplicateTable, UniqueViolation):
            # sqlx-cli takes no lock, and IF NOT EXISTS loses a race with it; the table is there now.
            pass
        return ledger

    def rows(self, connection: Connection) -> tuple[LedgerRow, ...]:
        """Every row by version."""
        return self._select(connection, sql.SQL("ORDER BY version"), [])

    def row(self, connection: Connection, version: int) -> LedgerRow | None:
        """The row of one version."""
        rows = self._select(connection, sql.SQL("WHERE version = %s"), [version])
        return rows[0] if rows else None

    def lock(self, connection: Connection) -> None:
        """Keep every other writer of the ledger out until the transaction ends; readers go on."""
        connection.execute(sql.SQL("LOCK TABLE {} IN SHARE ROW EXCLUSIVE MODE").format(self._table))

    def insert(self, connection: Connection, migration: Migration, *, success: bool = True) -> None:
        """Write a migration's row, and tell the listeners if it is applied with that."""
        connection.execute(
            sql.SQL(
                "INSERT INTO {} (version, description, success, checksum, execution_time)"
                " VALUES (%s, %s, %s, %s, %s)"
            ).format(self._table),
            [
                migration.version,
                migration.description,
                success,
                migration.checksum,
                _EXECUTION_TIME_UNKNOWN,
            ],
        )
        if success:
            self._notify(connection)

    def mark(self, connection: Connection, version: int, *, success: bool) -> None:
        """Say that a migration that runs outside a transaction has begun (False) or ended (True)."""
        connection.execute(
            sql.SQL("UPDATE {} SET success = %s WHERE version = %s").format(self._table), [success, version]
        )
        if success:
            self._notify(connection)

    def set_checksum(self, connection: Connection, migration: Migration) -> None:
        """Take over the checksum that a migration's file has now."""
        connection.execute(
            sql.SQL("UPDATE {} SET checksum = %s WHERE version = %s").format(self._table),
            [migration.checksum, migration.version],
        )

    def set_execution_time(self, connection: Connection, version: int, nanoseconds: int) -> None:
        """How long a migration took; known only after its commit."""
        connection.execute(
            sql.SQL("UPDATE {} SET execution_time = %s WHERE version = %s").format(self._table),
            [nanoseconds, version],
        )

    def delete(self, connection: Connection, version: int) -> None:
        """Forget a migration that was taken back."""
        connection.execute(sql.SQL("DELETE FROM {} WHERE version = %s").format(self._table), [version])
        self._notify(connection)

    def _select(
        self, connection: Connection, clause: sql.SQL, parameters: Sequence[object]
    ) -> tuple[LedgerRow, ...]:
        query = sql.SQL(
            "SELECT version, description, installed_on, success, checksum, execution_time FROM {} "
        ).format(self._table)
        with connection.cursor(row_factory=class_row(LedgerRow)) as cursor:
            return tuple(cursor.execute(query + clause, parameters).fetchall())

    @staticmethod
    def _notify(connection: Connection) -> None:
        connection.execute("SELECT pg_notify(%s, '')", [SCHEMA_CHANGED_CHANNEL])
