"""What a real sqlx-cli left behind after it ran a folder of migrations: files to hold groundwork's migrator against.

`migrations` holds every kind of file that sqlx takes. `sqlx-0.8.6.json` says what the ledger and the schema were after
`sqlx migrate run`, after a `sqlx migrate revert`, and after `sqlx migrate revert --target-version 0`; it was written by

    python -m tests.integration.migrator.golden.record

which starts a throwaway Postgres 15 and runs the sqlx-cli of the shared cache. It is not edited by hand.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from infra.docker.engine import docker
from tests.conftest import Database

FOLDER = Path(__file__).parent / "migrations"
RECORD = Path(__file__).parent / "sqlx-0.8.6.json"


def snapshot(database: Database) -> dict[str, Any]:
    """The ledger's rows as far as two tools must agree on them, and pg_dump's lines of everything there is."""
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
        # The comments name pg_dump's version.
        "schema": [line for line in dump.split("\n") if line and not line.startswith("--")],
    }


def recorded() -> dict[str, Any]:
    """step -> snapshot: run, revert, revert to 0."""
    record: dict[str, Any] = json.loads(RECORD.read_text())
    return record
