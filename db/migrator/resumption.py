"""Resume statements outside a transaction that were killed or failed, and remove what they left behind.

Only statements whose completion is visible in the catalog, or that may run again, are resumed. For the others the
migration stays dirty, and a person must decide.
"""

from __future__ import annotations

import re

from psycopg import sql

from db.migrator.connection import Connection
from db.migrator.script import LETTER, LETTER_DIGIT_OR_DOLLAR, Statement, tokens

_IDENTIFIER = rf'(?:"(?:[^"]|"")+"|{LETTER}{LETTER_DIGIT_OR_DOLLAR}*)'
_QUALIFIED = rf"{_IDENTIFIER}(?:\s*\.\s*{_IDENTIFIER})?"
_CREATE_INDEX = (
    rf"create\s+(?:unique\s+)?index\s+concurrently\s+(?:if\s+not\s+exists\s+)?(?P<index>{_IDENTIFIER})"
    rf"\s+on\s+(?:only\s+)?(?P<table>{_QUALIFIED})"
)
_DROP_INDEX = (
    rf"drop\s+index\s+concurrently\s+(?:if\s+exists\s+)?(?P<index>{_QUALIFIED})\s*(?:cascade|restrict)?\s*$"
)
_REINDEX = (
    rf"reindex\s*(?:\([^)]*\))?\s*(?P<kind>index|table)\s+(?:concurrently\s+)?(?P<name>{_QUALIFIED})\s*$"
)
_DETACH = (
    rf"alter\s+table\s+(?:if\s+exists\s+)?(?P<table>{_QUALIFIED})\s+detach\s+partition\s+(?P<partition>{_QUALIFIED})"
    r"\s+concurrently\s*$"
)
_RERUNNABLE = re.compile(r"(?:vacuum|analyze|reindex|refresh materialized view|cluster|alter system)\b")


def _match(form: str, statement: Statement) -> re.Match[str] | None:
    # Not compiled at import: the character classes take long to compile, and most runs need none of these.
    return re.match(form, statement.text, re.IGNORECASE)


def is_resumable(statement: Statement) -> bool:
    """Return whether an interrupted statement can be resumed automatically."""
    seen = (_CREATE_INDEX, _DROP_INDEX, _DETACH)
    return any(_match(form, statement) for form in seen) or bool(_RERUNNABLE.match(statement.head))


def is_concurrent(statement: Statement) -> bool:
    """Return whether the statement is CONCURRENTLY: it waits for older transactions without blocking others."""
    return any(kind == "word" and text.lower() == "concurrently" for kind, text, _ in tokens(statement.text))


def is_finished(connection: Connection, statement: Statement) -> bool:
    """Return whether the catalog shows that an interrupted statement completed.

    Finishes the detaching of a partition whose detach is pending.
    """
    if _match(_CREATE_INDEX, statement):
        index = _created_index(connection, statement)
        return index is not None and index[2] is True
    if match := _match(_DROP_INDEX, statement):
        row = connection.execute("SELECT to_regclass(%s) IS NULL", [match["index"]]).fetchone()
        return row == (True,)
    if match := _match(_DETACH, statement):
        names = [match["table"], match["partition"]]
        row = connection.execute(
            "SELECT inhdetachpending FROM pg_inherits"
            " WHERE inhparent = to_regclass(%s) AND inhrelid = to_regclass(%s)",
            names,
        ).fetchone()
        if row == (True,):
            connection.execute(f"ALTER TABLE {names[0]} DETACH PARTITION {names[1]} FINALIZE".encode())
        return row != (False,)
    return False


def drop_leftovers(connection: Connection, statement: Statement) -> tuple[str, ...]:
    """Drop the INVALID indexes that a failed CREATE INDEX or REINDEX CONCURRENTLY left, and return their names.

    Otherwise IF NOT EXISTS would accept an INVALID index, which no query uses. An index that another session is
    building is INVALID too, so the caller asks `builder_of` first.
    """
    found = _invalid_indexes(connection, statement)
    for schema, name in found:
        connection.execute(sql.SQL("DROP INDEX CONCURRENTLY {}").format(sql.Identifier(schema, name)))
    return tuple(name for _, name in found)


def builder_of(connection: Connection, statement: Statement) -> tuple[str, int] | None:
    """Return an index that `drop_leftovers` would drop but another session works on, and that session's process id."""
    for schema, name in _invalid_indexes(connection, statement):
        # A build keeps its lock on the table from the beginning to the end. Of another role's session,
        # pg_stat_progress_create_index shows only the process id. REINDEX and DROP lock the index itself.
        row = connection.execute(
            """
            SELECT pid
            FROM pg_index
            JOIN pg_locks ON relation IN (indexrelid, indrelid)
            WHERE indexrelid = to_regclass(%s) AND granted AND pid <> pg_backend_pid()
              AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
              AND CASE WHEN relation = indexrelid
                       THEN mode NOT IN ('AccessShareLock', 'RowShareLock', 'RowExclusiveLock')
                       ELSE pid IN (SELECT building.pid FROM pg_stat_progress_create_index AS building) END
            """,
            [sql.Identifier(schema, name).as_string(connection)],
        ).fetchone()
        if row is not None:
            return name, int(str(row[0]))
    return None


def _invalid_indexes(connection: Connection, statement: Statement) -> list[tuple[str, str]]:
    """Return schema and name of the INVALID indexes that the statement is about."""
    found = [index[:2] for index in [_created_index(connection, statement)] if index and not index[2]]
    if match := _match(_REINDEX, statement):
        found += _half_rebuilt(connection, match["kind"].lower(), match["name"])
    return found


def _created_index(connection: Connection, statement: Statement) -> tuple[str, str, bool] | None:
    """Return schema, name and validity of the index that CREATE INDEX CONCURRENTLY names, if its table has it."""
    match = _match(_CREATE_INDEX, statement)
    if match is None:
        return None
    row = connection.execute(
        """
        SELECT nspname, index.relname, indisvalid
        FROM pg_index
        JOIN pg_class AS index ON index.oid = indexrelid
        JOIN pg_namespace ON pg_namespace.oid = index.relnamespace
        WHERE indrelid = to_regclass(%s) AND index.relname = (parse_ident(%s))[1]
        """,
        [match["table"], match["index"]],
    ).fetchone()
    return None if row is None else (str(row[0]), str(row[1]), bool(row[2]))


def _half_rebuilt(connection: Connection, kind: str, name: str) -> list[tuple[str, str]]:
    """Return schema and name of the copies that an interrupted REINDEX CONCURRENTLY left."""
    rows = connection.execute(
        """
        SELECT nspname, index.relname
        FROM pg_index
        JOIN pg_class AS index ON index.oid = indexrelid
        JOIN pg_namespace ON pg_namespace.oid = index.relnamespace
        WHERE NOT indisvalid AND index.relname ~ '_cc(new|old)[0-9]*$'
          AND indrelid = coalesce((SELECT indrelid FROM pg_index WHERE indexrelid = to_regclass(%(index)s)),
                                  to_regclass(%(table)s))
        """,
        {"index": name if kind == "index" else None, "table": name if kind == "table" else None},
    ).fetchall()
    return [(str(schema), str(index)) for schema, index in rows]
