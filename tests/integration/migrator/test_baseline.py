"""`groundwork migrate baseline`: an existing schema is recorded as applied, and an incomplete one is refused."""

from __future__ import annotations

import json

import pytest

from db.migrator import MIGRATIONS_FOLDER, read_source
from ops.errors import Exit
from tests.conftest import Connection, Database
from tests.integration.migrator.conftest import Run, Write, applied_versions, tables
from tests.promises import promise

MADE_BY_HAND = (
    "CREATE TABLE users (id int, name text); CREATE INDEX users_name_idx ON users (name); CREATE VIEW names AS"
    " SELECT name FROM users"
)


@pytest.fixture
def release(write: Write) -> None:
    write(
        "1_users.sql",
        "CREATE TABLE users (id int); CREATE TABLE old (); CREATE INDEX users_name_idx ON old ((1))",
    )
    write("2_name.sql", "ALTER TABLE users ADD COLUMN name text; DROP TABLE old")
    write(
        "3_names.sql",
        "CREATE INDEX users_name_idx ON users (name); CREATE VIEW names AS SELECT name FROM users",
    )
    write("4_more.sql", "CREATE TABLE more ()")


@pytest.mark.usefixtures("release")
def test_what_exists_is_recorded_and_the_rest_applied(run: Run, owner: Connection) -> None:
    owner.execute(MADE_BY_HAND)
    assert run("baseline", "3").out == "recorded 1_users\nrecorded 2_name\nrecorded 3_names\n"
    assert applied_versions(owner) == [1, 2, 3]
    assert "applied 4_more (" in run("up").out
    assert tables(owner) == {"users", "more"}


@pytest.mark.usefixtures("release")
def test_the_rows_are_those_that_running_them_would_have_left(
    run: Run, owner: Connection, empty_database: Database
) -> None:
    query = "SELECT version, description, success, checksum FROM _sqlx_migrations ORDER BY 1"
    run("up")
    applied = owner.execute(query).fetchall()
    owner.execute("DELETE FROM _sqlx_migrations")
    assert run("baseline", "4").code == Exit.FINE
    assert owner.execute(query).fetchall() == applied


@promise("`baseline` is refused if the schema lacks something")
@pytest.mark.usefixtures("release")
@pytest.mark.parametrize(
    ("undo", "missing"),
    [
        (
            "DROP TABLE users CASCADE",
            "there is no column name on users, index users_name_idx, table users and 1 more",
        ),
        ("DROP INDEX users_name_idx", "there is no index users_name_idx"),
        (
            "ALTER TABLE users DROP COLUMN name CASCADE",
            "there is no column name on users, index users_name_idx, view",
        ),
        ("DROP VIEW names", "there is no view names"),
    ],
)
def test_a_schema_that_lacks_something_is_refused_with_7_and_nothing_is_recorded(
    run: Run, owner: Connection, undo: str, missing: str
) -> None:
    owner.execute(MADE_BY_HAND)
    owner.execute(undo.encode())
    outcome = run("baseline", "3")
    assert outcome.code == Exit.REFUSED
    assert missing.split(" and ")[0] in outcome.error
    assert owner.execute("SELECT to_regclass('_sqlx_migrations')").fetchone() == (None,)
    assert run("baseline", "3", "--unchecked").code == Exit.FINE


@pytest.mark.usefixtures("release")
def test_a_database_under_management_is_refused_with_7(run: Run, owner: Connection) -> None:
    run("up", "--to", "1")
    outcome = run("baseline", "4", "--unchecked")
    assert outcome.code == Exit.REFUSED
    assert "already has a ledger, at version 1" in outcome.error
    assert applied_versions(owner) == [1]


@pytest.mark.usefixtures("release")
def test_a_version_that_no_file_has_is_refused(run: Run) -> None:
    outcome = run("baseline", "9")
    assert (outcome.code, outcome.error) == (
        Exit.USAGE,
        "there is no migration of version 9; the newest is 4",
    )


@pytest.mark.usefixtures("release")
def test_a_dry_run_records_nothing(run: Run, owner: Connection) -> None:
    owner.execute(MADE_BY_HAND)
    said = json.loads(run("baseline", "1", "--unchecked", "--dry-run", "--json").out)
    assert said == {"would_record": [{"version": 1, "name": "1_users"}]}
    assert owner.execute("SELECT to_regclass('_sqlx_migrations')").fetchone() == (None,)


def test_a_baseline_of_our_own_schema_lets_the_application_read_the_ledger(
    run: Run, owner: Connection
) -> None:
    newest = read_source()[-1].version
    run("up", folder=MIGRATIONS_FOLDER)
    owner.execute("DROP TABLE _sqlx_migrations")
    assert run("baseline", str(newest), folder=MIGRATIONS_FOLDER).code == Exit.FINE
    assert owner.execute("SELECT has_table_privilege('app', '_sqlx_migrations', 'SELECT')").fetchone() == (
        True,
    )


def test_our_own_schema_lacking_its_newest_migration_is_noticed(run: Run, owner: Connection) -> None:
    newest = read_source()[-1].version
    run("up", "--to", str(newest - 1), folder=MIGRATIONS_FOLDER)
    owner.execute("DROP TABLE _sqlx_migrations")
    assert run("baseline", str(newest), folder=MIGRATIONS_FOLDER).code == Exit.REFUSED
