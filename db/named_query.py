"""The SQL of the data-access module: read once from db/queries/*.sql, each statement named and described.

A file holds entries of this form; what follows the name says whether a lost answer may be asked for again.
`takes` names the parameters with their Python types, `gives` a Struct of db.models that has the columns as its
fields, a type where there is one column, or nothing. `groundwork sql check` holds all of it against the schema
(docs/sql-check.md).

    -- name: get_user :read
    -- A user by its id.
    -- takes: id int
    -- gives: User
    SELECT ...
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

QUERIES_DIR = Path(__file__).parent / "queries"
_HEADER = re.compile(r"^-- name: ([a-z][a-z0-9_]*) :(read|write)$")
_CLAUSES = ("takes", "gives", "never null")
_TYPE = re.compile(
    r"(?:int|str|bool|float|bytes|dict|datetime|list\[(?:int|str|bool|float|bytes|datetime)(?: \| None)?\])"
    r"(?: \| None)?"
)


@dataclass(frozen=True)
class NamedQuery:
    """One statement. `is_read`: it changes nothing, so it may be sent twice."""

    name: str
    description: str
    sql: bytes
    is_read: bool
    # Parameter -> Python type, as written.
    takes: Mapping[str, str]
    # None where a query returns nothing.
    gives: str | None
    # Columns that are never null though the server cannot tell: expressions, and columns of views.
    never_null: frozenset[str] = frozenset()


@cache
def queries(file_name: str) -> dict[str, NamedQuery]:
    """The queries of one file of db/queries, by name. ValueError names the line that is not understood."""
    path = QUERIES_DIR / f"{file_name}.sql"
    return parse_queries(path.read_text(encoding="utf-8"), path.name)


def parse_queries(text: str, file_name: str) -> dict[str, NamedQuery]:
    """Entries of one file; comments before the first one belong to the file."""
    found: dict[str, NamedQuery] = {}
    preamble, *blocks = re.split(r"^(?=-- name:)", text, flags=re.MULTILINE)
    line_number = preamble.count("\n") + 1
    for block in blocks:
        where = f"{file_name}:{line_number}"
        line_number += block.count("\n")
        header, *lines = block.strip().splitlines()
        match = _HEADER.match(header)
        if match is None:
            raise ValueError(f"{where}: {header!r} should read `-- name: a_name :read` or `:write`")
        name = match[1]
        body_start = next((i for i, line in enumerate(lines) if not line.startswith("--")), len(lines))
        comments = [line.removeprefix("--").strip() for line in lines[:body_start]]
        clauses = {
            clause: text
            for clause, colon, text in (comment.partition(": ") for comment in comments)
            if colon and clause in _CLAUSES
        }
        description = " ".join(each for each in comments if each.partition(":")[0] not in _CLAUSES)
        sql = "\n".join(lines[body_start:]).strip().removesuffix(";")
        if not description or not sql:
            raise ValueError(f"{where}: query {name} needs a description and a statement")
        if missing := {"takes", "gives"} - clauses.keys():
            raise ValueError(f"{where}: query {name} needs `-- {min(missing)}: ...`, or `nothing`")
        if name in found:
            raise ValueError(f"{where}: query {name} is there twice")
        found[name] = NamedQuery(
            name,
            description,
            sql.encode(),
            match[2] == "read",
            _parameters(clauses["takes"], f"{where}: query {name}"),
            None if clauses["gives"] == "nothing" else clauses["gives"],
            frozenset(clauses.get("never null", "").replace(",", " ").split()),
        )
    return found


def _parameters(takes: str, where: str) -> dict[str, str]:
    """`id int, email str | None` as a mapping; empty for `nothing`."""
    if takes == "nothing":
        return {}
    parameters: dict[str, str] = {}
    for item in takes.split(","):
        name, _, kind = item.strip().partition(" ")
        if not _TYPE.fullmatch(kind) or name in parameters:
            raise ValueError(f"{where}: {item.strip()!r} in `takes` should read `name type`, like `id int`")
        parameters[name] = kind
    return parameters
