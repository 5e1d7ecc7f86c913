"""Monthly partitions: where a row is stored, which role creates them, and that this blocks no other session."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from psycopg import errors

from infra.spec import postgres
from tests.conftest import Connect, Connection, Database
from tests.promises import promise
from tests.unit.documentation.pages import ROOT

MB = 1024**2


@pytest.fixture
def app(connect: Connect) -> Connection:
    connection = connect("app")
    connection.execute("INSERT INTO users (github_id, username) VALUES (1, 'ada')")
    return connection


def add(connection: Connection, timestamp: str) -> str:
    """Insert an activity with this timestamp, and return its partition."""
    row = connection.execute(
        "INSERT INTO activities (user_id, type, timestamp) SELECT id, 'x', %s::timestamptz FROM users"
        " RETURNING tableoid::regclass::text",
        [timestamp],
    ).fetchone()
    assert row is not None
    return str(row[0])


def make(connection: Connection, since: str | None, until: str) -> list[str]:
    rows = connection.execute(
        "SELECT * FROM make_activity_partitions(%s::timestamptz, %s::timestamptz)", [since, until]
    )
    return [str(row[0]) for row in rows]


def test_a_row_is_stored_in_the_partition_of_its_utc_month(app: Connection) -> None:
    make(app, "2012-01-01", "2012-02-01")
    for timestamp, partition in (
        ("2012-01-31 23:59:59.999999+00", "activities_2012_01"),
        ("2012-02-01 00:00:00+00", "activities_2012_02"),
        ("2012-02-29 12:00:00+00", "activities_2012_02"),
        ("2012-02-01 01:00:00+02", "activities_2012_01"),
    ):
        assert add(app, timestamp) == partition, timestamp


def test_months_begin_in_utc_whatever_the_session_thinks(app: Connection) -> None:
    app.execute("SET timezone = 'Pacific/Auckland'")
    assert make(app, "2012-02-01 00:00:00+13", "2012-02-01 00:00:00+13") == ["activities_2012_01"]
    assert add(app, "2012-01-31 23:59:59+00") == "activities_2012_01"


@promise("a row outside the partitions is rejected")
def test_a_row_outside_the_partitions_is_refused(app: Connection) -> None:
    for timestamp in ("1999-12-31", "infinity", "-infinity"):
        with pytest.raises(errors.CheckViolation, match="no partition of relation"):
            pytest.fail(f"{timestamp} is in {add(app, timestamp)}")


def test_there_are_partitions_around_now_after_the_migration(app: Connection) -> None:
    for months in (-1, 0, 1, 2, 3):
        row = app.execute("SELECT (now() + make_interval(months => %s))::text", [months]).fetchone()
        assert row is not None
        assert add(app, str(row[0])).startswith("activities_")


def test_missing_partitions_are_made_once_and_gaps_are_filled(app: Connection) -> None:
    assert make(app, "2012-02-15", "2012-02-15") == ["activities_2012_02"]
    assert make(app, "2012-01-31", "2012-03-01") == ["activities_2012_01", "activities_2012_03"]
    assert make(app, "2012-01-01", "2012-03-31") == []


def test_a_made_partition_has_all_that_the_table_has(app: Connection) -> None:
    make(app, "2012-01-01", "2012-01-01")
    add(app, "2012-01-15")
    with pytest.raises(errors.CheckViolation):
        app.execute("UPDATE activities SET type = ''")
    with pytest.raises(errors.ForeignKeyViolation):
        app.execute("UPDATE activities SET repo_id = 77")
    assert app.execute("UPDATE activities SET type = 'y' RETURNING row_version").fetchone() == (2,)
    app.execute("DELETE FROM users")
    assert app.execute("SELECT count(*) FROM activities").fetchone() == (0,)


def test_an_activity_that_changes_its_month_changes_its_partition(app: Connection) -> None:
    make(app, "2012-01-01", "2012-02-01")
    add(app, "2012-01-15")
    app.execute("UPDATE activities SET timestamp = '2012-02-15'")
    assert app.execute("SELECT tableoid::regclass::text, row_version FROM activities").fetchall() == [
        ("activities_2012_02", 2)
    ]


def test_a_range_without_sense_or_end_is_refused(app: Connection) -> None:
    for since, until in (
        ("2012-02-01", "2012-01-01"),
        ("1969-12-31", "1970-01-01"),
        ("2012-01-01", "2999-01-01"),
        ("-infinity", "2012-01-01"),
        ("2012-01-01", "infinity"),
        (None, "2012-01-01"),
    ):
        with pytest.raises(errors.InvalidParameterValue, match="1970 to ten years ahead"):
            pytest.fail(f"{since} to {until}: {make(app, since, until)}")


def test_a_partition_belongs_to_owner_and_is_not_reached_beside_the_table(app: Connection) -> None:
    make(app, "2012-01-01", "2012-01-01")
    row = app.execute(
        "SELECT relowner::regrole::text FROM pg_class WHERE oid = 'activities_2012_01'::regclass"
    ).fetchone()
    assert row == ("owner",)
    with pytest.raises(errors.InsufficientPrivilege):
        app.execute("SELECT * FROM activities_2012_01")


@promise("creating a partition does not wait for readers or writers of activities")
@pytest.mark.parametrize("statement", ["SELECT count(*) FROM activities", "INSERT"])
def test_creating_a_partition_does_not_wait_for_readers_or_writers_of_activities(
    app: Connection, connect: Connect, statement: str
) -> None:
    busy = connect("app_b", autocommit=False)
    if statement == "INSERT":
        # It locks no row of another table, like an import of activities whose users exist already.
        add(busy, "now")
    else:
        busy.execute(statement)
    app.execute("SET lock_timeout = '1s'")
    assert make(app, "2012-01-01", "2012-01-01") == ["activities_2012_01"]


@promise("creating a partition yields to a long write to users")
def test_creating_a_partition_yields_to_a_long_write_of_users(app: Connection, connect: Connect) -> None:
    busy = connect("app_b", autocommit=False)
    busy.execute("UPDATE users SET email = 'x@example.org'")
    app.execute("SET lock_timeout = 0")
    with pytest.raises(errors.LockNotAvailable):
        make(app, "2012-01-01", "2012-01-01")
    busy.commit()
    assert make(app, "2012-01-01", "2012-01-01") == ["activities_2012_01"]


def test_two_at_once_make_each_partition_once(app: Connection, database: Database) -> None:
    def make_all() -> list[str]:
        with psycopg.connect(database.url("app"), autocommit=True) as connection:
            while True:
                try:
                    return make(connection, "2010-01-01", "2011-12-31")
                except errors.LockNotAvailable:
                    # On a busy machine the others may take longer than the lock timeout. Nothing was created; retry.
                    continue

    with ThreadPoolExecutor(4) as pool:
        made = [name for run in [pool.submit(make_all) for _ in range(4)] for name in run.result()]
    assert len(made) == len(set(made)) == 24


def test_an_old_month_is_removed_as_the_page_on_scaling_says(app: Connection, database: Database) -> None:
    make(app, "2024-05-01", "2024-06-01")
    kept, removed = add(app, "2024-06-01"), add(app, "2024-05-31 23:00+00")
    page = (ROOT / "docs" / "scaling.md").read_text()
    statements = [
        line.strip() for line in page.splitlines() if line.startswith(("    ALTER TABLE", "    DROP TABLE"))
    ]
    assert len(statements) == 2
    # DETACH ... CONCURRENTLY does not run in a transaction.
    with psycopg.connect(database.url("migrator"), autocommit=True) as migrator:
        for statement in statements:
            migrator.execute(statement.encode())
    rows = app.execute("SELECT DISTINCT tableoid::regclass::text FROM activities").fetchall()
    assert rows == [(kept,)]
    assert removed == "activities_2024_05"


def test_a_read_without_a_range_of_time_locks_six_relations_a_month_as_the_page_on_scaling_says(
    app: Connection,
) -> None:
    page = (ROOT / "docs" / "scaling.md").read_text()
    locks = "SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'relation'"
    held = []
    for since in ("2012-01-01", "2010-01-01"):
        make(app, since, "2013-12-31")
        with app.transaction():
            app.execute(
                "SELECT * FROM activities WHERE user_id = 1 ORDER BY timestamp DESC, id DESC LIMIT 20"
            )
            row = app.execute(locks).fetchone()
            held.append(int(row[0]) if row else 0)
    assert "6 locks for each month" in page
    assert held[1] - held[0] == 6 * 24
    for memory, shown in ((256 * MB, "256 MB"), (1024 * MB, "1 GB (default)"), (4096 * MB, "4 GB and more")):
        locks = postgres.locks_per_transaction(memory, 100)
        reads = [locks * 100 // (6 * 12 * years) for years in (2, 16)]
        assert f"| {shown} | {locks} x 100 | {reads[0]} | {reads[1]} |" in page
    # Never less than Postgres's default.
    assert postgres.locks_per_transaction(256 * MB, 1000) == 64
