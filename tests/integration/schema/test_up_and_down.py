"""Each migration up, down, and up again: the catalog is the same."""

from __future__ import annotations

import pytest

from db.migrator import apply_pending, read_source, revert
from tests.conftest import Connection, Database
from tests.integration.migrator.conftest import owner as owner
from tests.integration.schema.catalog import catalog

MIGRATIONS = read_source()


@pytest.mark.parametrize("migration", MIGRATIONS, ids=lambda migration: migration.name)
def test_a_migration_taken_back_and_applied_again_leaves_the_same_catalog(
    empty_database: Database, owner: Connection, migration: object
) -> None:
    url = empty_database.url("migrator")
    index = next(n for n, m in enumerate(MIGRATIONS) if m == migration)
    apply_pending(url, MIGRATIONS[:index])
    before = catalog(owner)
    apply_pending(url, MIGRATIONS[: index + 1])
    after = catalog(owner)
    assert after != before
    revert(url, MIGRATIONS[: index + 1])
    assert catalog(owner) == before
    apply_pending(url, MIGRATIONS[: index + 1])
    assert catalog(owner) == after


def test_everything_taken_back_leaves_nothing_and_comes_back_the_same(
    empty_database: Database, owner: Connection
) -> None:
    url = empty_database.url("migrator")
    apply_pending(url, MIGRATIONS)
    after = catalog(owner)
    revert(url, MIGRATIONS, target=0)
    assert {kind for kind, *_ in catalog(owner)} == {"ledger"}
    apply_pending(url, MIGRATIONS)
    assert catalog(owner) == after


@pytest.mark.parametrize("kind", ["r", "p"])
def test_every_table_and_column_says_what_it_is(
    empty_database: Database, owner: Connection, kind: str
) -> None:
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


def test_rows_of_the_tables_below_survive_migrations_taken_back_and_applied_again(
    empty_database: Database, owner: Connection
) -> None:
    url = empty_database.url("migrator")
    apply_pending(url, MIGRATIONS)
    owner.execute("INSERT INTO users (github_id, username) VALUES (1, 'ada')")
    owner.execute("INSERT INTO activities (user_id, type, timestamp) SELECT id, 'x', now() FROM users")
    while owner.execute("SELECT to_regclass('activities')").fetchone() != (None,):
        revert(url, MIGRATIONS)
    apply_pending(url, MIGRATIONS)
    assert owner.execute("SELECT username FROM users").fetchall() == [("ada",)]
    assert owner.execute("SELECT count(*) FROM activities").fetchone() == (0,)
