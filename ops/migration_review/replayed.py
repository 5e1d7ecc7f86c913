"""A database made from nothing by the migrations that another one has had, in the order in which it had them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from db.migrator import LedgerRow, Migration, apply_pending
from ops.scratch_server import ScratchServer


def replay(
    server: ScratchServer,
    name: str,
    applied: Sequence[LedgerRow] | Sequence[Migration],
    migrations: Sequence[Migration],
) -> str:
    """Make database `name`, apply what `applied` names, and return its URL as role migrator.

    The order counts where a migration came late: the columns of a table stand in it.
    """
    url = server.make_database(name)
    # The ledger, which migrations may name.
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
    """The versions in runs that the migrator applies in this order by itself."""
    run: list[int] = []
    for version in versions:
        if run and version < run[-1]:
            yield run
            run = []
        run.append(version)
    if run:
        yield run
