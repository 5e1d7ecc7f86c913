"""Create the schemas that a database's migrations and ledger are in, as sqlx's setting create-schemas does."""

from __future__ import annotations

from collections.abc import Sequence

from psycopg import sql
from psycopg.errors import DuplicateSchema, UniqueViolation

from db.migrator.connection import Connection, open_connection


def create_schemas(conninfo: str, names: Sequence[str]) -> None:
    """Create the schemas that do not exist. The names are in SQL's spelling: App is app, and "App" is App."""
    if names:
        with open_connection(conninfo) as connection:
            create_missing(connection, names)


def create_missing(connection: Connection, names: Sequence[str]) -> None:
    """Create the schemas that do not exist, as `create_schemas` does, in the session's transaction if there is one."""
    # Without CREATE on the database, IF NOT EXISTS fails for a schema that exists, too.
    missing = connection.execute(
        "SELECT name FROM pg_catalog.unnest(%s::text[]) AS given,"
        " LATERAL (SELECT (parse_ident(given))[1] AS name) AS parsed"
        " WHERE NOT EXISTS (SELECT FROM pg_namespace WHERE nspname = name)",
        [list(names)],
    ).fetchall()
    for (name,) in missing:
        try:
            # A failure must not end the transaction around it.
            with connection.transaction():
                connection.execute(
                    sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(str(name)))
                )
        except (DuplicateSchema, UniqueViolation):
            # IF NOT EXISTS can lose a race with another migrator. The schema exists now.
            pass
