"""Named queries of the application itself. Their parameters and rows are checked, and the pool executes them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any, TypeVar, get_origin

from msgspec import Struct, ValidationError, convert
from psycopg.rows import BaseRowFactory
from psycopg.types.json import Jsonb

from db.errors import InvalidInput, InvalidRow
from db.named_query import NamedQuery, parse_queries, read_queries
from db.validation import (
    any_float,
    bigint,
    boolean,
    day,
    decimal,
    json_object,
    limited_json,
    text,
    timestamp,
    uuid,
)

T = TypeVar("T")
# Other statements could end the transaction, or change the session of a connection that later callers use.
_STATEMENT = re.compile(r"\(*\s*(?:SELECT|WITH|VALUES|INSERT|UPDATE|DELETE|MERGE)\b", re.IGNORECASE)
_WRITE = re.compile(
    r"\b(?:INSERT\s+INTO|DELETE\s+FROM|MERGE\s+INTO|UPDATE\b.*?\bSET)\b", re.IGNORECASE | re.DOTALL
)
_UTILITY_WRITE = re.compile(r"TRUNCATE\b|COPY\s+[\w.]+\s*(?:\([^()]*\)\s*)?FROM\b", re.IGNORECASE)
# `%%(id)s` is text.
_PARAMETER = re.compile(r"(?<!%)(?:%%)*%\((\w+)\)")
# Literals, quoted names and comments.
_QUOTED = re.compile(
    r"""\b[eE]'(?:''|\\.|[^'\\])*' | '(?:''|[^'])*' | "[^"]*" | --[^\n]* | /\*.*?\*/ | \$(\w*)\$.*?\$\1\$""",
    re.DOTALL | re.VERBOSE,
)


def _bytes(name: str, value: object) -> bytes:
    if not isinstance(value, bytes):
        raise InvalidInput(name, f"{type(value).__name__} is not bytes")
    return value


# For each of db.named_query.SCALARS.
_CHECKS: Mapping[str, Callable[[str, object], object]] = {
    "int": bigint,
    "str": text,
    "bool": boolean,
    "float": any_float,
    "bytes": _bytes,
    "dict": lambda name, value: Jsonb(json_object(name, value)),
    "datetime": timestamp,
    "date": day,
    "Decimal": decimal,
    "UUID": uuid,
}


def load_queries(source: Path | str) -> dict[str, NamedQuery]:
    """Return the queries of a file, or of a string in the same format, by name.

        -- name: busy_users :read
        -- Count the activities of each user since a time.
        -- takes: since datetime, limit int
        -- gives: BusyUser
        SELECT user_id, count(*) AS activities FROM activities WHERE timestamp >= %(since)s GROUP BY 1 LIMIT %(limit)s;

    `:read` marks a query that changes nothing. It is sent again if its connection was lost. `:write` marks all others.
    `gives` is only a description, except that a write without RETURNING needs `nothing`. Raises ValueError for an
    invalid query.
    """
    queries = read_queries(source) if isinstance(source, Path) else parse_queries(source, "queries")
    for query in queries.values():
        if problem := _problem(query):
            raise ValueError(f"query {query.name}: {problem}")
    return queries


def _problem(query: NamedQuery) -> str | None:
    sql = query.sql.decode()
    if not _STATEMENT.match(sql):
        return f"begins with {sql[:20]!r}; use SELECT, WITH, VALUES, INSERT, UPDATE, DELETE or MERGE"
    if problem := quoted_parameter(query):
        return problem
    if odd := set(_PARAMETER.findall(sql)) ^ query.takes.keys():
        return f"{min(odd)} must be both in `takes` and in the statement"
    bare = _bare(sql)
    if ";" in bare:
        return "has several statements; give each a name"
    if query.is_read and changes_rows(query):
        return "changes rows; mark it as `:write`, so that it is not sent twice"
    if query.gives is not None and _WRITE.match(bare) and "returning" not in bare.lower():
        return "has no RETURNING clause; write `-- gives: nothing`"
    return None


def changes_rows(query: NamedQuery) -> bool:
    """Return whether a statement's text changes rows. What a function that it calls changes is not known."""
    bare = _bare(query.sql.decode())
    return bool(_WRITE.search(bare) or _UTILITY_WRITE.match(bare))


def quoted_parameter(query: NamedQuery) -> str | None:
    """Return what is wrong with the first parameter that is only in a comment or in quotes, or None.

    The driver sends a value for it, and the server has no place for the value.
    """
    sql = query.sql.decode()
    outside = set(_PARAMETER.findall(_bare(sql)))
    for name in _PARAMETER.findall(sql):
        if name not in outside:
            return (
                f"parameter {name} is only in a comment or in quotes; remove it there, or write %%({name})s"
            )
    return None


def _bare(sql: str) -> str:
    """Return a statement with literals and quoted names emptied, and comments replaced by a space."""
    return _QUOTED.sub(lambda found: " " if found[0].startswith(("--", "/*")) else "''", sql)


def checked_parameters(query: NamedQuery, parameters: Mapping[str, object]) -> dict[str, object]:
    """Return the parameters in the form that the driver needs. Raises InvalidInput if they do not match `takes`."""
    for name in query.takes.keys() ^ parameters.keys():
        problem = "is missing" if name in query.takes else "is unknown"
        raise InvalidInput(name, f"{problem}; query {query.name} takes {', '.join(query.takes) or 'nothing'}")
    return {name: _checked(name, parameters[name], kind) for name, kind in query.takes.items()}


def _checked(name: str, value: object, kind: str) -> object:
    if kind.endswith(" | None") and value is None:
        return None
    kind = kind.removesuffix(" | None")
    if kind.startswith("list["):
        if not isinstance(value, list | tuple):
            raise InvalidInput(name, f"{type(value).__name__} is not a list")
        items = [_checked(name, each, kind[len("list[") : -1]) for each in value]
        if kind.startswith("list[dict"):
            # Each of them is within the limits.
            limited_json(name, value, " at once")
        return items
    return _CHECKS[kind](name, value)


def rows_of(query: NamedQuery, row: type[T]) -> BaseRowFactory[T]:
    """Return a row factory that converts each row to `row`: by column name, by position, or a single value."""
    # The class of a parametrized type, such as dict[str, Any].
    shape = get_origin(row) or row
    by_name = is_dataclass(shape) or (isinstance(shape, type) and issubclass(shape, Struct | dict))
    by_position = shape is tuple or hasattr(shape, "_fields")

    def factory(cursor: Any) -> Callable[[Any], T]:
        names = [column.name for column in cursor.description or ()]

        def make(values: Any) -> T:
            given: object
            if by_name:
                given = dict(zip(names, values, strict=True))
            elif by_position:
                given = tuple(values)
            else:
                given = values[0] if len(values) == 1 else tuple(values)
            try:
                return convert(given, row)
            except ValidationError as error:
                # A union, such as int | None, has no name.
                kind = row.__name__ if isinstance(row, type) else row
                raise InvalidRow(
                    query.name, f"its columns ({', '.join(names)}) do not fit {kind}: {error}"
                ) from error

        return make

    return factory
