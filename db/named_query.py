"""The SQL of the data-access module: read once from db/queries/*.sql, each statement named and described.

A file holds entries of this form; what follows the name says whether a lost answer may be asked for again:

    -- name: get_user :read
    -- A user by its id.
    SELECT ...
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

QUERIES_DIR = Path(__file__).parent / "queries"
_HEADER = re.compile(r"^-- name: ([a-z][a-z0-9_]*) :(read|write)$")


@dataclass(frozen=True)
class NamedQuery:
    """One statement. `is_read`: it changes nothing, so it may be sent twice."""

    name: str
    description: str
    sql: bytes
    is_read: bool


@cache
def queries(file_name: str) -> dict[str, NamedQuery]:
    """The queries of one file of db/queries, by name. ValueError names the line that is not understood."""
    path = QUERIES_DIR / f"{file_name}.sql"
    return parse_queries(path.read_text(encoding="utf-8"), path.name)


def parse_queries(text: str, file_name: str) -> dict[str, NamedQuery]:
    """Entries of one file; comments before the first one belong to the file."""
    found: dict[str, NamedQuery] = {}
    blocks = re.split(r"^(?=-- name:)", text, flags=re.MULTILINE)
    for block in blocks[1:]:
        header, *lines = block.strip().splitlines()
        match = _HEADER.match(header)
        if match is None:
            raise ValueError(f"{file_name}: {header!r} should read `-- name: a_name :read` or `:write`")
        name = match[1]
        body_start = next((i for i, line in enumerate(lines) if not line.startswith("--")), len(lines))
        description = " ".join(line.removeprefix("--").strip() for line in lines[:body_start])
        sql = "\n".join(lines[body_start:]).strip().removesuffix(";")
        if not description or not sql:
            raise ValueError(f"{file_name}: query {name} needs a description and a statement")
        if name in found:
            raise ValueError(f"{file_name}: query {name} is there twice")
        found[name] = NamedQuery(name, description, sql.encode(), match[2] == "read")
    return found
