"""Adopt an existing database: record its migrations as applied, without running them.

Refuses if the ledger has rows, or if the schema lacks something that the migrations create.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from db.migrator.catalog import Catalog, Drift, catalog_of, find_drift
from db.migrator.connection import execute_statement
from db.migrator.ddl import Effect, effects
from db.migrator.errors import Unproven
from db.migrator.ledger import Ledger
from db.migrator.lock import migration_lock
from db.migrator.lock_wait import lock_ledger
from db.migrator.schemas import create_missing
from db.migrator.source import Migration, require_version

_SHOWN = 5
_DEFINITION_CHARACTERS = 60


def record_baseline(
    conninfo: str,
    migrations: Sequence[Migration],
    version: int,
    *,
    expected: Catalog | None,
    create_schemas: Sequence[str] = (),
    dry_run: bool = False,
    wait_seconds: float = 30.0,
) -> tuple[Migration, ...]:
    """Record every migration up to `version` as applied, in one transaction, and return them.

    The schemas `create_schemas` are created if they do not exist. The ledger is created here too, so the GRANT
    statements of the migrations that name it are run, each as a whole.
    `dry_run` changes nothing.

    `expected` is the catalog of a database in which these migrations have run; None skips the comparison. Raises
    Unproven, and changes nothing, if the ledger has rows, or if something of `expected` is missing or different.
    Additional objects and another order of columns are accepted.
    """
    require_version(version, migrations)
    chosen = tuple(m for m in migrations if m.version <= version)
    with migration_lock(conninfo, wait_seconds) as session:
        connection = session.connection
        with connection.transaction(force_rollback=dry_run):
            create_missing(connection, create_schemas)
            ledger = Ledger.ensure(connection)
            lock_ledger(connection, ledger, wait_seconds)
            if rows := ledger.rows(connection):
                raise Unproven(
                    f"the database already has a ledger, at version {rows[-1].version} ({len(rows)} rows in"
                    f" {ledger.name}); `groundwork migrate status` shows what is pending"
                )
            for migration in chosen:
                connection.execute(ledger.insert(migration).encode())
                for statement in migration.up.statements:
                    if any(_is_grant_on(ledger, effect) for effect in effects(statement)):
                        execute_statement(connection, migration.up, statement)
            # At the end, because the ledger and its grants are part of what is expected.
            if expected is not None and (lacking := _lacking(expected, catalog_of(connection), ledger)):
                raise Unproven(_refusal(version, lacking))
    return chosen


def _is_grant_on(ledger: Ledger, effect: Effect) -> bool:
    is_grant = (effect.verb, effect.kind, effect.name) == ("grant", "table", ledger.table)
    return is_grant and effect.schema in (None, ledger.schema)


def _lacking(expected: Catalog, found: Catalog, ledger: Ledger) -> list[Drift]:
    # The ledger has just been created here: by this session, and after the migrations' GRANT ... ON ALL TABLES.
    accepted = re.compile(
        rf"order of columns of |(?:owner of|grants on) table (?:\S+\.)?\"?{re.escape(ledger.table)}\"?(?: to |$)"
    )
    return [
        drift
        for drift in find_drift(expected, found)
        if drift.kind != "unexpected" and not accepted.match(drift.what)
    ]


def _refusal(version: int, lacking: list[Drift]) -> str:
    shown = ", ".join(map(_described, lacking[:_SHOWN]))
    more = f" and {len(lacking) - _SHOWN} more" if len(lacking) > _SHOWN else ""
    return (
        f"the database is not at version {version}: {shown}{more}; nothing was changed. Pass the version that it"
        " is at, or --unchecked to skip this check"
    )


def _described(drift: Drift) -> str:
    if drift.kind == "missing":
        return f"{drift.what} is missing"
    return f"{drift.what} is `{_short(drift.found)}` instead of `{_short(drift.expected)}`"


def _short(definition: str | None) -> str:
    line = " ".join((definition or "").split())
    return line if len(line) <= _DEFINITION_CHARACTERS else f"{line[: _DEFINITION_CHARACTERS - 3]}..."
