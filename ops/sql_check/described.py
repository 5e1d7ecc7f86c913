"""The server's description of a query: types of parameters and columns, and nullability. Nothing is executed.

A table's column can be null if the table allows it, or if the plan shows that an outer join may have no row for it, or
that it is below ROLLUP, CUBE or GROUPING SETS. The server does not know whether an expression can be null.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg.pq import ExecStatus

from db.named_query import NamedQuery
from db.own_queries import quoted_parameter
from ops.sql_check.declared import Column

Connection = psycopg.Connection[tuple[Any, ...]]
# `%%(id)s` is text.
_PARAMETER = re.compile(rb"(?<!%)((?:%%)*)%\((\w+)\)s")
_COPY = re.compile(r"COPY (\w+) \(([^)]*)\) FROM STDIN")
_INSERT = re.compile(r"(?:INSERT INTO|COPY) (\w+)(?: AS \w+)? \(([^)]*)\)")
# Transaction control has neither parameters nor columns, and cannot be prepared.
_CONTROL = re.compile(r"(BEGIN|COMMIT|ROLLBACK|SAVEPOINT|RELEASE)\b")
# The side of a join that may have no row. The planner turns a LEFT JOIN that only keeps unmatched rows into Anti.
_LEFT_OUT = {"Left": ("Inner",), "Anti": ("Inner",), "Right": ("Outer",), "Full": ("Inner", "Outer")}
_REQUIRED = """
SELECT attname FROM pg_attribute
WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped
    AND attnotnull AND NOT atthasdef AND attidentity = '' AND NOT attname = ANY(%s::text[])
ORDER BY attnum
"""
_PYTHON = {
    "int2": "int", "int4": "int", "int8": "int", "oid": "int",
    "text": "str", "varchar": "str", "name": "str", "bpchar": "str",
    "bool": "bool", "float4": "float", "float8": "float",
    "json": "dict", "jsonb": "dict", "bytea": "bytes", "timestamptz": "datetime",
    "date": "date", "numeric": "Decimal", "uuid": "UUID",
}  # fmt: skip


class NotDescribed(Exception):
    """The query cannot be described. The message is the server's own, except for a parameter in a comment."""


@dataclass(frozen=True)
class Description:
    """Parameters in the order of their first use, and columns in the statement's order.

    `omitted` lists the required columns, as `table.column`, that an INSERT or a COPY has no value for. `changes_rows`
    is what the plan says. It is not in the lockfile.
    """

    parameters: dict[str, str]
    columns: list[Column]
    omitted: list[str] = field(default_factory=list)
    changes_rows: bool = False


class Describer:
    """Describes queries with one connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        connection.execute("SET plan_cache_mode = force_generic_plan")
        rows = connection.execute("SELECT oid, typname, typelem, typcategory FROM pg_type").fetchall()
        names = {oid: name for oid, name, _, _ in rows}
        self._types = {
            oid: f"list[{_python(names[element])}]" if category == "A" and element else _python(name)
            for oid, name, element, category in rows
        }
        not_null = connection.execute(
            "SELECT attrelid, attnum, attnotnull FROM pg_attribute WHERE attnum > 0"
        )
        self._not_null = {(table, column): flag for table, column, flag in not_null}
        # A partition is treated as its table.
        self._tables: dict[int, str] = dict(
            connection.execute("SELECT oid, relname FROM pg_class").fetchall()
        )
        self._parents: dict[str, str] = dict(
            connection.execute(
                "SELECT child.relname, parent.relname FROM pg_inherits"
                " JOIN pg_class child ON child.oid = inhrelid JOIN pg_class parent ON parent.oid = inhparent"
            ).fetchall()
        )

    def describe(self, query: NamedQuery) -> Description:
        """Describe a query. Raise NotDescribed with the reason."""
        text = query.sql.decode()
        if _CONTROL.match(text):
            return Description({}, [])
        if copied := _COPY.match(text):
            # Only its table and its columns can be wrong.
            self._prepare(f"SELECT {copied[2]} FROM {copied[1]}".encode())
            return Description({}, [], self._omitted(text), changes_rows=True)
        if problem := quoted_parameter(query):
            raise NotDescribed(problem)
        names = list(dict.fromkeys(name.decode() for _, name in _PARAMETER.findall(query.sql)))
        sql = _PARAMETER.sub(lambda m: b"%b$%d" % (m[1], names.index(m[2].decode()) + 1), query.sql)
        result = self._prepare(sql.replace(b"%%", b"%"))
        parameters = {name: self._types[result.param_type(n)] for n, name in enumerate(names)}
        plan = self._plan(len(names))
        optional = self._left_out(plan)
        columns = []
        for n in range(result.nfields):
            name = (result.fname(n) or b"").decode()
            table, number = result.ftable(n), result.ftablecol(n)
            is_guarded = table and self._not_null[table, number] and self._tables[table] not in optional
            is_nullable = not is_guarded and name not in query.never_null
            columns.append(Column(name, self._types[result.ftype(n)], is_nullable))
        changes_rows = any(node.get("Node Type") == "ModifyTable" for node in _nodes(plan))
        return Description(parameters, columns, self._omitted(text), changes_rows)

    def _prepare(self, sql: bytes) -> Any:
        pgconn = self._connection.pgconn
        pgconn.exec_(b"DEALLOCATE ALL")
        for result in (pgconn.prepare(b"checked", sql), pgconn.describe_prepared(b"checked")):
            if result.status != ExecStatus.COMMAND_OK:
                raise NotDescribed(_reason(result))
        return result

    def _plan(self, parameters: int) -> dict[str, Any]:
        """Return the plan of the prepared query. A utility statement, such as TRUNCATE, has an empty one."""
        arguments = f"({', '.join(['NULL'] * parameters)})" if parameters else ""
        result = self._connection.pgconn.exec_(
            f"EXPLAIN (VERBOSE, FORMAT JSON) EXECUTE checked{arguments}".encode()
        )
        if result.status != ExecStatus.TUPLES_OK:
            raise NotDescribed(_reason(result))
        explained = json.loads(result.get_value(0, 0) or b"[]")[0]
        return explained["Plan"] if isinstance(explained, dict) else {}

    def _left_out(self, plan: dict[str, Any]) -> set[str]:
        """Return the tables whose columns a query may set to null."""
        optional = list(_optional_nodes(plan))
        if any(node.get("One-Time Filter") == "false" for node in optional):
            # The planner has replaced scans that find nothing, and does not say which tables they were of.
            return set(self._tables.values())
        names = {str(node["Relation Name"]) for node in optional if "Relation Name" in node}
        return names | {self._parents[name] for name in names & self._parents.keys()}

    def _omitted(self, sql: str) -> list[str]:
        """Return the required columns without a value in the statement's INSERTs. Triggers are not considered."""
        omitted = []
        for table, columns in _INSERT.findall(sql):
            given = [column.strip() for column in columns.split(",")]
            rows = self._connection.execute(_REQUIRED, [table, given], prepare=False).fetchall()
            omitted += [f"{table}.{column}" for (column,) in rows]
        return omitted


def _optional_nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield every node whose columns a node above may set to null, including nodes of its CTEs."""
    expressions = {
        str(node["Subplan Name"]).removeprefix("CTE "): node
        for node in _nodes(plan)
        if str(node.get("Subplan Name", "")).startswith("CTE ")
    }
    seen = set()
    waiting = list(_set_to_null(plan))
    while waiting:
        for node in _nodes(waiting.pop()):
            yield node
            name = node.get("CTE Name")
            if name in expressions and name not in seen:
                seen.add(name)
                waiting.append(expressions[name])


def _set_to_null(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the sides that an outer join may leave out, and what ROLLUP, CUBE and GROUPING SETS group.

    A row of a grouping set has null for each key that is not in the set. The plan names the keys by aliases, which do
    not lead to a table through a subquery, so all columns count.
    """
    for node in _nodes(plan):
        sides = ("Outer",) if "Grouping Sets" in node else _LEFT_OUT.get(node.get("Join Type", ""), ())
        yield from (child for child in node.get("Plans", []) if child.get("Parent Relationship") in sides)


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield a plan's node and all nodes below it."""
    yield plan
    for child in plan.get("Plans", []):
        yield from _nodes(child)


def _python(name: str) -> str:
    return _PYTHON.get(name, name)


def _reason(result: Any) -> str:
    from psycopg.pq import DiagnosticField

    state, message = (
        (result.error_field(field) or b"").decode()
        for field in (DiagnosticField.SQLSTATE, DiagnosticField.MESSAGE_PRIMARY)
    )
    return f"{message} ({state})"
