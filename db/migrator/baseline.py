"""Adopt an existing database: record its migrations as applied, without running them.

Refuses if the ledger has rows, or if the schema lacks something that the migrations create.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from db.migrator.connection import Connection, execute_statement, open_connection
from db.migrator.ddl import Effect, effects
from db.migrator.errors import Unproven
from db.migrator.ledger import TABLE, Ledger
from db.migrator.lock import migration_lock
from db.migrator.lock_wait import bound_lock_waits
from db.migrator.source import Migration, require_version

# Kind, name, and the table that it belongs to for kinds whose names are unique only per table.
Thing = tuple[str, str, str | None]
_NAMED_ALONE = ("table", "view", "index", "sequence", "type", "domain", "function", "procedure", "schema")
_SHOWN = 5

_MISSING = """
    SELECT kind, name, on_table
    FROM unnest(%(kinds)s::text[], %(names)s::text[], %(tables)s::text[]) AS wanted (kind, name, on_table)
    WHERE NOT CASE
        WHEN kind IN ('table', 'view', 'index', 'sequence') THEN EXISTS (
            SELECT FROM pg_class WHERE relname = name AND relnamespace::regnamespace::text <> 'pg_catalog')
        WHEN kind IN ('type', 'domain') THEN EXISTS (SELECT FROM pg_type WHERE typname = name)
        WHEN kind IN ('function', 'procedure') THEN EXISTS (SELECT FROM pg_proc WHERE proname = name)
        WHEN kind = 'schema' THEN EXISTS (SELECT FROM pg_namespace WHERE nspname = name)
        WHEN kind = 'trigger' THEN EXISTS (
            SELECT FROM pg_trigger JOIN pg_class ON pg_class.oid = tgrelid
            WHERE tgname = name AND relname = on_table)
        ELSE EXISTS (
            SELECT FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid
            WHERE attname = name AND relname = on_table AND NOT attisdropped)
    END
    ORDER BY 1, 3, 2
"""


def record_baseline(
    conninfo: str,
    migrations: Sequence[Migration],
    version: int,
    *,
    unchecked: bool = False,
    dry_run: bool = False,
    wait_seconds: float = 30.0,
) -> tuple[Migration, ...]:
    """Record every migration up to `version` as applied, in one transaction, and return them.

    The ledger is created here, so the grants on it that the migrations contain are run too. `dry_run` changes nothing.

    Raises Unproven, and changes nothing, if the ledger has rows, or if something that the migrations create is missing
    and `unchecked` is false.
    """
    require_version(version, migrations)
    chosen = tuple(m for m in migrations if m.version <= version)
    with migration_lock(conninfo, wait_seconds), open_connection(conninfo) as connection:
        with connection.transaction(force_rollback=dry_run):
            ledger = Ledger.ensure(connection)
            bound_lock_waits(connection, wait_seconds)
            ledger.lock(connection)
            if rows := ledger.rows(connection):
                raise Unproven(
                    f"the database already has a ledger, at version {rows[-1].version} ({len(rows)} rows in"
                    f" {TABLE}); `migrate status` shows what is pending"
                )
            if not unchecked and (missing := _missing(connection, things_made(chosen))):
                raise Unproven(_refusal(version, missing))
            for migration in chosen:
                ledger.insert(connection, migration)
                for statement in migration.up.statements:
                    if any(e.verb == "grant" and e.name == TABLE for e in effects(statement)):
                        execute_statement(connection, migration.up, statement)
    return chosen


def things_made(migrations: Iterable[Migration]) -> set[Thing]:
    """Return what exists after these migrations have run, as far as their statements are recognised."""
    made: set[Thing] = set()
    for migration in migrations:
        for statement in migration.up.statements:
            for effect in effects(statement):
                _fold(made, effect)
    return made


def _fold(made: set[Thing], effect: Effect) -> None:
    named_alone = effect.kind in _NAMED_ALONE
    thing = (effect.kind, effect.name, None if named_alone else effect.on)
    if effect.verb == "create" and effect.name:
        made.add(thing)
    elif effect.verb == "drop":
        made.discard(thing)
        # A dropped table takes its triggers and columns along. Which views and indexes it takes is not known.
        made -= {t for t in made if t[2] == effect.name and effect.kind == "table"}
        made -= {
            t
            for t in made
            if t[0] in {"view", "index", "trigger"} and effect.kind not in {"index", "trigger"}
        }
    elif effect.verb == "rename" and effect.to:
        if thing in made:
            made.remove(thing)
            made.add((effect.kind, effect.to, thing[2]))
        if effect.kind == "table":
            moved = {t for t in made if t[2] == effect.name}
            made -= moved
            made |= {(kind, name, effect.to) for kind, name, _ in moved}


def _missing(connection: Connection, wanted: set[Thing]) -> list[str]:
    things = sorted(wanted, key=str)
    rows = connection.execute(
        _MISSING,
        {"kinds": [t[0] for t in things], "names": [t[1] for t in things], "tables": [t[2] for t in things]},
    ).fetchall()
    return [f"{kind} {name}" + (f" on {table}" if table else "") for kind, name, table in rows]


def _refusal(version: int, missing: list[str]) -> str:
    shown = ", ".join(missing[:_SHOWN]) + (
        f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
    )
    return (
        f"the database is not at version {version}: there is no {shown}; nothing was changed. Pass the version that it"
        " is at, or --unchecked to skip this check"
    )
