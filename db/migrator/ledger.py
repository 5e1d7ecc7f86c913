"""sqlx's table of applied migrations, and all statements that read or write it.

The methods that take an open connection raise the driver's errors unchanged. The others return SQL without parameters,
so that the migrator can send it in one round trip with other statements.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import LiteralString, cast

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
# An SQL expression for the ledger's name in this session. The parameter is the default.
_NAME = f"coalesce(nullif(current_setting('{LEDGER}', true), ''), %s)"
_ROWS = (
    "SELECT version, description, installed_on, success, checksum, execution_time FROM {} ORDER BY version"
)
_ROW = (
    "SELECT version, description, installed_on, success, checksum, execution_time FROM {} WHERE version = {}"
)
_LOCK = "LOCK TABLE {} IN SHARE ROW EXCLUSIVE MODE"
_INSERT = (
    "INSERT INTO {} (version, description, success, checksum, execution_time) VALUES ({}, {}, {}, {}, {})"
)
_MARK = "UPDATE {} SET success = {} WHERE version = {}"
_SET_CHECKSUM = "UPDATE {} SET checksum = {} WHERE version = {}"
_MOVE = "UPDATE {} SET version = {}, description = {} WHERE version = {}"
_SET_EXECUTION_TIME = "UPDATE {} SET execution_time = {} WHERE version = {}"
_DELETE = "DELETE FROM {} WHERE version = {}"
_NOTIFY = f"; SELECT pg_notify('{SCHEMA_CHANGED_CHANNEL}', '')"


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
        with connection.cursor(row_factory=class_row(LedgerRow)) as cursor:
            return tuple(cursor.execute(self._sql(_ROWS).encode()).fetchall())

    def row(self, connection: Connection, version: int) -> LedgerRow | None:
        """Return the row of one version, or None."""
        with connection.cursor(row_factory=class_row(LedgerRow)) as cursor:
            return cursor.execute(self._sql(_ROW, version).encode()).fetchone()

    def locked_row(self, connection: Connection, version: int, *before: str) -> LedgerRow | None:
        """Lock the ledger against other writers until the transaction ends, and return the row of one version, or None.

        Readers are not blocked. The SQL `before` runs in the same round trip.
        """
        with connection.cursor(row_factory=class_row(LedgerRow)) as cursor:
            cursor.execute("; ".join([*before, self._sql(_LOCK), self._sql(_ROW, version)]).encode())
            while cursor.nextset():
                pass
            return cursor.fetchone()

    def lock(self, connection: Connection) -> None:
        """Lock the ledger against other writers until the transaction ends. Readers are not blocked."""
        connection.execute(self._sql(_LOCK).encode())

    def insert(self, migration: Migration, *, success: bool = True) -> str:
        """Return SQL that inserts a migration's row, and notifies listeners if it is applied."""
        values = (
            migration.version,
            migration.description,
            success,
            migration.checksum,
            _EXECUTION_TIME_UNKNOWN,
        )
        return self._sql(_INSERT, *values) + (_NOTIFY if success else "")

    def mark(self, version: int, *, success: bool) -> str:
        """Return SQL that records that a migration outside a transaction has started (False) or finished (True)."""
        return self._sql(_MARK, success, version) + (_NOTIFY if success else "")

    def set_checksum(self, migration: Migration) -> str:
        """Return SQL that sets the row's checksum to that of the migration's current file."""
        return self._sql(_SET_CHECKSUM, migration.checksum, migration.version)

    def move(self, old: int, migration: Migration) -> str:
        """Return SQL that gives the row of version `old` the version and description of a migration.

        The migration has the same checksum.
        """
        return self._sql(_MOVE, migration.version, migration.description, old)

    def set_execution_time(self, version: int, nanoseconds: int) -> str:
        """Return SQL that records how long a migration took, which is known only after its commit."""
        return self._sql(_SET_EXECUTION_TIME, nanoseconds, version)

    def delete(self, version: int) -> str:
        """Return SQL that deletes the row of a reverted migration, and notifies listeners."""
        return self._sql(_DELETE, version) + _NOTIFY

    def _sql(self, query: LiteralString, *values: object) -> str:
        return sql.SQL(query).format(self._table, *map(sql.Literal, values)).as_string()
