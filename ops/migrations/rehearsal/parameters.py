"""Generate plausible parameters for named queries from the rows of a database, by parameter name and type.

All parameters of one call come from the same row, so that e.g. an id matches its row_version. Unique columns of an
INSERT get new values. Parameters without a matching column get a default of their type.
"""

from __future__ import annotations

import itertools
import random
import re
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from db.migrator.connection import Connection
from db.named_query import NamedQuery

_TABLE = re.compile(
    r'\b(?:FROM|JOIN|INTO|UPDATE|COPY)\s+(?:ONLY\s+)?(?:"?[\w$-]+"?\s*\.\s*)?"?([\w$-]+)"?', re.IGNORECASE
)
_SAMPLE = 200
_LIST = 5
# Greater than all ids of GitHub and of the sample data.
_FIRST_NEW = 10**18
_PLACES = ("before_", "after_", "old_")
_COUNTS = {"limit": 50, "sample": 200, "batch_size": 100}
_UNIQUE = """
SELECT DISTINCT relname, attname
FROM pg_index JOIN pg_attribute ON attrelid = indrelid AND attnum = ANY(indkey)
JOIN pg_class ON pg_class.oid = indrelid JOIN pg_namespace ON pg_namespace.oid = relnamespace
WHERE indisunique AND nspname !~ '^pg_' AND nspname <> 'information_schema'
"""
# If two schemas have a table of this name, the visible one counts.
_TABLES = """
SELECT DISTINCT ON (relname) relname, pg_class.oid::regclass::text
FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
WHERE nspname !~ '^pg_' AND nspname <> 'information_schema' AND relkind IN ('r', 'p') AND NOT relispartition
  AND has_table_privilege(pg_class.oid, 'SELECT')
ORDER BY relname, pg_table_is_visible(pg_class.oid) DESC, nspname
"""
# A value of each type, as text that the server converts.
_EXAMPLES = """
SELECT typname, CASE typcategory
    WHEN 'N' THEN '1' WHEN 'B' THEN 'true' WHEN 'D' THEN now()::text WHEN 'T' THEN '1 day' WHEN 'A' THEN '{}'
    WHEN 'I' THEN '127.0.0.1' WHEN 'R' THEN 'empty'
    WHEN 'E' THEN (SELECT enumlabel FROM pg_enum WHERE enumtypid = pg_type.oid ORDER BY enumsortorder LIMIT 1)
    ELSE 'rehearsal' END
FROM pg_type WHERE typtype IN ('b', 'd', 'e', 'r')
"""

Row = Mapping[str, Any]


class Parameters:
    """Samples each table once, and then generates parameters. Thread-safe."""

    def __init__(self, connection: Connection) -> None:
        from psycopg.rows import dict_row

        self._rows: dict[str, list[Row]] = {}
        self._types: dict[tuple[str, str], int] = {}
        for table, name in connection.execute(_TABLES).fetchall():
            with connection.cursor(row_factory=dict_row) as cursor:
                cursor.execute(f"SELECT * FROM {name} LIMIT {_SAMPLE}".encode())
                self._rows[str(table)] = list(cursor.fetchall())
                self._types |= {(str(table), each.name): each.type_code for each in cursor.description or ()}
        self._examples = {str(name): str(text) for name, text in connection.execute(_EXAMPLES).fetchall()}
        self._unique = {(str(table), str(column)) for table, column in connection.execute(_UNIQUE).fetchall()}
        self._new = itertools.count(_FIRST_NEW + random.getrandbits(40))

    def table_of(self, query: NamedQuery) -> str | None:
        """Return the first table that a query names, or None."""
        names = _TABLE.findall(query.sql.decode())
        return next((name for name in names if name in self._rows), None)

    def for_query(self, query: NamedQuery, rng: random.Random) -> dict[str, Any]:
        """Return a value for each parameter."""
        table = self.table_of(query)
        rows = self._rows.get(table or "", [])
        sample = rng.sample(rows, min(_LIST, len(rows)))
        text = query.sql.decode().upper()
        needs_new = text.startswith("INSERT") and "ON CONFLICT" not in text
        row: Row = sample[0] if sample else {}
        return {
            name: self._list(name, kind, sample)
            if kind.startswith("list[")
            else self._value(name, kind.removesuffix(" | None"), table if needs_new else None, row, sample)
            for name, kind in query.takes.items()
        }

    def row_for_copy(self, table: str, columns: list[str], rng: random.Random) -> list[Any] | None:
        """Return a new row of `table`, or None if the table has no row to copy values from."""
        if not self._rows.get(table):
            return None
        row = rng.choice(self._rows[table])
        return [
            self._fresh(row[column]) if (table, column) in self._unique else _sendable(row[column])
            for column in columns
        ]

    def types_for_copy(self, table: str, columns: list[str]) -> list[int]:
        """Return the OIDs of the columns' types, which the rows of a binary COPY must have."""
        return [self._types[table, column] for column in columns]

    def _value(self, name: str, kind: str, inserted: str | None, row: Row, sample: list[Row]) -> Any:
        if name in _COUNTS:
            return _COUNTS[name]
        if name == "records":
            return _as_json(sample)
        if name in ("first", "last") and sample and "timestamp" in row:
            moments = [each["timestamp"] for each in sample]
            return min(moments) if name == "first" else max(moments)
        if name == "before" and "timestamp" in row:
            return row["timestamp"]
        column = next((name.removeprefix(place) for place in _PLACES if name.startswith(place)), name)
        if column not in row:
            return self._made_up(name, kind)
        if inserted is not None and (inserted, column) in self._unique:
            return self._fresh(row[column])
        value = _sendable(row[column])
        return self._made_up(name, kind) if value is None else value

    def _list(self, name: str, kind: str, sample: list[Row]) -> list[Any]:
        item = kind.removeprefix("list[").removesuffix("]").removesuffix(" | None")
        columns = (name.removesuffix("s"), f"user{name.removesuffix('s')}")
        column = next((each for each in columns if sample and each in sample[0]), None)
        if column is None:
            return [self._made_up(name, item) for _ in sample or range(_LIST)]
        values = [each[column] for each in sample]
        return [self._made_up(name, item) if value is None else value for value in values]

    def _made_up(self, name: str, kind: str) -> Any:
        from psycopg.types.json import Jsonb

        if kind == "datetime":
            return datetime.now(UTC) - (timedelta(days=7) if name in ("since", "first") else timedelta())
        values = {
            "int": 1,
            "str": "rehearsal",
            "bool": True,
            "float": 1.0,
            "bytes": b"rehearsal",
            "dict": Jsonb({}),
            "date": datetime.now(UTC).date(),
            "Decimal": Decimal(1),
            "UUID": uuid.uuid4(),
        }
        return values[kind] if kind in values else self._examples.get(kind)

    def _fresh(self, value: Any) -> Any:
        if isinstance(value, str):
            return uuid.uuid4().hex
        if isinstance(value, uuid.UUID):
            return uuid.uuid4()
        # In a two-column key, one new value is enough to make the key new.
        return next(self._new) if isinstance(value, int) else value


def _as_json(rows: list[Row]) -> Any:
    """Return the columns of the rows that JSON can express, as an array of objects."""
    from psycopg.types.json import Jsonb

    plain = (int, str, dict, type(None))
    return Jsonb([{name: each for name, each in row.items() if isinstance(each, plain)} for row in rows])


def _sendable(value: Any) -> Any:
    from psycopg.types.json import Jsonb

    return Jsonb(value) if isinstance(value, dict) else value
