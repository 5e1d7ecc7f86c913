"""Constraints, cascades of deletions, and the columns that the database maintains."""

from __future__ import annotations

import psycopg
import pytest
from psycopg import errors

from tests.conftest import Connect, Connection
from tests.promises import promise


@pytest.fixture
def app(connect: Connect) -> Connection:
    return connect("app")


@pytest.fixture
def rows(app: Connection) -> None:
    """A user, an organization with a repository, and an activity of the user in the repository."""
    app.execute("INSERT INTO users (github_id, username) VALUES (1, 'ada')")
    app.execute("INSERT INTO organizations (github_id, name) VALUES (1, 'analysts')")
    app.execute(
        "INSERT INTO repositories (github_id, org_id, name) SELECT 1, id, 'a/engine' FROM organizations"
    )
    app.execute(
        "INSERT INTO activities (github_event_id, user_id, repo_id, type, timestamp)"
        " SELECT 1, users.id, repositories.id, 'PushEvent', now() FROM users, repositories"
    )


def _version(app: Connection, table: str) -> int:
    row = app.execute(f"SELECT row_version FROM {table} WHERE id = 1").fetchone()
    assert row is not None
    return int(str(row[0]))


REFUSED: list[tuple[type[psycopg.Error], str]] = [
    (errors.UniqueViolation, "INSERT INTO users (github_id, username) VALUES (1, 'another')"),
    (errors.UniqueViolation, "INSERT INTO organizations (github_id, name) VALUES (1, 'another')"),
    (errors.UniqueViolation, "INSERT INTO repositories (github_id, name) VALUES (1, 'another')"),
    (
        errors.UniqueViolation,
        (
            "INSERT INTO activities (github_event_id, user_id, type, timestamp)"
            " SELECT github_event_id, user_id, type, timestamp FROM activities"
        ),
    ),
    (errors.NotNullViolation, "INSERT INTO users (github_id) VALUES (2)"),
    (errors.NotNullViolation, "INSERT INTO users (username) VALUES ('b')"),
    (errors.NotNullViolation, "UPDATE users SET preferences = NULL"),
    (errors.NotNullViolation, "UPDATE activities SET user_id = NULL"),
    (errors.CheckViolation, "INSERT INTO users (github_id, username) VALUES (2, '')"),
    (errors.CheckViolation, "INSERT INTO users (github_id, username) VALUES (0, 'b')"),
    (errors.CheckViolation, "UPDATE users SET preferences = '[]'"),
    (errors.CheckViolation, "UPDATE organizations SET member_count = -1"),
    (errors.CheckViolation, "UPDATE organizations SET name = ''"),
    (errors.CheckViolation, "UPDATE repositories SET stars = -1"),
    (errors.CheckViolation, "UPDATE repositories SET forks = -1"),
    (errors.CheckViolation, "UPDATE repositories SET issues = -1"),
    (errors.CheckViolation, "UPDATE repositories SET name = ''"),
    (errors.CheckViolation, "UPDATE activities SET type = ''"),
    (errors.CheckViolation, "UPDATE activities SET data = '1'"),
    (errors.ForeignKeyViolation, "UPDATE repositories SET org_id = 99"),
    (errors.ForeignKeyViolation, "UPDATE activities SET user_id = 99"),
    (errors.ForeignKeyViolation, "UPDATE activities SET repo_id = 99"),
    (errors.GeneratedAlways, "INSERT INTO users (id, github_id, username) VALUES (9, 9, 'b')"),
    (errors.GeneratedAlways, "UPDATE users SET id = 9"),
]


@promise("a row that violates the schema's constraints is rejected")
@pytest.mark.usefixtures("rows")
def test_a_row_that_would_break_the_schema_is_refused(app: Connection) -> None:
    for error, sql in REFUSED:
        try:
            app.execute(sql.encode())
        except error:
            continue
        pytest.fail(f"not refused: {sql}")


ACCEPTED = [
    "INSERT INTO users (github_id, username) VALUES (2, 'ada')",
    "INSERT INTO organizations (github_id, name) VALUES (2, 'analysts')",
    "INSERT INTO repositories (github_id, name) VALUES (2, 'a/engine')",
    "INSERT INTO activities (user_id, type, timestamp) SELECT user_id, type, timestamp FROM activities",
    "UPDATE repositories SET stars = 0, forks = 0, issues = 2147483647",
]


@promise("a row that violates the schema's constraints is rejected", control=True)
@pytest.mark.usefixtures("rows")
def test_a_row_that_people_do_have_is_taken(app: Connection) -> None:
    for sql in ACCEPTED:
        with app.transaction(force_rollback=True):
            assert app.execute(sql.encode()).rowcount == 1, sql


@promise("deleting a user deletes its activities; deleting an organization or a repository keeps them")
@pytest.mark.usefixtures("rows")
def test_a_users_activities_go_with_the_user(app: Connection) -> None:
    app.execute("DELETE FROM users")
    assert app.execute("SELECT count(*) FROM activities").fetchone() == (0,)
    assert app.execute("SELECT count(*) FROM repositories").fetchone() == (1,)


@promise("deleting a user deletes its activities; deleting an organization or a repository keeps them")
@pytest.mark.usefixtures("rows")
def test_a_repository_outlives_its_organization(app: Connection) -> None:
    version = _version(app, "repositories")
    app.execute("DELETE FROM organizations")
    assert app.execute("SELECT org_id, row_version FROM repositories").fetchall() == [(None, version + 1)]


@promise("deleting a user deletes its activities; deleting an organization or a repository keeps them")
@pytest.mark.usefixtures("rows")
def test_an_activity_outlives_its_repository(app: Connection) -> None:
    app.execute("DELETE FROM repositories")
    assert app.execute("SELECT repo_id, row_version FROM activities").fetchall() == [(None, 2)]


@promise("the database maintains version and timestamps, whatever an UPDATE sets")
@pytest.mark.usefixtures("rows")
def test_the_database_maintains_version_and_timestamps_whatever_an_update_sets(app: Connection) -> None:
    for table in ("users", "organizations", "repositories", "activities"):
        before = app.execute(f"SELECT row_version, created_at, updated_at FROM {table}").fetchone()
        app.execute(
            f"UPDATE {table} SET row_version = 77, created_at = '2000-01-01', updated_at = '2000-01-01'"
        )
        after = app.execute(
            f"SELECT row_version, created_at = %s, updated_at > %s FROM {table}", before and before[1:]
        ).fetchone()
        assert before is not None
        assert after == (int(str(before[0])) + 1, True, True), table


@promise("a new row never starts at a row_version that an earlier row of its id had")
@pytest.mark.usefixtures("rows")
def test_a_row_inserted_again_starts_above_the_deleted_one_whatever_the_insert_sets(app: Connection) -> None:
    for table in ("users", "organizations", "repositories"):
        name = "username" if table == "users" else "name"
        seen = []
        for version in ("1", "0", "99"):
            app.execute(f"UPDATE {table} SET {name} = 'changed'")
            seen.append(_version(app, table))
            with app.transaction():
                app.execute(f"DELETE FROM {table} WHERE id = 1")
                app.execute(
                    f"INSERT INTO {table} (id, github_id, {name}, row_version) OVERRIDING SYSTEM VALUE"
                    f" VALUES (1, 1, 'again', {version})"
                )
            seen.append(_version(app, table))
        assert seen == sorted(set(seen)), table


@promise("a new row never starts at a row_version that an earlier row of its id had", control=True)
@pytest.mark.usefixtures("rows")
def test_without_the_trigger_a_row_starts_at_the_version_that_the_insert_sets(
    app: Connection, connect: Connect
) -> None:
    connect("migrator").execute("ALTER TABLE users DISABLE TRIGGER users_start_version")
    app.execute("INSERT INTO users (github_id, username) VALUES (2, 'b'), (3, 'c')")
    assert app.execute("SELECT row_version FROM users WHERE id > 1").fetchall() == [(1,), (1,)]


@promise("the database maintains version and timestamps, whatever an UPDATE sets")
@pytest.mark.usefixtures("rows")
def test_tokens_alone_leave_version_and_timestamp_of_a_user(app: Connection) -> None:
    read = "SELECT row_version, updated_at FROM users"
    before = app.execute(read).fetchone()
    app.execute("UPDATE users SET access_token = 'x', refresh_token = NULL")
    assert app.execute(read).fetchone() == before
    app.execute("UPDATE users SET access_token = 'y', email = 'a@example.org'")
    after = app.execute(read).fetchone()
    assert before is not None
    assert after is not None
    assert after[0] == int(str(before[0])) + 1


@pytest.mark.usefixtures("rows")
def test_every_other_column_of_users_bumps_the_version_also_one_added_later(
    app: Connection, connect: Connect
) -> None:
    owner = connect("migrator")
    owner.execute("ALTER TABLE users ADD COLUMN added_later text")
    owner.execute("GRANT UPDATE (added_later) ON users TO app")
    columns = app.execute(
        """
        SELECT attname, format_type(atttypid, NULL) FROM pg_attribute
        WHERE attrelid = 'users'::regclass AND attnum > 0 AND NOT attisdropped
          AND attname NOT IN ('id', 'created_at', 'updated_at', 'row_version', 'access_token', 'refresh_token')
        """
    ).fetchall()
    values = {"bigint": "4711", "text": "'other'", "jsonb": "'{\"other\": 1}'"}
    for expected, (column, kind) in enumerate(columns, start=_version(app, "users") + 1):
        app.execute(f"UPDATE users SET access_token = 'z', {column} = {values[kind]} WHERE id = 1")
        row = app.execute("SELECT row_version FROM users WHERE id = 1").fetchone()
        assert row == (expected,), column


@pytest.mark.usefixtures("rows")
def test_versions_grow_where_timestamps_tie(app: Connection) -> None:
    first = _version(app, "users")
    with app.transaction():
        seen = [
            app.execute("UPDATE users SET email = %s RETURNING row_version, updated_at", [email]).fetchone()
            for email in ("a@example.org", "b@example.org")
        ]
    assert [row and row[0] for row in seen] == [first + 1, first + 2]
    assert len({row and row[1] for row in seen}) == 1


@pytest.mark.usefixtures("rows")
def test_of_two_writers_that_read_one_version_only_the_first_writes(
    app: Connection, connect: Connect
) -> None:
    update = f"UPDATE users SET email = %s WHERE row_version = {_version(app, 'users')}"
    assert app.execute(update, ["first@example.org"]).rowcount == 1
    assert connect("app_b").execute(update, ["second@example.org"]).rowcount == 0


ACCESS_PATHS = [
    ("SELECT * FROM users WHERE github_id = 1", "users_github_id_key"),
    ("SELECT * FROM users WHERE username = 'ada'", "users_username_idx"),
    (
        "SELECT * FROM users WHERE lower(username COLLATE \"C\") = 'ada' AND id > 7 ORDER BY id LIMIT 5",
        "users_login_idx",
    ),
    ("SELECT * FROM repositories WHERE org_id = 1 ORDER BY id LIMIT 5", "repositories_org_idx"),
    ("SELECT * FROM repositories ORDER BY stars DESC, id DESC LIMIT 5", "repositories_stars_idx"),
    (
        "SELECT * FROM repositories WHERE language = 'Go' ORDER BY stars DESC, id DESC LIMIT 5",
        "repositories_language_idx",
    ),
    (
        (
            "SELECT * FROM activities WHERE user_id = 1 AND timestamp <= now() AND (timestamp, id) < (now(), 9)"
            " ORDER BY timestamp DESC, id DESC LIMIT 5"
        ),
        "user_id_timestamp_id_idx",
    ),
    (
        "SELECT * FROM activities WHERE repo_id = 1 ORDER BY timestamp DESC, id DESC LIMIT 5",
        "repo_id_timestamp_id_idx",
    ),
    (
        (
            "SELECT * FROM activities WHERE type = 'x' AND timestamp BETWEEN now() - interval '1 day' AND now()"
            " ORDER BY timestamp DESC, id DESC"
        ),
        "type_timestamp_id_idx",
    ),
]


@promise("each access path has an index in its order")
def test_each_access_path_has_an_index_that_gives_its_order(app: Connection) -> None:
    # With so few rows the planner would not use an index. The test is whether one can be used without a sort.
    app.execute("SET enable_seqscan = off; SET enable_sort = off; SET enable_bitmapscan = off")
    for query, index in ACCESS_PATHS:
        plan = "\n".join(str(row[0]) for row in app.execute(f"EXPLAIN (COSTS OFF) {query}".encode()))
        assert (index in plan, "Sort" in plan) == (True, False), f"{query}\n{plan}"
