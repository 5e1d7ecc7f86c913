"""Records of what a real sqlx-cli did with a folder of migrations, for comparison with groundwork's migrator.

`migrations` has every kind of file that sqlx accepts. `sqlx-VERSION.json` records the ledger and the schema after
`sqlx migrate run`, after a `sqlx migrate revert`, and after `sqlx migrate revert --target-version 0`; it was written by

    python -m tests.integration.migrator.golden.record

which starts a temporary Postgres 15 and runs the sqlx-cli in the shared cache. Do not edit it by hand.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from infra.docker.engine import docker
from tests.conftest import Database

FOLDER = Path(__file__).parent / "migrations"


def snapshot(database: Database) -> dict[str, Any]:
    """Return those columns of the ledger that must be equal for two tools, and the lines of pg_dump."""
    rows = database.psql(
        "SELECT version, description, success, encode(checksum, 'hex') FROM groundwork._sqlx_migrations"
        " ORDER BY version"
    )
    dump = docker(
        *("exec", database.server.container, "pg_dump", "--schema-only", "--schema=groundwork"),
        *("--restrict-key=golden", f"--dbname={database.name}"),
    )
    return {
        "rows": [line.split("|") for line in rows.splitlines()],
        # Without comments, which contain pg_dump's version.
        "schema": [line for line in dump.split("\n") if line and not line.startswith("--")],
    }


def record_of(version: str) -> Path:
    return Path(__file__).parent / f"sqlx-{version}.json"


def recorded(version: str) -> dict[str, Any]:
    """Return a version's snapshots by step: run, revert, and revert to 0."""
    record: dict[str, Any] = json.loads(record_of(version).read_text())
    return record
