"""The queries of an application that does not use db/queries: from a folder, or from the target's pg_stat_statements.

Their parameters have numbers, such as $1. For each one this finds the column that it is compared with or assigned to,
so that the rehearsal can send values of that column.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from db.migrator.connection import Connection, open_connection
from db.migrator.script import first_line, split_statements, tokens
from db.named_query import NamedQuery, parse_queries
from infra.text_file import read_text
from ops.errors import Exit, OpsError
from ops.migrations.text_file import is_broken_link
from ops.sql_check.described import Describer, NotDescribed

_SHOWN = 60
_SHOWN_HASH = 12
_MOST = 100
_NAMED = re.compile(r"^-- name: ", re.MULTILINE)
_READ = re.compile(r"\s*(?:select|values|table)\b", re.IGNORECASE)
_LOCKING = re.compile(r"\bfor\s+(?:update|no\s+key\s+update|share|key\s+share)\b", re.IGNORECASE)
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_OPERATORS = {"=", "<", ">", "!", "~", "@", "|", "like", "ilike", "any", "all", "in"}
_EXTENSION = """
SELECT quote_ident(nspname::text) FROM pg_extension JOIN pg_namespace ON pg_namespace.oid = extnamespace
WHERE extname = 'pg_stat_statements'
"""
_STATEMENTS = r"""
SELECT query FROM {}.pg_stat_statements
WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database()) AND toplevel
  AND query ~* '^(\s|/\*.*?\*/|--[^\n]*\n)*(select|insert|update|delete|with|merge|values)\y'
  AND query !~* 'pg_catalog|information_schema|_sqlx_migrations|advisory|set_config|\ypg_'
GROUP BY query ORDER BY sum(calls) DESC, query LIMIT %s
"""


def queries_of_folder(folder: Path) -> dict[str, NamedQuery]:
    """Return the statements of a folder's .sql files, and the queries that `cargo sqlx prepare` wrote there.

    A file with `-- name:` lines has the format of db/queries. Raise OpsError (2) if
    there is no query, and UnreadableFile.
    """
    found: dict[str, NamedQuery] = {}
    for path in sorted(folder.rglob("*")):
        # Reading a broken link fails, with its name.
        if path.suffix in (".sql", ".json") and (path.is_file() or is_broken_link(path)):
            name = path.relative_to(folder).with_suffix("").as_posix()
            found |= _of_json(path, name) if path.suffix == ".json" else _of_sql(path, name)
    if not found:
        raise OpsError(
            f"{folder} has no queries; it needs .sql files, or the query-*.json files of `cargo sqlx prepare`",
            Exit.USAGE,
        )
    return found


def queries_of_server(conninfo: str) -> dict[str, NamedQuery]:
    """Return the database's most frequent statements in pg_stat_statements. Raise OpsError if there are none."""
    import psycopg

    otherwise = "pass the application's queries with --queries FOLDER"
    with open_connection(conninfo) as connection:
        row = connection.execute(_EXTENSION).fetchone()
        if row is None:
            raise OpsError(
                f"the database does not have the extension pg_stat_statements; create it, or {otherwise}"
            )
        try:
            rows = connection.execute(_STATEMENTS.format(row[0]).encode(), [_MOST]).fetchall()
        except psycopg.Error as error:
            raise OpsError(
                f"cannot read pg_stat_statements: {error.diag.message_primary}; {otherwise}"
            ) from error
    if not rows:
        raise OpsError(
            f"pg_stat_statements has no queries of this database that this login may see; {otherwise}"
        )
    return _numbered(str(query) for (query,) in rows)


def with_types(
    connection: Connection, queries: Mapping[str, NamedQuery]
) -> tuple[dict[str, NamedQuery], dict[str, str]]:
    """Let the server describe the parameters of queries that do not declare them.

    Return all queries with parameters, and the reasons why the others have none.
    """
    describer = Describer(connection)
    described: dict[str, NamedQuery] = {}
    reasons: dict[str, str] = {}
    for key, query in queries.items():
        if query.takes or b"%(" not in query.sql:
            described[key] = query
            continue
        try:
            described[key] = replace(query, takes=describer.describe(query).parameters)
        except NotDescribed as error:
            reasons[key] = f"the server rejects it: {error}"
    return described, reasons


def numbered_query(name: str, sql: str) -> NamedQuery:
    """Return a query whose parameters $1, $2, ... are named by their columns, or p1, p2, ..."""
    significant = [(kind, text) for kind, text, _ in tokens(sql) if kind != "blank"]
    inserted = dict(_inserted(significant))
    names: dict[str, str] = {}
    for place, (_, text) in enumerate(significant[:-1]):
        if text == "$" and significant[place + 1][0] == "number":
            number = significant[place + 1][1]
            column = inserted.get(number) or _compared(significant, place)
            if column is not None and _NAME.fullmatch(column):
                names.setdefault(number, column)
    parts: list[str] = []
    is_parameter = False
    for kind, text, _ in tokens(sql):
        if is_parameter and kind == "number":
            parts[-1] = f"%({names.get(text, f'p{text}')})s"
        else:
            parts.append(text.replace("%", "%%"))
        is_parameter = text == "$"
    is_read = _READ.match(sql) is not None and _LOCKING.search(sql) is None
    return NamedQuery(name, name, "".join(parts).strip().encode(), is_read, {}, None)


def _compared(significant: Sequence[tuple[str, str]], place: int) -> str | None:
    """Return the column before the operator before a parameter, or the LIMIT or OFFSET that it is."""
    before = place - 1
    if before >= 0 and significant[before][1].lower() in ("limit", "offset"):
        return significant[before][1].lower()
    has_operator = False
    while before >= 0:
        word = significant[before][1].lower()
        if word not in _OPERATORS and word != "(":
            break
        has_operator |= word != "("
        before -= 1
    if before < 0 or not has_operator:
        return None
    kind, text = significant[before]
    return text if kind == "word" else text[1:-1] if text.startswith('"') else None


def _inserted(significant: Sequence[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """Yield the number and the column of each parameter that is a whole value of the first row of an INSERT."""
    words = [text.lower() for _, text in significant]
    if words[:2] != ["insert", "into"] or "(" not in words or "values" not in words:
        return
    start, values = words.index("("), words.index("values")
    end = words.index(")", start)
    if end > values:
        return
    columns = [text.strip('"') for _, text in significant[start + 1 : end] if text != ","]
    depth = position = 0
    for place in range(values + 1, len(words)):
        word = words[place]
        depth += (word == "(") - (word == ")")
        if depth == 0:
            return
        if depth == 1 and word == ",":
            position += 1
        is_whole = depth == 1 and word == "$" and words[place - 1] in "(,"
        if is_whole and position < len(columns) and place + 1 < len(words):
            yield words[place + 1], columns[position]


def _numbered(texts: Iterator[str]) -> dict[str, NamedQuery]:
    names = (
        (f"{number}: {first_line(' '.join(text.split()), _SHOWN)}", text)
        for number, text in enumerate(texts, 1)
    )
    return {name: numbered_query(name, text) for name, text in names}


def _of_sql(path: Path, name: str) -> dict[str, NamedQuery]:
    text = read_text(path)
    if _NAMED.search(text):
        try:
            return {f"{name}.{query.name}": query for query in parse_queries(text, path.name).values()}
        except ValueError as error:
            raise OpsError(str(error), Exit.USAGE) from error
    statements = split_statements(text)
    names = (
        [name] if len(statements) == 1 else [f"{name}.{number}" for number in range(1, len(statements) + 1)]
    )
    return {
        each: numbered_query(each, statement.text) for each, statement in zip(names, statements, strict=True)
    }


def _of_json(path: Path, name: str) -> dict[str, NamedQuery]:
    try:
        content = json.loads(read_text(path))
    except (json.JSONDecodeError, RecursionError) as error:
        raise OpsError(f"{path} is not valid JSON: {error}", Exit.USAGE) from error
    sql = content.get("query") if isinstance(content, dict) else None
    if not isinstance(sql, str) or content.get("db_name") not in (None, "PostgreSQL"):
        return {}
    shown = f"{name.replace('query-', '')[:_SHOWN_HASH]}: {first_line(' '.join(sql.split()), _SHOWN)}"
    return {shown: numbered_query(shown, sql)}
