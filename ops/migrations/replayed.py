"""Recreate a database's schema by applying its migrations in their original order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from db.migrator import LedgerRow, Migration, apply_pending
from ops.servers.scratch_server import ScratchServer


def replay(
    server: ScratchServer,
    name: str,
    applied: Sequence[LedgerRow] | Sequence[Migration],
    migrations: Sequence[Migration],
) -> str:
    """Create database `name`, apply the migrations in `applied`, and return its URL for role migrator.

    The original order matters for a late migration, because it determines the order of a table's columns.
    """
    url = server.make_database(name)
    # Create the ledger, which migrations may refer to.
    apply_pending(url, ())
    done: set[int] = set()
    for versions in _ascending(row.version for row in sorted(applied, key=_moment)):
        done.update(versions)
        apply_pending(url, [migration for migration in migrations if migration.version in done])
    return url


def _moment(applied: LedgerRow | Migration) -> tuple[float, int]:
    moment = applied.installed_on.timestamp() if isinstance(applied, LedgerRow) else 0.0
    return moment, applied.version


def _ascending(versions: Iterable[int]) -> Iterator[list[int]]:
    """Split the versions into ascending runs, because the migrator applies its migrations in ascending order."""
    run: list[int] = []
    for version in versions:
        if run and version < run[-1]:
            yield run
            run = []
        run.append(version)
    if run:
        yield run
