"""What a real sqlx-cli left behind after it ran a folder of migrations: files to hold groundwork's migrator against.

`migrations` holds every kind of file that sqlx takes. `sqlx-0.8.6.json` says what the ledger and the catalog were after
`sqlx migrate run`, after a `sqlx migrate revert`, and after `sqlx migrate revert --target-version 0`; it was written by

    python -m tests.integration.migrator.golden.record

which starts a throwaway Postgres 15 and runs the sqlx-cli of the shared cache. It is not edited by hand.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.conftest import Connection
from tests.integration.schema.catalog import catalog

FOLDER = Path(__file__).parent / "migrations"
RECORD = Path(__file__).parent / "sqlx-0.8.6.json"

_LEDGER_TABLE = """
    SELECT format('%s %s %s %s', attname, format_type(atttypid, atttypmod), attnotnull, pg_get_expr(adbin, adrelid))
    FROM pg_attribute LEFT JOIN pg_attrdef ON (adrelid, adnum) = (attrelid, attnum)
    WHERE attrelid = '_sqlx_migrations'::regclass AND attnum > 0
    UNION ALL SELECT conname || ' ' || pg_get_constraintdef(oid) FROM pg_constraint
    WHERE conrelid = '_sqlx_migrations'::regclass
    UNION ALL SELECT 'owner ' || relowner::regrole FROM pg_class WHERE oid = '_sqlx_migrations'::regclass
"""


def snapshot(connection: Connection) -> dict[str, Any]:
    """Ledger rows, the ledger's own table, and the catalog, as plain data."""
    rows = connection.execute(
        "SELECT version, description, success, encode(checksum, 'hex') FROM _sqlx_migrations ORDER BY version"
    ).fetchall()
    table = connection.execute(_LEDGER_TABLE).fetchall()
    return {
        "rows": [list(row) for row in rows],
        "table": [str(line) for (line,) in table],
        "catalog": [list(line) for line in catalog(connection)],
    }


def recorded() -> dict[str, Any]:
    """step -> snapshot: run, revert, revert to 0."""
    record: dict[str, Any] = json.loads(RECORD.read_text())
    return record
