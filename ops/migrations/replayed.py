"""Recreate a database's schema by applying its migrations in their original order."""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import replace

from db.migrator import LedgerRow, Migration, apply_pending
from ops.migrations.database_setup import DatabaseSetup
from ops.migrations.scratch_database import ScratchDatabase, create_scratch_database
from ops.servers.scratch_server import ScratchServer

_DEFAULT_PRIVILEGES = re.compile(r"\bdefault\s+privileges\b", re.IGNORECASE)


def replay(
    server: ScratchServer,
    applied: Sequence[LedgerRow] | Sequence[Migration],
    migrations: Sequence[Migration],
    setup: DatabaseSetup | None,
) -> ScratchDatabase:
    """Create a database with a setup, and apply the migrations in `applied`.

    The original order matters for a late migration, because it determines the order of a table's columns.
    """
    if setup is not None and any(_DEFAULT_PRIVILEGES.search(each.up.sql) for each in migrations):
        # They apply only to what is created after them, so their own place in the order counts.
        setup = replace(setup, default_privileges=())
    database = create_scratch_database(server, setup)
    # Create the ledger, which migrations may refer to.
    apply_pending(database.url, ())
    database.remember_given()
    done: set[int] = set()
    by_version = {migration.version: migration for migration in migrations}
    alone = {each.version for each in migrations if each.up.has_several_transactions}
    for versions in _ascending((row.version for row in sorted(applied, key=_moment)), alone):
        done.update(versions)
        known = [migration for migration in migrations if migration.version in done]
        first = by_version.get(versions[0])
        database.run(lambda known=known: apply_pending(database.url, known), first, is_applied=True)  # type: ignore[misc]
    return database


def _moment(applied: LedgerRow | Migration) -> tuple[float, int]:
    moment = applied.installed_on.timestamp() if isinstance(applied, LedgerRow) else 0.0
    return moment, applied.version


def _ascending(versions: Iterable[int], first: Container[int]) -> Iterator[list[int]]:
    """Split the versions into ascending runs, because the migrator applies its migrations in ascending order.

    Those in `first` begin a run.
    """
    run: list[int] = []
    for version in versions:
        if run and (version < run[-1] or version in first):
            yield run
            run = []
        run.append(version)
    if run:
        yield run
