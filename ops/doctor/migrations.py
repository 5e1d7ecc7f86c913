"""The schema's version: what is pending, began and did not end, or was edited after it was applied."""

from __future__ import annotations

from datetime import datetime

from db.migrator import LedgerRow, Status, compare, read_source
from infra.spec.roles import SCHEMA
from ops.doctor.examination import Examination
from ops.doctor.finding import Finding, counted, fail, ok, warn
from ops.monitored_postgres import MonitoredPostgres

_EXISTS = f"SELECT to_regclass('{SCHEMA}._sqlx_migrations') IS NOT NULL AS found"
_LEDGER = f"""
SELECT version, description, installed_on, success, encode(checksum, 'hex') AS checksum, execution_time
FROM {SCHEMA}._sqlx_migrations ORDER BY version
"""


def migrations(examination: Examination) -> Finding:
    """migrations: the ledger beside the folder. Role monitor may not read it, so the superuser does."""
    state = ledger_state(examination)
    if state.problems:
        return fail(
            f"{counted(len(state.problems), 'problem')} with what was applied",
            "see `groundwork migrate status`; no migration is applied until this is mended",
            [str(problem) for problem in state.problems],
        )
    if state.pending:
        names = [migration.name for migration in state.pending]
        return warn(f"{len(names)} pending: {', '.join(names)}", "run `groundwork migrate up`")
    return ok(f"at version {state.version}, nothing pending")


def ledger_state(examination: Examination) -> Status:
    """What the migrator's own comparison says. NotVisible where the target is not Docker."""
    return compare(_rows(examination.postgres), read_source(examination.stack.migrations))


def _rows(postgres: MonitoredPostgres) -> list[LedgerRow]:
    (exists,) = postgres.superuser_rows(_EXISTS)
    if not exists["found"]:
        return []
    return [
        LedgerRow(
            version=row["version"],
            description=row["description"],
            installed_on=datetime.fromisoformat(row["installed_on"]),
            success=row["success"],
            checksum=bytes.fromhex(row["checksum"]),
            execution_time=row["execution_time"],
        )
        for row in postgres.superuser_rows(_LEDGER)
    ]
