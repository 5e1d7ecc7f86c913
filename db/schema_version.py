"""Check whether a database has the schema that this code expects. Never changes it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from db.migrator.source import Migration, read_source
from db.named_query import queries
from db.rows import AppliedMigration

READ_LEDGER = queries("schema")["read_ledger"]


@cache
def expected_migrations() -> tuple[Migration, ...]:
    """Return the migrations that are part of this package."""
    return read_source()


def schema_problem(applied: Sequence[AppliedMigration], expected: Sequence[Migration]) -> str | None:
    """Return why this code must not run on that schema, or None.

    Migrations that only the database has are not a problem: a release's migrations are applied before it is deployed,
    while the previous release is still running.
    """
    by_version = {row.version: row for row in applied}
    for row in applied:
        if not row.success:
            return (
                f"migration {row.version} ({row.description}) started but did not finish;"
                " see `groundwork migrate status`"
            )
    pending = [m.up.path.name for m in expected if m.version not in by_version]
    if pending:
        return f"{len(pending)} pending: {', '.join(pending)}; run `groundwork migrate up`"
    for migration in expected:
        if by_version[migration.version].checksum != migration.checksum:
            return f"{migration.up.path.name} was applied with content other than this package's"
    return None
