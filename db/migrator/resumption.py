"""What a killed or failed statement outside a transaction may have left behind, and how to go on from it.

Only statements whose end can be seen in the catalog, or that may simply run again, are resumed; the rest
stays dirty for a person to judge.
"""

from __future__ import annotations

import re

from psycopg import sql

from db.migrator.connection import Connection
from db.migrator.script import LETTER, LETTER_DIGIT_OR_DOLLAR, Statement

_IDENTIFIER = rf'(?:"(?:[^"]|"")+"|{LETTER}{LETTER_DIGIT_OR_DOLLAR}*)'
_QUALIFIED = rf"{_IDENTIFIER}(?:\s*\.\s*{_IDENTIFIER})?"
_CREATE_INDEX = re.compile(
    rf"create\s+(?:unique\s+)?index\s+concurrently\s+(?:if\s+not\s+exists\s+)?(?P<index>{_IDENTIFIER})"
    rf"\s+on\s+(?:only\s+)?(?P<table>{_QUALIFIED})",
    re.IGNORECASE,
)
_DROP_INDEX = re.compile(
    rf"drop\s+index\s+concurrently\s+(?:if\s+exists\s+)?(?P<index>{_QUALIFIED})\s*(?:cascade|restrict)?\s*$",
    re.IGNORECASE,
)
_RERUNNABLE = re.compile(r"(?:vacuum|analyze|reindex|refresh materialized view|cluster|alter system)\b")


def is_resumable(statement: Statement) -> bool:
    """True if a statement that was interrupted can be taken up again without a person looking."""
    return bool(
        _CREATE_INDEX.match(statement.text)
        or _DROP_INDEX.match(statement.text)
        or _RERUNNABLE.match(statement.head)
    )


def is_finished(connection: Connection, statement: Statement) -> bool:
    """True if the catalog shows that an interrupted statement took its whole effect."""
    if _CREATE_INDEX.match(statement.text):
        index = _created_index(connection, statement)
        return index is not None and index[2] is True
    if match := _DROP_INDEX.match(statement.text):
        row = connection.execute("SELECT to_regclass(%s) IS NULL", [match["index"]]).fetchone()
        return row == (True,)
    return False


def drop_invalid_index(connection: Connection, statement: Statement) -> str | None:
    """Drop the INVALID index that a failed CREATE INDEX CONCURRENTLY left; its name, None if there is none.

    Without this IF NOT EXISTS would take it for the index that was meant, and no query would ever use it.
    """
    index = _created_index(connection, statement)
    if index is None or index[2]:
        return None
    schema, name, _ = index
    connection.execute(sql.SQL("DROP INDEX CONCURRENTLY {}").format(sql.Identifier(schema, name)))
    return name


def _created_index(connection: Connection, statement: Statement) -> tuple[str, str, bool] | None:
    """Schema, name, and validity of the index a CREATE INDEX CONCURRENTLY names, if it is on its table."""
    match = _CREATE_INDEX.match(statement.text)
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
