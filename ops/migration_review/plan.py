"""What pending migrations would do to a target: measured beside it, with how many rows each lock is about."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from db.migrator import LedgerRow, Migration, status
from db.migrator.connection import open_connection
from ops.migration_review.linter import Finding, Linted, lint
from ops.migration_review.locks import MODES, Lock, Measured, measure
from ops.migration_review.replayed import replay
from ops.scratch_server import scratch_server

# A partitioned table holds nothing itself, its partitions do; -1 is a table that was never analyzed.
_ROWS = """
SELECT name, CASE WHEN max(reltuples) >= 0 THEN sum(greatest(reltuples, 0))::bigint END
FROM unnest(%s::text[]) AS name
JOIN LATERAL (
    SELECT relid FROM pg_partition_tree(to_regclass(name)) WHERE isleaf
    UNION SELECT to_regclass(name)
) AS part ON true
JOIN pg_class ON pg_class.oid = relid AND relkind <> 'p'
GROUP BY name
"""


@dataclass(frozen=True)
class MigrationPlan:
    """One pending migration, late where a newer one is applied; `findings` is what lint says of its files."""

    version: int
    name: str
    in_transaction: bool
    is_late: bool
    statements: tuple[Measured, ...]
    findings: tuple[Finding, ...]

    @property
    def strongest_lock(self) -> str | None:
        modes = [lock.mode for statement in self.statements for lock in statement.locks]
        return max(modes, key=MODES.index, default=None)


@dataclass(frozen=True)
class Plan:
    """`rows` has an estimate a table of the target; None in it is one that was never analyzed.

    `version` is where the plan begins, None for an empty database; `has_target` says if a database was asked,
    `has_squawk` if squawk's rules are among the findings.
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
    def from_json(cls, content: Mapping[str, Any]) -> Plan:
        """What `as_json` wrote; KeyError, TypeError or ValueError for anything else."""
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


def plan_pending(conninfo: str, migrations: Sequence[Migration]) -> Plan:
    """Plan what is pending on a database. LedgerMismatch where its ledger does not match the files."""
    state = status(conninfo, migrations)
    for problem in state.problems:
        raise problem
    linted = lint(state.pending)
    plans = _plan(state.applied, migrations, state.pending, linted)
    return Plan(state.version, True, linted.has_squawk, plans, _estimated_rows(conninfo, plans))


def plan_from(version: int, migrations: Sequence[Migration]) -> Plan:
    """Plan every migration above `version` (0: all), as on a database that holds nothing but those below."""
    below = [migration for migration in migrations if migration.version <= version]
    pending = [migration for migration in migrations if migration.version > version]
    linted = lint(pending)
    plans = _plan(below, migrations, pending, linted)
    return Plan(max((each.version for each in below), default=None), False, linted.has_squawk, plans, {})


def _plan(
    applied: Sequence[LedgerRow] | Sequence[Migration],
    migrations: Sequence[Migration],
    pending: Sequence[Migration],
    linted: Linted,
) -> tuple[MigrationPlan, ...]:
    newest = max((each.version for each in applied), default=None)
    if not pending:
        return ()
    with scratch_server() as server:
        url = replay(server, "planned", applied, migrations)
        return tuple(
            MigrationPlan(
                migration.version,
                migration.name,
                not migration.up.no_transaction,
                newest is not None and migration.version < newest,
                measure(url, migration),
                linted.findings[migration.version],
            )
            for migration in pending
        )


def _estimated_rows(conninfo: str, plans: Iterable[MigrationPlan]) -> dict[str, int | None]:
    names = {lock.name for plan in plans for statement in plan.statements for lock in statement.locks}
    with open_connection(conninfo) as connection:
        rows = connection.execute(_ROWS, [sorted(names)]).fetchall()
    return {str(name): None if count is None else int(str(count)) for name, count in rows}


def _migration_plan(content: Mapping[str, Any]) -> MigrationPlan:
    return MigrationPlan(
        int(content["version"]),
        str(content["name"]),
        bool(content["in_transaction"]),
        bool(content["out_of_order"]),
        tuple(map(_measured, content["statements"])),
        tuple(map(_finding, content["findings"])),
    )


def _finding(content: Mapping[str, Any]) -> Finding:
    return Finding(str(content["file"]), int(content["line"]), str(content["rule"]), str(content["message"]))


def _measured(content: Mapping[str, Any]) -> Measured:
    locks = tuple(Lock(**lock) for lock in content["locks"])
    if unknown := [lock.mode for lock in locks if lock.mode not in MODES]:
        raise ValueError(f"{unknown[0]!r} is no lock's mode")
    return Measured(
        int(content["line"]),
        str(content["text"]),
        locks,
        tuple(map(str, content["rewrites"])),
        tuple(map(str, content["scans"])),
    )
