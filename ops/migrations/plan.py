"""Plan pending migrations: measure on a temporary server what they do, and estimate the rows of locked tables."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from db.migrator import MIGRATIONS_FOLDER, LedgerRow, Migration
from db.migrator.connection import open_connection
from db.migrator.runner import checked_status
from ops.migrations.database_setup import DatabaseSetup, read_setup, unread_setup
from ops.migrations.linter import Linted, MigrationFinding, lint
from ops.migrations.locks import MODES, Lock, MeasuredStatement, measure
from ops.migrations.replayed import replay
from ops.servers.scratch_server import scratch_server

# Calls and operands have exactly the types of the built-in ones: see db.migrator.ledger.
# A partitioned table has no rows itself, only its partitions do. -1 means that a table was never analyzed.
_ROWS = """
SELECT name, CASE WHEN max(reltuples) >= '0'::real THEN sum(greatest(reltuples, '0'::real))::bigint END
FROM pg_catalog.unnest(%s::text[]) AS name
JOIN LATERAL (
    SELECT relid FROM pg_partition_tree(to_regclass(name)) WHERE isleaf
    UNION SELECT to_regclass(name)
) AS part ON true
JOIN pg_class ON pg_class.oid = relid::oid AND relkind <> 'p'
GROUP BY name
"""


@dataclass(frozen=True)
class MigrationPlan:
    """One pending migration. `is_late`: a newer one is applied already. `findings` come from the linter."""

    version: int
    name: str
    in_transaction: bool
    is_late: bool
    statements: tuple[MeasuredStatement, ...]
    findings: tuple[MigrationFinding, ...]

    @property
    def strongest_lock(self) -> str | None:
        modes = [lock.mode for statement in self.statements for lock in statement.locks]
        return max(modes, key=MODES.index, default=None)


@dataclass(frozen=True)
class PendingPlan:
    """A plan of all pending migrations. `rows` has estimates by table, None for a table that was never analyzed.

    `version` is where the plan starts, or None for an empty database. `has_target`: a database was read. `has_squawk`:
    the findings include squawk's.
    """

    version: int | None
    has_target: bool
    has_squawk: bool
    migrations: tuple[MigrationPlan, ...]
    rows: dict[str, int | None]

    def as_json(self) -> dict[str, Any]:
        return {
            "from_version": self.version,
            "target": self.has_target,
            "squawk": self.has_squawk,
            "pending": [
                {
                    "version": plan.version,
                    "name": plan.name,
                    "out_of_order": plan.is_late,
                    "in_transaction": plan.in_transaction,
                    "strongest_lock": plan.strongest_lock,
                    "statements": [asdict(statement) for statement in plan.statements],
                    "findings": [asdict(each) for each in plan.findings],
                }
                for plan in self.migrations
            ],
            "estimated_rows": self.rows,
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> PendingPlan:
        """Parse the output of `as_json`. Raise KeyError, TypeError or ValueError for anything else."""
        plans = tuple(map(_migration_plan, content["pending"]))
        rows = {str(name): None if n is None else int(n) for name, n in content["estimated_rows"].items()}
        version = content["from_version"]
        return cls(
            None if version is None else int(version),
            bool(content["target"]),
            bool(content["squawk"]),
            plans,
            rows,
        )


def plan_pending(
    conninfo: str, migrations: Sequence[Migration], *, rules: Container[str], ignore_missing: bool = False
) -> PendingPlan:
    """Plan what is pending on a database.

    Raise LedgerMismatch if its ledger does not match the files, and NoLedger if it is in another schema.
    """
    state = checked_status(conninfo, migrations, ignore_missing=ignore_missing)
    linted = lint(state.pending, rules)
    plans = _plan(state.applied, migrations, state.pending, linted, read_setup(conninfo))
    return PendingPlan(state.version, True, linted.has_squawk, plans, _estimated_rows(conninfo, plans))


def plan_from(
    applied: Container[int],
    migrations: Sequence[Migration],
    *,
    rules: Container[str],
    session: Mapping[str, str],
) -> PendingPlan:
    """Plan every migration whose version is not in `applied`, as on a database with only those in it.

    groundwork's own migrations get a database with the specification's roles. For others, roles and schemas are created
    when a migration refers to them, and `session` has the settings' search_path and ledger.
    """
    done = [migration for migration in migrations if migration.version in applied]
    pending = [migration for migration in migrations if migration.version not in applied]
    linted = lint(pending, rules)
    is_ours = any(each.up.path.resolve().parent == MIGRATIONS_FOLDER.resolve() for each in migrations)
    plans = _plan(done, migrations, pending, linted, None if is_ours else unread_setup(session))
    return PendingPlan(
        max((each.version for each in done), default=None), False, linted.has_squawk, plans, {}
    )


def _plan(
    applied: Sequence[LedgerRow] | Sequence[Migration],
    migrations: Sequence[Migration],
    pending: Sequence[Migration],
    linted: Linted,
    setup: DatabaseSetup | None,
) -> tuple[MigrationPlan, ...]:
    newest = max((each.version for each in applied), default=None)
    if not pending:
        return ()
    with scratch_server(has_roles=setup is None) as server:
        database = replay(server, applied, migrations, setup)
        plans = []
        for migration in pending:
            # The URL may change while they run.
            measured = database.run(
                lambda each=migration: measure(database.url, each),  # type: ignore[misc]
                migration,
                is_applied=False,
            )
            plans.append(
                MigrationPlan(
                    version=migration.version,
                    name=migration.name,
                    in_transaction=measured.in_transaction,
                    is_late=newest is not None and migration.version < newest,
                    statements=measured.statements,
                    findings=linted.findings[migration.version],
                )
            )
        return tuple(plans)


def _estimated_rows(conninfo: str, plans: Iterable[MigrationPlan]) -> dict[str, int | None]:
    names = {lock.name for plan in plans for statement in plan.statements for lock in statement.locks}
    with open_connection(conninfo) as connection:
        rows = connection.execute(_ROWS, [sorted(names)]).fetchall()
    return {str(name): None if count is None else int(str(count)) for name, count in rows}


def _migration_plan(content: Mapping[str, Any]) -> MigrationPlan:
    return MigrationPlan(
        version=int(content["version"]),
        name=str(content["name"]),
        in_transaction=bool(content["in_transaction"]),
        is_late=bool(content["out_of_order"]),
        statements=tuple(map(_measured, content["statements"])),
        findings=tuple(map(_finding, content["findings"])),
    )


def _finding(content: Mapping[str, Any]) -> MigrationFinding:
    return MigrationFinding(
        str(content["file"]), int(content["line"]), str(content["rule"]), str(content["message"])
    )


def _measured(content: Mapping[str, Any]) -> MeasuredStatement:
    locks = tuple(Lock(**lock) for lock in content["locks"])
    if unknown := [lock.mode for lock in locks if lock.mode not in MODES]:
        raise ValueError(f"{unknown[0]!r} is not a lock mode")
    return MeasuredStatement(
        int(content["line"]),
        str(content["text"]),
        locks,
        tuple(map(str, content["rewrites"])),
        tuple(map(str, content["scans"])),
    )
