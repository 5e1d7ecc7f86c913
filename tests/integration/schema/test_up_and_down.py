"""Each migration is applied, reverted and applied again: the catalog stays the same."""

from __future__ import annotations

from db.migrator import apply_pending, read_source, revert
from db.migrator.catalog import read_catalog
from tests.conftest import Connect, Connection, Database
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
def test_reverting_and_reapplying_a_migration_leaves_catalog_and_rows_unchanged(
    empty_database: Database, owner: Connection
) -> None:
    url = empty_database.url("migrator")
    after = read_catalog(url)
    for count, migration in enumerate(MIGRATIONS, start=1):
        applied, before = MIGRATIONS[:count], after
        kept = rows(owner).keys()
        apply_pending(url, applied)
        after = read_catalog(url)
        assert after != before, migration.name
        tables = [table for table in ROWS if table in rows(owner)]
        for table in reversed(tables):
            owner.execute(f"DELETE FROM {table}".encode())
        for table in tables:
            owner.execute(ROWS[table].encode())
        written = rows(owner)
        revert(url, applied)
        # The first migration also creates the ledger, which stays.
        assert count == 1 or read_catalog(url) == before, migration.name
        assert rows(owner) == {table: written[table] for table in kept}, migration.name
        apply_pending(url, applied)
        assert read_catalog(url) == after, migration.name
        assert {table: rows(owner)[table] for table in kept} == {table: written[table] for table in kept}
        assert all(any(written[table]) for table in kept), migration.name


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


def test_every_table_and_column_has_a_comment(connect: Connect) -> None:
    silent = (
        connect("migrator")
        .execute(
            """
        SELECT relname, attname FROM pg_class
        JOIN pg_attribute ON attrelid = pg_class.oid AND attnum > 0 AND NOT attisdropped
        WHERE relnamespace = 'groundwork'::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition
          AND relname <> '_sqlx_migrations'
          AND (obj_description(pg_class.oid, 'pg_class') IS NULL OR col_description(pg_class.oid, attnum) IS NULL)
        """
        )
        .fetchall()
    )
    assert silent == []
