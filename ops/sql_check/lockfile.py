"""db/queries.lock.json records the server's descriptions of all queries, so that `make check` needs no server."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from db.migrator import read_source
from db.named_query import NamedQuery
from ops.sql_check import grants
from ops.sql_check.comparison import mismatches
from ops.sql_check.declared import Column
from ops.sql_check.described import Description

LOCKFILE = Path(__file__).parents[2] / "db" / "queries.lock.json"
_REFRESH = "run `groundwork sql check --update` and commit db/queries.lock.json"


def render(queries: Mapping[str, NamedQuery], described: Mapping[str, Description]) -> str:
    """Return the lockfile's text."""
    content = {
        "migrations": migrations_digest(),
        "queries": {
            key: {"sql": _digest(queries[key]), **_described(described[key])} for key in sorted(queries)
        },
    }
    return json.dumps(content, indent=1) + "\n"


def _described(description: Description) -> dict[str, Any]:
    # Without a server, the statement's text says whether it changes rows.
    return {name: value for name, value in asdict(description).items() if name != "changes_rows"}


def offline_problems(queries: Mapping[str, NamedQuery], lockfile: Path = LOCKFILE) -> list[str]:
    """Return stale entries of the lockfile, and mismatches between it and Python."""
    try:
        locked: dict[str, Any] = json.loads(lockfile.read_text(encoding="utf-8"))
        return _problems(queries, locked)
    except (OSError, ValueError) as error:
        return [f"cannot read {lockfile.name} ({error}); {_REFRESH}"]
    except (KeyError, TypeError, AttributeError) as error:
        return [f"{lockfile.name} has an unknown format ({error!r}); {_REFRESH}"]


def _problems(queries: Mapping[str, NamedQuery], locked: dict[str, Any]) -> list[str]:
    if locked["migrations"] != migrations_digest():
        return [f"the migrations have changed since the queries were checked; {_REFRESH}"]
    lines = [
        f"{key}: removed since the last check; {_REFRESH}"
        for key in sorted(locked["queries"].keys() - queries.keys())
    ]
    for key, query in queries.items():
        entry = locked["queries"].get(key)
        if entry is None or entry["sql"] != _digest(query):
            lines.append(f"{key}: {'new' if entry is None else 'changed'} since the last check; {_REFRESH}")
            continue
        columns = [Column(**column) for column in entry["columns"]]
        lines += mismatches(key, query, Description(entry["parameters"], columns, entry["omitted"]))
    return lines


def stale_grants(lockfile: Path = grants.LOCKFILE) -> list[str]:
    """Return a line if db/grants.lock.json is older than the last change of the migrations."""
    try:
        digest, _ = grants.locked(lockfile)
    except (OSError, ValueError, KeyError, TypeError) as error:
        return [f"cannot read {lockfile.name} ({error!r}); {grants.REFRESH}"]
    if digest == migrations_digest():
        return []
    return [f"the migrations have changed since {lockfile.name} was written; {grants.REFRESH}"]


def migrations_digest() -> str:
    """Return a digest of every migration's version and content."""
    sha = hashlib.sha256()
    for migration in read_source():
        sha.update(f"{migration.version}:{migration.checksum.hex()}\n".encode())
    return sha.hexdigest()


def _digest(query: NamedQuery) -> str:
    """Return a digest of what the description depends on: the statement and its `never null` columns."""
    asked = query.sql + b"\0" + ",".join(sorted(query.never_null)).encode()
    return hashlib.sha256(asked).hexdigest()[:16]
