"""sqlx's table of applied migrations, and all statements that read or write it.

The methods that take an open connection raise the driver's errors unchanged. The others return SQL without parameters,
so that the migrator can send it in one round trip with other statements.

The queries run with the search_path of the migrations. Any role that may create a function or an operator in one of its
schemas could give it exactly the types of a call, and the server prefers that to a built-in one for any type. So a
function for any type is called with its schema, and operands have the types of a built-in operator.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import LiteralString, TypeVar, cast

import psycopg
from psycopg import sql
from psycopg.errors import (
    DuplicateTable,
    InsufficientPrivilege,
    InvalidSchemaName,
    LockNotAvailable,
    UniqueViolation,
)
from psycopg.pq import TransactionStatus
from psycopg.rows import class_row

from db.migrator.connection import Connection
from db.migrator.errors import LockHeld, MigrationError, NoLedger, SecondLedger, UntrustedLedger
from db.migrator.lock import table_holders
from db.migrator.source import Migration
from db.migrator.url import DEFAULT_PATH, LEDGER

TABLE = "_sqlx_migrations"
# Each change of the schema is announced on this channel.
SCHEMA_CHANGED_CHANNEL = "schema_changed"
_EXECUTION_TIME_UNKNOWN = -1
# Readers wait only for a session that changes the ledger's table itself.
_READ_MILLISECONDS = 10_000
# A wait as long as statement_timeout would be reported as a slow query. A setting of 0 means no limit.
_LIMIT_LOCK_WAIT = """
    SELECT set_config('lock_timeout', least({}, nullif(setting::int, 0) / 2)::text, true)
    FROM pg_catalog.pg_settings WHERE name = 'statement_timeout'
"""
_Row = TypeVar("_Row")

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
NAME = f"coalesce(nullif(current_setting('{LEDGER}', true), ''), %s)"
# Whether the session trusts the ledger's owner, who may run code with its privileges by a trigger, a rule or a policy.
# pg_has_role counts a superuser as a member of every role. A role that cannot create a ledger only reads it.
_TRUSTED = """(
    owner.rolname = current_user OR owner.rolsuper
    OR relowner = (SELECT datdba FROM pg_database WHERE datname = current_database())
    OR NOT (SELECT bool_or(rolsuper) FROM pg_roles WHERE rolname IN (current_user, session_user))
       AND (pg_has_role(current_user, relowner, 'MEMBER') OR pg_has_role(session_user, relowner, 'MEMBER'))
    OR NOT has_schema_privilege(relnamespace, 'CREATE')
)"""
# The session's ledger, and the tables of its name that other programs may use, on the search_path. A name with a schema
# that was chosen for the ledger excludes no others.
_FIND = f"""
    WITH named AS (SELECT name, parse_ident(name) AS parts FROM {NAME} AS name), found AS (
        -- to_regclass fails for a schema without USAGE.
        SELECT parts, pg_catalog.cardinality(parts) AS length, CASE
            WHEN pg_catalog.cardinality(parts) = 1
                OR (SELECT has_schema_privilege(oid, 'USAGE') FROM pg_namespace WHERE nspname = parts[1])
            THEN to_regclass(name)::oid
        END AS ledger FROM named
    )
    SELECT nspname, relname, pg_class.oid = ledger IS TRUE, relkind IN ('r', 'p'), owner.rolname, current_user,
           {_TRUSTED}
    FROM found, pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
    JOIN pg_roles AS owner ON owner.oid = relowner
    WHERE pg_class.oid = ledger
       OR relname = parts[length] AND relkind IN ('r', 'p') AND nspname = ANY (current_schemas(false))
      AND (length = 1 OR nullif(current_setting('{DEFAULT_PATH}', true), '') IS NOT NULL)
      AND has_table_privilege(pg_class.oid, 'SELECT')
    ORDER BY pg_catalog.array_position(current_schemas(false), nspname)
"""
_USE_DEFAULT_PATH = f"SELECT set_config('search_path', current_setting('{DEFAULT_PATH}'), true)"
_ELSEWHERE = f"""
    SELECT session_user, current_user,
           pg_catalog.array_agg(nspname::text ORDER BY nspname) FILTER (WHERE nspname IS NOT NULL)
    FROM parse_ident({NAME}) AS parts LEFT JOIN (
        pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
    ) ON relname = parts[pg_catalog.cardinality(parts)] AND relkind IN ('r', 'p') AND relpersistence <> 't'
        AND (pg_catalog.cardinality(parts) = 1 OR nspname = parts[1])
"""
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
        self.schema = schema
        self.table = table
        self._table = sql.Identifier(schema, table)

    @property
    def name(self) -> str:
        """The table's name with its schema, quoted for SQL."""
        return self._table.as_string()

    @classmethod
    def find(cls, connection: Connection) -> Ledger | None:
        """Return the session's ledger, on its search_path unless its name has a schema, or None.

        Raises SecondLedger if another program with the same database URL may use another table, and UntrustedLedger if
        another role could run code with the session's privileges by means of the ledger.
        """
        default_path = _value(connection, f"SELECT nullif(current_setting('{DEFAULT_PATH}', true), '')")
        if default_path is None:
            rows = connection.execute(_FIND, [TABLE]).fetchall()
        else:
            with connection.transaction(force_rollback=True):
                connection.execute(_USE_DEFAULT_PATH)
                rows = connection.execute(_FIND, [TABLE]).fetchall()
        ours = next((row for row in rows if row[2]), None)
        found = None if ours is None else cls(str(ours[0]), str(ours[1]))
        others = [cls(str(schema), str(table)) for schema, table, is_ours, *_ in rows if not is_ours]
        if others:
            raise SecondLedger(_second_ledger(connection, found, others[0], is_set=default_path is not None))
        if found is not None and ours is not None:
            _require_trust(found, *ours[3:])
        return found

    @classmethod
    def ensure(cls, connection: Connection) -> Ledger:
        """Return the ledger. Create it if it does not exist, in its schema or in the first one of the search_path.

        Raises NoLedger if its name has no schema, and a schema that is not on the search_path has a table of its name.
        """
        if (found := cls.find(connection)) is not None:
            return found
        refuse_elsewhere(connection)
        row = connection.execute(
            f"SELECT current_schema(), parse_ident({NAME}), current_user", [TABLE]
        ).fetchone()
        assert row is not None
        first, name, user = row
        *schema, table = map(str, cast("list[str]", name))
        if first is None and not schema:
            raise MigrationError(
                "search_path contains no existing schema, so there is no place for the tables; log in as migrator,"
                " or create the schema first"
            )
        ledger = cls(schema[0] if schema else str(first), table)
        home = sql.Identifier(schema[0] if schema else str(first)).as_string()
        try:
            connection.execute(sql.SQL(_CREATE).format(ledger._table))
        except InvalidSchemaName as exc:
            raise MigrationError(
                f"schema {home} of the ledger does not exist; add it to create-schemas, or create it",
                sqlstate=exc.sqlstate,
            ) from exc
        except InsufficientPrivilege as exc:
            raise MigrationError(
                f"role {user} may not create the ledger in schema {home} ({exc.diag.message_primary}); as the schema's"
                f" owner, run `GRANT CREATE, USAGE ON SCHEMA {home} TO {user}`, or set the key `schema` to another one",
                sqlstate=exc.sqlstate,
            ) from exc
        except (DuplicateTable, UniqueViolation):
            # sqlx-cli takes no lock, and IF NOT EXISTS can lose a race with it. The table exists now.
            pass
        # Another role may have created it in the meantime.
        return cls.find(connection) or ledger

    def rows(self, connection: Connection) -> tuple[LedgerRow, ...]:
        """Return all rows, ordered by version.

        Raises LockHeld if another session keeps the table locked for more than 10 s, or for more than half of the
        session's statement_timeout. In a transaction the limit is that of the transaction.
        """
        with connection.cursor(row_factory=class_row(LedgerRow)) as cursor:
            try:
                return tuple(_read(cursor, self._sql(_ROWS)))
            except LockNotAvailable as exc:
                raise self._locked(connection, exc) from exc

    def _locked(self, connection: Connection, error: LockNotAvailable) -> LockHeld:
        """Return the error for a ledger that cannot be read, with the session that has locked it."""
        who, end = "another session", "Find it in pg_stat_activity, and end it"
        # If this fails, the error is reported without the session.
        with suppress(psycopg.Error):
            for holder in table_holders(connection, [self.table], most=1)[0]:
                who = holder.session
                end = f"End that session (`SELECT pg_terminate_backend({holder.pid})`)"
        return LockHeld(
            f"{who} has locked the ledger {self.name}, so that it cannot be read; nothing was changed. {end} or its"
            " transaction, and run again",
            sqlstate=error.sqlstate,
        )

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


def is_elsewhere(connection: Connection) -> bool:
    """Return whether a table with the ledger's name exists that this session does not see as the ledger."""
    _, _, schemas = _elsewhere(connection)
    return bool(schemas)


def _elsewhere(connection: Connection) -> tuple[str, str, list[str]]:
    """Return the session's login and role, and the schemas that have a table of the ledger's name."""
    row = connection.execute(_ELSEWHERE, [TABLE]).fetchone()
    assert row is not None
    return str(row[0]), str(row[1]), cast("list[str]", row[2] or [])


def refuse_elsewhere(connection: Connection) -> None:
    """Raise NoLedger if a session without a ledger would create a second one, beside that of another schema."""
    if _value(connection, f"SELECT pg_catalog.cardinality(parse_ident({NAME}))", TABLE) != 1:
        return
    _, user, schemas = _elsewhere(connection)
    if not schemas:
        return
    table = str(_value(connection, f"SELECT {NAME}", TABLE))
    names = [f"{schema}.{table}" for schema in schemas]
    home = _value(connection, "SELECT current_schema()") or "app"
    raise NoLedger(
        f"role {user} sees no ledger on its search_path, but there is {', '.join(names)}; no migration was run. If"
        f" these migrations were applied there, set the search_path (options[search_path]={schemas[0]} in the URL, or"
        " ALTER ROLE ... SET search_path), and use the role that applied them. If it is another program's, set"
        f' the key `ledger` to the name of yours, such as "{home}.{table}"'
    )


def describe_absence(connection: Connection) -> str:
    """Return a sentence for a session in which Ledger.find returns None: which role sees no ledger, and why."""
    login, user, schemas = _elsewhere(connection)
    who = f"role {user}" if user == login else f"role {user} (login {login})"
    if not schemas:
        return f"there is no ledger visible to {who}, because no migration has been applied"
    names = ", ".join(schemas)
    return (
        f"there is no ledger visible to {who}: either no migration has been applied, or the ledger is in schema"
        f" {names}, which has a table of its name. Then use the role that applies migrations, or put the schema on the"
        " search_path and grant USAGE on it and SELECT on the table"
    )


def _require_trust(ledger: Ledger, is_table: object, owner: object, user: object, is_trusted: object) -> None:
    if not is_table:
        raise UntrustedLedger(
            f"{ledger.name} is not a table, so it cannot be the ledger; nothing was changed. Drop it, or set the key"
            " `ledger` to the name of the ledger, with its schema"
        )
    if not is_trusted:
        raise UntrustedLedger(
            f"the ledger {ledger.name} belongs to role {owner}, whose triggers and policies would run with the"
            f" privileges of role {user}; nothing was changed. If it is the right ledger, log in as {owner}, or run"
            f" `ALTER TABLE {ledger.name} OWNER TO {user}`. Otherwise drop it"
        )


def _second_ledger(connection: Connection, found: Ledger | None, other: Ledger, *, is_set: bool) -> str:
    theirs = f"{other.name} ({_count(connection, other)})"
    if is_set:
        name = _value(connection, f"SELECT {NAME}", TABLE)
        ours = f"{name} (does not exist)" if found is None else f"{found.name} ({_count(connection, found)})"
        found_by = (
            f"there are two ledgers: the key `schema` selects {ours}, but programs without this key, such as sqlx-cli,"
            f" use {theirs}"
        )
    else:
        assert found is not None
        found_by = (
            f"found two ledgers on the search_path: {found.name} ({_count(connection, found)}), which is used, and"
            f" {theirs}"
        )
    return (
        f"{found_by}; no migration was run. Keep the ledger that has the applied migrations, drop the other one, and"
        " give all programs the same search_path: put options[search_path]=SCHEMA into the URL, or run ALTER ROLE ..."
        " SET search_path. If the other ledger belongs to another program, set the key `ledger` to the name of yours,"
        " with its schema"
    )


def _read(cursor: psycopg.Cursor[_Row], query: str) -> list[_Row]:
    """Return a query's rows. Outside a transaction its lock waits are limited, in the same round trip."""
    if cursor.connection.info.transaction_status == TransactionStatus.IDLE:
        # Two statements in one message are a transaction, at whose end the setting ends.
        query = f"{_LIMIT_LOCK_WAIT.format(_READ_MILLISECONDS)}; {query}"
    cursor.execute(query.encode())
    while cursor.nextset():
        pass
    return cursor.fetchall()


def _count(connection: Connection, ledger: Ledger) -> str:
    if not _value(connection, "SELECT has_table_privilege(%s, 'SELECT')", ledger.name):
        return "unreadable"
    try:
        ((number,),) = _read(connection.cursor(), f"SELECT count(*) FROM {ledger.name}")
    except LockNotAvailable:
        return "locked by another session"
    return "1 row" if number == 1 else f"{number} rows"


def _value(connection: Connection, query: str, *parameters: object) -> object:
    row = connection.execute(query.encode(), parameters or None).fetchone()
    return None if row is None else row[0]
