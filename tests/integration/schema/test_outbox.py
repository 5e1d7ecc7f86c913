"""The outbox entries that writes leave, and the notifications that they send."""

from __future__ import annotations

import psycopg
import pytest

from tests.conftest import Connect, Connection
from tests.promises import promise

Names = list[tuple[object, ...]]


@pytest.fixture
def app(connect: Connect) -> Connection:
    """A session with two users, one organization, two repositories, one activity each, and an empty outbox."""
    connection = connect("app")
    connection.execute("INSERT INTO users (github_id, username) VALUES (1, 'a'), (2, 'b')")
    connection.execute("INSERT INTO organizations (github_id, name) VALUES (1, 'o')")
    connection.execute(
        "INSERT INTO repositories (github_id, org_id, name) VALUES (1, 1, 'o/r'), (2, 1, 'o/s')"
    )
    connection.execute(
        "INSERT INTO activities (github_event_id, user_id, repo_id, type, timestamp)"
        " VALUES (1, 1, 1, 'x', now()), (2, 2, NULL, 'x', now())"
    )
    connection.execute("DELETE FROM cache_outbox")
    return connection


def outbox(connection: Connection) -> Names:
    return connection.execute(
        "SELECT entity, entity_id FROM cache_outbox ORDER BY entity, entity_id"
    ).fetchall()


WRITES: list[tuple[str, Names]] = [
    ("INSERT INTO users (github_id, username) VALUES (3, 'c'), (4, 'd')", [("user", 3), ("user", 4)]),
    ("UPDATE users SET email = 'a@example.org' WHERE id = 1", [("user", 1)]),
    ("UPDATE users SET access_token = 'x', refresh_token = 'y'", []),
    ("UPDATE users SET access_token = 'x', email = 'a@example.org' WHERE id = 1", [("user", 1)]),
    ("UPDATE organizations SET member_count = 1", [("organization", 1)]),
    ("UPDATE repositories SET stars = 1", [("repository", 1), ("repository", 2)]),
    (
        (
            "INSERT INTO users (github_id, username) VALUES (1, 'aa'), (3, 'c')"
            " ON CONFLICT (github_id) DO UPDATE SET username = excluded.username"
        ),
        [("user", 1), ("user", 4)],
    ),
    ("DELETE FROM users WHERE id = 1", [("repository_feed", 1), ("user", 1), ("user_feed", 1)]),
    ("DELETE FROM organizations", [("organization", 1), ("repository", 1), ("repository", 2)]),
    (
        "DELETE FROM repositories WHERE id = 1",
        [("repository", 1), ("repository_feed", 1), ("user_feed", 1)],
    ),
    (
        (
            "INSERT INTO activities (user_id, repo_id, type, timestamp)"
            " SELECT 1, 2, 'x', now() FROM generate_series(1, 500)"
        ),
        [("repository_feed", 2), ("user_feed", 1)],
    ),
    ("INSERT INTO activities (user_id, type, timestamp) VALUES (1, 'x', now())", [("user_feed", 1)]),
    (
        "UPDATE activities SET user_id = 2, repo_id = 2 WHERE github_event_id = 1",
        [("repository_feed", 1), ("repository_feed", 2), ("user_feed", 1), ("user_feed", 2)],
    ),
    ("DELETE FROM activities WHERE github_event_id = 1", [("repository_feed", 1), ("user_feed", 1)]),
    ("UPDATE users SET email = NULL WHERE id = 99", []),
    ("DELETE FROM activities WHERE id = 99", []),
]


@promise("every committed write records in the outbox what it made stale, whoever writes")
def test_a_write_names_what_it_made_stale(app: Connection, connect: Connect) -> None:
    owner = connect("migrator")
    for sql, expected in WRITES:
        # A rollback does not reset the ids of new rows.
        owner.execute("SELECT setval('users_id_seq', 2)")
        with app.transaction(force_rollback=True):
            app.execute(sql.encode())
            assert outbox(app) == expected, sql


NEW_TABLE = """
CREATE TABLE invoices (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY);
GRANT INSERT ON invoices TO app;
CREATE TRIGGER invoices_outbox_insert AFTER INSERT ON invoices REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION write_record_outbox('invoice')
"""


def test_the_outbox_takes_a_new_entity_without_a_change(app: Connection, connect: Connect) -> None:
    connect("migrator").execute(NEW_TABLE)
    app.execute("INSERT INTO invoices DEFAULT VALUES")
    assert outbox(app) == [("invoice", 1)]


def test_with_a_check_of_the_entities_no_row_of_a_new_table_could_be_inserted(
    app: Connection, connect: Connect
) -> None:
    """Negative control: the outbox lists the entities."""
    entities = "'user', 'organization', 'repository', 'user_feed', 'repository_feed'"
    migrator = connect("migrator")
    migrator.execute(f"ALTER TABLE cache_outbox ADD CHECK (entity IN ({entities}))".encode())
    migrator.execute(NEW_TABLE)
    with pytest.raises(psycopg.errors.CheckViolation):
        app.execute("INSERT INTO invoices DEFAULT VALUES")


def test_a_copy_names_each_feed_once(app: Connection) -> None:
    with app.cursor().copy("COPY activities (user_id, repo_id, type, timestamp) FROM STDIN") as copy:
        for n in range(1000):
            copy.write_row((1 + n % 2, 1, "x", "now"))
    assert outbox(app) == [("repository_feed", 1), ("user_feed", 1), ("user_feed", 2)]


@promise("a write that is rolled back leaves no outbox entry")
def test_a_write_that_is_rolled_back_leaves_nothing(app: Connection) -> None:
    with app.transaction(force_rollback=True):
        app.execute("UPDATE users SET email = 'x@example.org'")
        assert len(outbox(app)) == 2
    assert outbox(app) == []


@promise("every committed write records in the outbox what it made stale, whoever writes")
@pytest.mark.parametrize(
    ("tables", "expected"),
    [
        (
            "users CASCADE",
            [("repository_feed", 1), ("user", 1), ("user", 2), ("user_feed", 1), ("user_feed", 2)],
        ),
        (
            "organizations, repositories CASCADE",
            [
                ("organization", 1),
                *(("repository", 1), ("repository", 2), ("repository_feed", 1)),
                *(("user_feed", 1), ("user_feed", 2)),
            ],
        ),
        ("activities", [("repository_feed", 1), ("user_feed", 1), ("user_feed", 2)]),
    ],
)
def test_a_truncate_names_every_row_and_wakes_the_listener(
    app: Connection, connect: Connect, tables: str, expected: Names
) -> None:
    app.execute("LISTEN cache_outbox")
    connect("migrator").execute(f"TRUNCATE {tables}")
    assert outbox(app) == expected
    assert [n.payload for n in app.notifies(timeout=30, stop_after=1)] == [""]
    app.execute("DELETE FROM cache_outbox")
    connect("migrator").execute(f"TRUNCATE {tables}")
    assert outbox(app) == []


@promise("every committed write records in the outbox what it made stale, whoever writes")
def test_a_write_by_any_login_fills_the_outbox(app: Connection, connect: Connect) -> None:
    for number, login in enumerate(("migrator", "app_b"), start=1):
        connect(login).execute("UPDATE users SET email = 'x@example.org' WHERE id = %s", [number])
        assert outbox(app) == [("user", each) for each in range(1, number + 1)], login


def test_a_listener_is_woken_once_a_transaction_with_an_empty_payload(
    app: Connection, connect: Connect
) -> None:
    listener = connect("app")
    listener.execute("LISTEN cache_outbox")
    with app.transaction():
        app.execute("UPDATE users SET email = 'x@example.org'")
        app.execute("UPDATE repositories SET stars = 1")
        app.execute("DELETE FROM activities")
    notified = [*listener.notifies(timeout=60, stop_after=1), *listener.notifies(timeout=1)]
    assert [(n.channel, n.payload) for n in notified] == [("cache_outbox", "")]


def test_a_write_that_changes_no_row_sends_no_notification(app: Connection, connect: Connect) -> None:
    listener = connect("app")
    listener.execute("LISTEN cache_outbox")
    app.execute("UPDATE users SET email = NULL WHERE id = 99")
    assert list(listener.notifies(timeout=0.5)) == []


@promise("several drainers process each outbox entry once")
def test_two_drainers_take_each_row_once(app: Connection, connect: Connect) -> None:
    app.execute("INSERT INTO users (github_id, username) SELECT g, 'u' FROM generate_series(10, 59) AS g")
    take = "DELETE FROM cache_outbox WHERE id IN (SELECT id FROM cache_outbox ORDER BY id LIMIT 30) RETURNING entity_id"
    taken = [row for login in ("app_a", "app_b") for row in connect(login).execute(take).fetchall()]
    assert len(taken) == len(set(taken)) == 50
