"""Check the queries against the current schema, and across two revisions of queries and schema."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping
from pathlib import Path

from db.migrator import apply_pending, read_source
from db.named_query import NamedQuery, parse_queries
from db.session import connect
from infra.spec.roles import SCHEMA
from ops.errors import Exit, OpsError
from ops.git import GitError, git
from ops.migrations.scratch_database import on_temporary_server
from ops.servers.scratch_server import ScratchServer
from ops.sql_check import grants
from ops.sql_check.comparison import mismatches
from ops.sql_check.declared import all_queries
from ops.sql_check.described import Describer, Description, NotDescribed

_ROOT = Path(__file__).parents[2]
_QUERIES, _MIGRATIONS = "db/queries", "db/migrations"
_ADVICE = "--against takes a commit, branch or tag of this checkout"
_NO_CLAUSES = "-- takes: nothing\n-- gives: nothing\n"
# The first line of an entry, and the rest of it.
_ENTRY = re.compile(r"^(-- name:[^\n]*\n)(.*?)(?=^-- name:|\Z)", re.MULTILINE | re.DOTALL)


def check(server: ScratchServer) -> tuple[list[str], dict[str, Description], list[str]]:
    """Check all queries against the current schema. Return mismatches, descriptions, and the granted privileges."""
    queries = all_queries()
    url = _migrated(server, "now", _ROOT / _MIGRATIONS)
    described, lines = _describe(url, queries)
    for key, description in described.items():
        lines += mismatches(key, queries[key], description)
    with connect(url, search_path=SCHEMA) as connection:
        privileges = [str(line) for (line,) in connection.execute(grants.QUERY.encode())]
    return sorted(lines), described, privileges


def check_against(server: ScratchServer, revision: str) -> list[str]:
    """Check that the queries of `revision` work on the current schema, and the current queries on its schema.

    During a rollout both versions run on both schemas. Returns a line for each query that only works on its own.
    """
    old_queries = _queries_of(revision)
    with tempfile.TemporaryDirectory(prefix="gw-migrations-") as folder:
        for name in _names(revision, _MIGRATIONS):
            (Path(folder) / name).write_bytes(_show(revision, f"{_MIGRATIONS}/{name}"))
        old_schema = _migrated(server, "old", Path(folder))
    new_schema = _migrated(server, "new", _ROOT / _MIGRATIONS)
    new_queries = all_queries()
    lines = _differences(f"of {revision}, on the present schema", old_queries, old_schema, new_schema)
    return lines + _differences(f"on the schema of {revision}", new_queries, new_schema, old_schema)


def _differences(what: str, queries: Mapping[str, NamedQuery], own: str, other: str) -> list[str]:
    here, failures = _describe(own, queries)
    if failures:
        raise OpsError(f"the queries {what} do not work on their own schema: {failures[0]}; fix them first")
    there, failures = _describe(other, queries)
    lines = [f"{failure} [{what}]" for failure in failures]
    for key in there:
        mine, theirs = here[key], there[key]
        for before, after in zip(mine.columns, theirs.columns, strict=False):
            if before.type != after.type or (after.is_nullable and not before.is_nullable):
                lines.append(f"{key}: column {before.name} is {after} instead of {before} [{what}]")
        if [c.name for c in mine.columns] != [c.name for c in theirs.columns]:
            lines.append(f"{key}: the columns have other names [{what}]")
        lines += [
            f"{key}: no value is given for {column}, which is NOT NULL without a default [{what}]"
            for column in theirs.omitted
            if column not in mine.omitted
        ]
        lines += [
            f"{key}: parameter {name} is {theirs.parameters[name]} instead of {kind} [{what}]"
            for name, kind in mine.parameters.items()
            if theirs.parameters[name] != kind
        ]
    return lines


def _describe(url: str, queries: Mapping[str, NamedQuery]) -> tuple[dict[str, Description], list[str]]:
    described: dict[str, Description] = {}
    failures = []
    with connect(url, search_path=SCHEMA) as connection:
        describer = Describer(connection)
        for key, query in queries.items():
            try:
                described[key] = describer.describe(query)
            except NotDescribed as error:
                failures.append(f"{key}: {error}")
    return described, failures


def _migrated(server: ScratchServer, name: str, folder: Path) -> str:
    with on_temporary_server(is_applied=False):
        apply_pending(server.make_database(name), read_source(folder))
    # Checked with the application's login, so that a missing privilege is a finding too.
    return server.url(name, "app_a")


def _queries_of(revision: str) -> dict[str, NamedQuery]:
    found: dict[str, NamedQuery] = {}
    for name in _names(revision, _QUERIES):
        text = _show(revision, f"{_QUERIES}/{name}").decode()
        try:
            parsed = parse_queries(_with_clauses(text), name)
        except ValueError as error:
            raise OpsError(f"cannot read the queries of {revision}: {error}") from error
        found |= {f"{name.removesuffix('.sql')}.{key}": query for key, query in parsed.items()}
    return found


def _with_clauses(text: str) -> str:
    """Add empty clauses where there are none, so that queries older than type declarations can be compared."""
    return _ENTRY.sub(
        lambda entry: entry[0] if "\n-- takes: " in entry[0] else f"{entry[1]}{_NO_CLAUSES}{entry[2]}", text
    )


def _names(revision: str, folder: str) -> list[str]:
    listed = _git("ls-tree", "--name-only", revision, f"{folder}/").decode().splitlines()
    names = [line.rpartition("/")[2] for line in listed if line.endswith(".sql")]
    if not names:
        raise OpsError(f"{revision} has no SQL files in {folder}; {_ADVICE}", Exit.USAGE)
    return names


def _show(revision: str, path: str) -> bytes:
    return _git("show", f"{revision}:{path}")


def _git(*arguments: str) -> bytes:
    try:
        return git(_ROOT, *arguments)
    except GitError as error:
        raise OpsError(f"{error}; {_ADVICE}", Exit.USAGE) from error
