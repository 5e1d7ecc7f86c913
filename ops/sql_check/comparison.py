"""Compare a query's declaration in Python with the server's description."""

from __future__ import annotations

from db.named_query import NamedQuery
from db.own_queries import changes_rows
from ops.sql_check.declared import declared_columns, declared_parameters
from ops.sql_check.described import Description


def mismatches(key: str, query: NamedQuery, described: Description) -> list[str]:
    """Return a line for each mismatch, with the query, the parameter or column, and both types."""
    return [
        *_mode_mismatches(key, query, described),
        *(
            f"{key}: no value is given for {column}, which is NOT NULL without a default"
            for column in described.omitted
        ),
        *_parameter_mismatches(key, query, described),
        *_column_mismatches(key, query, described),
    ]


def _mode_mismatches(key: str, query: NamedQuery, described: Description) -> list[str]:
    if not query.is_read or not (described.changes_rows or changes_rows(query)):
        return []
    return [f"{key}: changes rows; mark it as `:write`, so that it is sent once, and never to a replica"]


def _parameter_mismatches(key: str, query: NamedQuery, described: Description) -> list[str]:
    declared = declared_parameters(query)
    lines = []
    for name in {**declared, **described.parameters}:
        if name not in described.parameters:
            lines.append(f"{key}: `takes` has {name}, which the statement does not use")
        elif name not in declared:
            lines.append(f"{key}: parameter {name} ({described.parameters[name]}) is not in `takes`")
        elif declared[name] != described.parameters[name]:
            lines.append(
                f"{key}: parameter {name} is {declared[name]} in Python and {described.parameters[name]} in Postgres"
            )
    return lines


def _column_mismatches(key: str, query: NamedQuery, described: Description) -> list[str]:
    declared = declared_columns(query)
    unknown = query.never_null - {column.name for column in described.columns}
    lines = [f"{key}: `never null` has {name}, which is not one of its columns" for name in sorted(unknown)]
    if len(declared) != len(described.columns) or any(
        mine.name not in ("", theirs.name) for mine, theirs in zip(declared, described.columns, strict=False)
    ):
        mine = ", ".join(column.name or column.type for column in declared) or "nothing"
        theirs = ", ".join(column.name for column in described.columns) or "nothing"
        return [*lines, f"{key}: {query.gives} has the fields {mine}, but the statement the columns {theirs}"]
    for mine_, theirs_ in zip(declared, described.columns, strict=True):
        if mine_.type != theirs_.type or (theirs_.is_nullable and not mine_.is_nullable):
            hint = (
                ""
                if mine_.type != theirs_.type
                else "; if it is never null, declare it with `-- never null: ...`"
            )
            lines.append(f"{key}: column {theirs_.name} is {mine_} in Python and {theirs_} in Postgres{hint}")
    return lines
