"""Detect drift: compare a database with one that its migrations have just created."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from db.migrator import Migration, MigrationStatus, NoLedger, status
from db.migrator.catalog import Catalog, Drift, find_drift, read_catalog
from ops.migrations.database_setup import read_setup
from ops.migrations.replayed import replay
from ops.servers.scratch_server import scratch_server


@dataclass(frozen=True)
class Verification:
    """The target's state, and its differences from the schema that the applied migrations create."""

    state: MigrationStatus
    drift: tuple[Drift, ...]

    def as_json(self) -> dict[str, Any]:
        return {
            "version": self.state.version,
            "pending": [migration.name for migration in self.state.pending],
            "drift": [asdict(each) for each in self.drift],
        }

    def as_lines(self) -> Iterator[str]:
        for each in self.drift:
            yield f"{each.kind:<11} {each.what}"
            yield from (f"            {line}" for line in _details(each))
        applied = f"the {len(self.state.applied)} applied migrations"
        if self.drift:
            differences = "1 difference" if len(self.drift) == 1 else f"{len(self.drift)} differences"
            yield f"{differences} from the schema of {applied}"
        else:
            yield f"the database matches {applied}"


def verify(conninfo: str, migrations: Sequence[Migration], *, ignore_missing: bool = False) -> Verification:
    """Compare a database with its applied migrations.

    Raise NoLedger if the login sees no ledger, and LedgerMismatch if the files are not the applied ones.
    """
    state = status(conninfo, migrations, ignore_missing=ignore_missing)
    if state.absence is not None:
        raise NoLedger(state.absence)
    for problem in state.problems:
        raise problem
    setup = read_setup(conninfo)
    found = read_catalog(conninfo)
    with scratch_server(has_roles=setup is None) as server:
        database = replay(server, state.applied, migrations, setup)
        expected = database.read_catalog()
    return Verification(state, find_drift(*database.without_given(expected, found)))


def expected_catalog(
    conninfo: str, migrations: Sequence[Migration], create_schemas: Sequence[str] = ()
) -> Catalog:
    """Return the catalog of a temporary database, set up like that at `conninfo`, in which these migrations have run.

    It has only what the migrations create or change. `create_schemas` are those that the database will have, too.
    """
    setup = read_setup(conninfo)
    if setup is not None:
        setup = setup.with_schemas(create_schemas)
    with scratch_server(has_roles=setup is None) as server:
        database = replay(server, migrations, migrations, setup)
        expected = database.read_catalog()
    return database.without_given(expected, expected)[0]


def _details(drift: Drift) -> Iterator[str]:
    expected, found = (drift.expected or "").splitlines(), (drift.found or "").splitlines()
    if len(expected) <= 1 and len(found) <= 1:
        if any(expected):
            yield f"expected: {expected[0]}"
        if any(found):
            yield f"found:    {found[0]}"
        return
    if drift.kind == "different":
        lines = list(difflib.unified_diff(expected, found, "expected", "found", n=1, lineterm=""))
        yield from lines
