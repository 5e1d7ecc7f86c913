"""Whether a database's schema is the one this code was written for; never changes it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from db.migrator.source import Migration, read_source
from db.named_query import queries
from db.rows import AppliedMigration

READ_LEDGER = queries("schema")["read_ledger"]


@cache
def expected_migrations() -> tuple[Migration, ...]:
    """The migrations this package carries."""
    return read_source()


def schema_problem(applied: Sequence[AppliedMigration], expected: Sequence[Migration]) -> str | None:
    """Why this code should not run on that schema, or None.

    Migrations that only the database knows are no problem: a release is deployed after its migrations, and
    the one before it goes on running.
    """
    by_version = {row.version: row for row in applied}
    for row in applied:
        if not row.success:
            return (
                f"migration {row.version} ({row.description}) began and did not end; see `groundwork migrate`"
            )
    pending = [m.up.path.name for m in expected if m.version not in by_version]
    if pending:
        return f"{len(pending)} pending: {', '.join(pending)}; run `groundwork migrate`"
    for migration in expected:
        if by_version[migration.version].checksum != migration.checksum:
            return f"{migration.up.path.name} was applied with another content than this package's"
    return None
