"""Named SQL statements, read from db/queries/*.sql.

A file has one entry like the one below for each statement. `:read` marks a statement that changes nothing, so that it
may be sent again after a lost connection; `:write` marks the others. `takes` lists the parameters with their Python
types. `gives` is a Struct whose fields are the columns in order, a Python type for a single column, or `nothing`.
`groundwork sql check` checks all entries against the schema (docs/sql-check.md).

    -- name: get_user :read
    -- Find a user by its id.
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
# Misspelled ones too, such as `--Name : a`. Otherwise their statement would be part of the entry above.
_START = re.compile(r"^(?=[ \t]*--[ \t]*name[ \t]*:)", re.MULTILINE | re.IGNORECASE)
_BLOCK_COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)
_CLAUSES = ("takes", "gives", "never null")
# The Python types of parameters and single columns.
SCALARS = ("int", "str", "bool", "float", "bytes", "dict", "datetime", "date", "Decimal", "UUID")
_SCALAR = f"(?:{'|'.join(SCALARS)})"
_TYPE = re.compile(rf"(?:{_SCALAR}|list\[{_SCALAR}(?: \| None)?\])(?: \| None)?")


@dataclass(frozen=True)
class NamedQuery:
    """One statement. If `is_read`, it changes nothing and may be sent twice."""

    name: str
    description: str
    sql: bytes
    is_read: bool
    # Parameter name to Python type, as written in `takes`.
    takes: Mapping[str, str]
    # None where a query returns nothing.
    gives: str | None
    # Columns that are never null although the server does not know it: expressions, and columns of views.
    never_null: frozenset[str] = frozenset()


@cache
def queries(file_name: str) -> dict[str, NamedQuery]:
    """Return the queries of one file in db/queries, by name. Raises ValueError with the line that is invalid."""
    return read_queries(QUERIES_DIR / f"{file_name}.sql")


def read_queries(path: Path) -> dict[str, NamedQuery]:
    """Return the queries of a UTF-8 file, by name. Raises ValueError as `parse_queries` does, or OSError."""
    try:
        return parse_queries(path.read_text(encoding="utf-8"), path.name)
    except UnicodeDecodeError as error:
        raise ValueError(f"{path.name} is not UTF-8 (byte {error.start}); save it as UTF-8") from error


def parse_queries(text: str, file_name: str) -> dict[str, NamedQuery]:
    """Parse the entries of one file. Comments before the first entry describe the file.

    Raises ValueError with the line that is invalid.
    """
    text = text.removeprefix("\ufeff")
    if (place := text.find("\0")) >= 0:
        line = text.count("\n", 0, place) + 1
        raise ValueError(f"{file_name}:{line}: a NUL byte would cut the statement off; remove it")
    found: dict[str, NamedQuery] = {}
    preamble, *blocks = _START.split(text)
    for number, above in enumerate(_BLOCK_COMMENT.sub(_newlines, preamble).split("\n"), start=1):
        if above.strip() and not above.lstrip().startswith("--"):
            raise ValueError(
                f"{file_name}:{number}: no line `-- name: a_name :read` or `:write` is above this statement"
            )
    line_number = preamble.count("\n") + 1
    for block in blocks:
        where = f"{file_name}:{line_number}"
        line_number += block.count("\n")
        header, *lines = block.rstrip().split("\n")
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
            raise ValueError(f"{where}: query {name} is defined twice")
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


def _newlines(found: re.Match[str]) -> str:
    return "\n" * found[0].count("\n")


def _parameters(takes: str, where: str) -> dict[str, str]:
    """Parse `id int, email str | None` into a mapping. `nothing` gives an empty one."""
    if takes == "nothing":
        return {}
    parameters: dict[str, str] = {}
    for item in takes.split(","):
        name, _, kind = item.strip().partition(" ")
        if not kind or not name.isidentifier():
            raise ValueError(f"{where}: {item.strip()!r} in `takes` should read `name type`, like `id int`")
        if name in parameters:
            raise ValueError(f"{where}: `takes` lists {name} twice; remove one of them")
        if not _TYPE.fullmatch(kind):
            raise ValueError(
                f"{where}: {name} in `takes` has the unknown type {kind!r}; write {', '.join(SCALARS)},"
                " or a list of one of them like list[int], followed by ` | None` if it may be null"
            )
        parameters[name] = kind
    return parameters
