"""Each migration is applied, reverted and applied again: the catalog stays the same."""

from __future__ import annotations

import pytest

from db.migrator import Migration, apply_pending, read_source, revert
from db.migrator.catalog import read_catalog
from tests.conftest import Connection, Database
from tests.entities import ROWS as ENTITY_ROWS
from tests.integration.migrator.conftest import owner as owner
from tests.promises import promise

MIGRATIONS = read_source()


# Rows for the tables of each migration. The rows of earlier tables must survive reverting a later migration.
ROWS = {
    **ENTITY_ROWS,
    "users": "INSERT INTO users (github_id, username, access_token) VALUES (1, 'ada', 'x'), (2, 'alan', NULL)",
    "repositories": "INSERT INTO repositories (github_id, org_id, name) SELECT 1, id, 'o/r' FROM organizations",
    "activities": "INSERT INTO activities (user_id, type, timestamp) SELECT id, 'x', now() FROM users",
    "idempotency_keys": "INSERT INTO idempotency_keys (key, purpose) VALUES ('k', 'add user')",
}


def rows(owner: Connection) -> dict[str, list[tuple[object, ...]]]:
    """Return every row of every table, as text."""
    tables = owner.execute(
        "SELECT relname::text FROM pg_class WHERE relnamespace = 'groundwork'::regnamespace"
        " AND relkind IN ('r', 'p') AND NOT relispartition AND relname <> '_sqlx_migrations' ORDER BY 1"
    ).fetchall()
    return {
        str(table): owner.execute(f"SELECT t::text FROM {table} AS t ORDER BY 1".encode()).fetchall()
        for (table,) in tables
    }


@promise("every migration can be reverted and applied again, and leaves the same catalog")
@pytest.mark.parametrize("migration", MIGRATIONS, ids=lambda migration: migration.name)
def test_reverting_and_reapplying_a_migration_leaves_catalog_and_rows_unchanged(
    empty_database: Database, owner: Connection, migration: Migration
) -> None:
    url = empty_database.url("migrator")
    index = MIGRATIONS.index(migration)
    apply_pending(url, MIGRATIONS[:index])
    before = read_catalog(url)
    kept = rows(owner).keys()
    apply_pending(url, MIGRATIONS[: index + 1])
    after = read_catalog(url)
    assert after != before
    for table, insert in ROWS.items():
        if table in rows(owner):
            owner.execute(insert.encode())
    written = rows(owner)
    revert(url, MIGRATIONS[: index + 1])
    if index:
        assert read_catalog(url) == before
    assert rows(owner) == {table: written[table] for table in kept}
    apply_pending(url, MIGRATIONS[: index + 1])
    assert read_catalog(url) == after
    assert {table: rows(owner)[table] for table in kept} == {table: written[table] for table in kept}
    assert all(any(written[table]) for table in kept)


@promise("every migration can be reverted and applied again, and leaves the same catalog")
def test_reverting_everything_leaves_nothing_and_reapplying_restores_the_same_schema(
    empty_database: Database, owner: Connection
) -> None:
    url = empty_database.url("migrator")
    nothing = read_catalog(url).entries.keys()
    apply_pending(url, MIGRATIONS)
    after = read_catalog(url)
    revert(url, MIGRATIONS, target=0)
    left = read_catalog(url).entries.keys() - nothing
    assert [name for name in left if "_sqlx_migrations" not in name] == []
    apply_pending(url, MIGRATIONS)
    assert read_catalog(url) == after


@pytest.mark.parametrize("kind", ["r", "p"])
def test_every_table_and_column_has_a_comment(empty_database: Database, owner: Connection, kind: str) -> None:
    apply_pending(empty_database.url("migrator"), MIGRATIONS)
    silent = owner.execute(
        """
        SELECT relname, attname FROM pg_class
        JOIN pg_attribute ON attrelid = pg_class.oid AND attnum > 0 AND NOT attisdropped
        WHERE relnamespace = 'groundwork'::regnamespace AND relkind = %s AND NOT relispartition
          AND relname <> '_sqlx_migrations'
          AND (obj_description(pg_class.oid, 'pg_class') IS NULL OR col_description(pg_class.oid, attnum) IS NULL)
        """,
        [kind],
    ).fetchall()
    assert silent == []
