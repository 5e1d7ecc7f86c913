"""sqlx's table of applied migrations, and all statements that read or write it.

The methods take an open connection and raise the driver's errors unchanged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import cast

from psycopg import sql
from psycopg.errors import DuplicateTable, UniqueViolation
from psycopg.rows import class_row

from db.migrator.connection import Connection
from db.migrator.errors import MigrationError
from db.migrator.source import Migration
from db.migrator.url import LEDGER

TABLE = "_sqlx_migrations"
# Each change of the schema is announced on this channel.
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
# An expression for the session's name of the ledger, with the default as its parameter.
_NAME = f"coalesce(nullif(current_setting('{LEDGER}', true), ''), %s)"


@dataclass(frozen=True)
class LedgerRow:
    """An applied migration, or one that started but did not finish if `success` is false.

    `execution_time` is in nanoseconds, -1 if unknown. `checksum` is the SHA-384 of the up file.
    """

    version: int
    description: str
    installed_on: datetime
    success: bool
    checksum: bytes
    execution_time: int


class Ledger:
    """The ledger of one database. It is accessed by schema and name, because a migration may change the search_path.

    Its name is that of the session's setting `groundwork.ledger`, which the connection string sets, or sqlx's default.
    """

    def __init__(self, schema: str, table: str) -> None:
        self.table = table
        self._table = sql.Identifier(schema, table)

    @property
    def name(self) -> str:
        """The table's name with its schema, quoted for SQL."""
        return self._table.as_string()

    @classmethod
    def find(cls, connection: Connection) -> Ledger | None:
        """Return the session's ledger, on its search_path unless its name has a schema, or None."""
        row = connection.execute(
            "SELECT nspname, relname FROM pg_class"
            " JOIN pg_namespace ON pg_namespace.oid = relnamespace"
            f" WHERE pg_class.oid = to_regclass({_NAME})",
            [TABLE],
        ).fetchone()
        return None if row is None else cls(*map(str, row))

    @classmethod
    def ensure(cls, connection: Connection) -> Ledger:
        """Return the ledger. Create it if it does not exist, in its schema or in the first one of the search_path."""
        if (found := cls.find(connection)) is not None:
            return found
        row = connection.execute(f"SELECT current_schema(), parse_ident({_NAME})", [TABLE]).fetchone()
        assert row is not None
        first, name = row
        *schema, table = map(str, cast("list[str]", name))
        if first is None and not schema:
            raise MigrationError(
                "search_path contains no existing schema, so there is no place for the tables; log in as migrator,"
                " or create the schema first"
            )
        ledger = cls(schema[0] if schema else str(first), table)
        try:
            connection.execute(sql.SQL(_CREATE).format(ledger._table))
        except (DuplicateTable, UniqueViolation):
            # sqlx-cli takes no lock, and IF NOT EXISTS can lose a race with it. The table exists now.
            pass
        return ledger

    def rows(self, connection: Connection) -> tuple[LedgerRow, ...]:
        """Return all rows, ordered by version."""
        return self._select(connection, sql.SQL("ORDER BY version"), [])

    def row(self, connection: Connection, version: int) -> LedgerRow | None:
        """Return the row of one version, or None."""
        rows = self._select(connection, sql.SQL("WHERE version = %s"), [version])
        return rows[0] if rows else None

    def lock(self, connection: Connection) -> None:
        """Lock the ledger against other writers until the transaction ends. Readers are not blocked."""
        connection.execute(sql.SQL("LOCK TABLE {} IN SHARE ROW EXCLUSIVE MODE").format(self._table))

    def insert(self, connection: Connection, migration: Migration, *, success: bool = True) -> None:
        """Insert a migration's row, and notify listeners if it is applied."""
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
        """Record that a migration outside a transaction has started (False) or finished (True)."""
        connection.execute(
            sql.SQL("UPDATE {} SET success = %s WHERE version = %s").format(self._table), [success, version]
        )
        if success:
            self._notify(connection)

    def set_checksum(self, connection: Connection, migration: Migration) -> None:
        """Set the row's checksum to that of the migration's current file."""
        connection.execute(
            sql.SQL("UPDATE {} SET checksum = %s WHERE version = %s").format(self._table),
            [migration.checksum, migration.version],
        )

    def move(self, connection: Connection, old: int, migration: Migration) -> None:
        """Give the row of version `old` the version and the description of a migration with the same checksum."""
        connection.execute(
            sql.SQL("UPDATE {} SET version = %s, description = %s WHERE version = %s").format(self._table),
            [migration.version, migration.description, old],
        )

    def set_execution_time(self, connection: Connection, version: int, nanoseconds: int) -> None:
        """Record how long a migration took, which is known only after its commit."""
        connection.execute(
            sql.SQL("UPDATE {} SET execution_time = %s WHERE version = %s").format(self._table),
            [nanoseconds, version],
        )

    def delete(self, connection: Connection, version: int) -> None:
        """Delete the row of a reverted migration."""
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
