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


pytestmark = pytest.mark.usefixtures("verified_on_shared_server")


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
        ("DROP TABLE users CASCADE", "table users is missing, view names is missing"),
        ("DROP INDEX users_name_idx", "index users_name_idx is missing"),
        (
            "ALTER TABLE users DROP COLUMN name CASCADE",
            "column users.name is missing, index users_name_idx is missing, view names is missing",
        ),
        ("DROP VIEW names", "view names is missing"),
        ("ALTER TABLE users ALTER id TYPE text", "column users.id is `text` instead of `integer`"),
        (
            "ALTER TABLE users ALTER id SET NOT NULL",
            "column users.id is `integer NOT NULL` instead of `integer`",
        ),
        ("DROP INDEX users_name_idx; CREATE INDEX users_name_idx ON users (id)", "index users_name_idx is `"),
    ],
)
def test_a_schema_that_lacks_something_is_refused_with_7_and_nothing_is_recorded(
    run: Run, owner: Connection, undo: str, missing: str
) -> None:
    owner.execute(MADE_BY_HAND)
    owner.execute(undo.encode())
    outcome = run("baseline", "3")
    assert outcome.code == Exit.REFUSED
    assert missing in outcome.error
    assert owner.execute("SELECT to_regclass('_sqlx_migrations')").fetchone() == (None,)
    assert run("baseline", "3", "--unchecked").code == Exit.FINE


CHECKED = "CREATE TABLE t (id int PRIMARY KEY, v text NOT NULL DEFAULT 'x', CONSTRAINT c CHECK (id > 0))"


@promise("`baseline` is refused if the schema lacks something")
@pytest.mark.parametrize(
    ("existing", "said"),
    [
        (
            "CREATE TABLE t (id text)",
            "column t.id is `text` instead of `integer NOT NULL`, column t.v is missing",
        ),
        (CHECKED.replace("NOT NULL ", ""), "column t.v is `"),
        (CHECKED.replace(" PRIMARY KEY", " NOT NULL"), "constraint t.t_pkey is missing"),
        (
            CHECKED.replace("id > 0", "id > 1"),
            "constraint t.c is `CHECK ((id > 1))` instead of `CHECK ((id > 0))`",
        ),
        (CHECKED.replace(" DEFAULT 'x'", ""), "column t.v is `text NOT NULL` instead of"),
    ],
)
def test_the_parts_of_a_created_table_are_compared(
    run: Run, write: Write, owner: Connection, existing: str, said: str
) -> None:
    write("1_a.sql", CHECKED)
    owner.execute(existing.encode())
    # The negative control: the objects that the file names exist.
    assert owner.execute("SELECT to_regclass('t') IS NOT NULL").fetchone() == (True,)
    outcome = run("baseline", "1")
    assert outcome.code == Exit.REFUSED
    assert said in outcome.error
    assert owner.execute("SELECT to_regclass('_sqlx_migrations')").fetchone() == (None,)


@pytest.mark.parametrize(
    "existing",
    [
        pytest.param(CHECKED + "; CREATE TABLE more (); ALTER TABLE t ADD extra int", id="more"),
        pytest.param(
            "CREATE TABLE t (v text NOT NULL DEFAULT 'x', id int PRIMARY KEY, CONSTRAINT c CHECK (id > 0))",
            id="another order",
        ),
    ],
)
def test_more_objects_and_another_order_of_columns_are_accepted(
    run: Run, write: Write, owner: Connection, existing: str
) -> None:
    write(
        "1_a.sql",
        CHECKED + "; CREATE FUNCTION temporary() RETURNS int RETURN 1; CREATE TYPE mood AS ENUM ('ok')",
    )
    # What the files drop again is not asked for.
    write("2_b.sql", "DROP FUNCTION temporary; DROP TYPE mood")
    owner.execute(existing.encode())
    assert run("baseline", "2").code == Exit.FINE
    assert applied_versions(owner) == [1, 2]


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
