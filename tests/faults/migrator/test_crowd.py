"""Sixteen concurrent migrators with a stack's five connections. One migration is CREATE INDEX CONCURRENTLY."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from db.migrator.lock import lock_key
from tests.conftest import Connection, Database
from tests.containers import wait_until
from tests.faults.migrator.conftest import Run
from tests.integration.migrator.conftest import Write, applied_versions
from tests.promises import promise
from tests.scale import scaled

MIGRATORS = 16
ROUNDS = scaled(1, 20)
# The default of `groundwork:migratorConnectionLimit`.
CONNECTIONS = 5


@pytest.fixture
def migrations(write: Write, owner: Connection) -> list[str]:
    owner.execute("CREATE TABLE done (version int)")
    write("1_t.sql", "CREATE TABLE t (a int); INSERT INTO t SELECT generate_series(1, 5000);" + done(1))
    write("2_index.sql", "-- no-transaction\nCREATE UNIQUE INDEX CONCURRENTLY t_a_idx ON t (a)")
    write("3_u.sql", "CREATE TABLE u ();" + done(3))
    write("4_index.sql", "-- no-transaction\nCREATE INDEX CONCURRENTLY t_a_again_idx ON t (a)")
    return ["1_t", "2_index", "3_u", "4_index"]


def done(version: int) -> str:
    return f" INSERT INTO done VALUES ({version})"


@pytest.fixture
def few_connections(empty_database: Database) -> Iterator[None]:
    """Limit the role to the connections of a stack. The shared test server allows more by default."""
    empty_database.psql(f"ALTER ROLE migrator CONNECTION LIMIT {CONNECTIONS}")
    yield
    empty_database.psql("ALTER ROLE migrator CONNECTION LIMIT 60")


@promise("many migrators at once apply each migration exactly once")
@pytest.mark.usefixtures("few_connections")
def test_each_migration_is_applied_exactly_once_without_a_deadlock(
    run: Run, owner: Connection, migrations: list[str]
) -> None:
    for _ in range(ROUNDS):
        owner.execute("DROP TABLE IF EXISTS t, u, _sqlx_migrations; TRUNCATE done")
        outcomes = run("up", "--wait", "300", count=MIGRATORS)
        assert [(o.code, o.error) for o in outcomes] == [(0, "")] * MIGRATORS
        said = [
            line.split()[1] for o in outcomes for line in o.out.splitlines() if line.startswith("applied")
        ]
        assert Counter(said) == dict.fromkeys(migrations, 1)
        assert owner.execute("SELECT version FROM done ORDER BY 1").fetchall() == [(1,), (3,)]
        assert applied_versions(owner) == [1, 2, 3, 4]
        indexes = owner.execute(
            "SELECT indexrelid::regclass::text, indisvalid FROM pg_index WHERE indrelid = 't'::regclass ORDER BY 1"
        ).fetchall()
        assert indexes == [("t_a_again_idx", True), ("t_a_idx", True)]


@promise("many migrators at once apply each migration exactly once", control=True)
@pytest.mark.usefixtures("migrations")
def test_with_a_blocking_lock_the_index_and_the_waiting_migrators_deadlock(
    run: Run, owner: Connection, empty_database: Database
) -> None:
    """The negative control: the index waits for the snapshots of the waiting statements."""
    key = lock_key(empty_database.name)
    with ThreadPoolExecutor() as threads:
        # On a busy machine the first migrator could finish before the second one starts, so both have to wait.
        owner.execute("SELECT pg_advisory_lock(%s)", [key])
        running = threads.submit(run, "up", count=4, naive=True)
        wait_until(lambda: _waiting(owner) >= 2, 60)
        owner.execute("SELECT pg_advisory_unlock(%s)", [key])
        outcomes = running.result()
    failed = [o.error for o in outcomes if o.code != 0]
    assert failed
    assert all("statement timeout" in error for error in failed), failed


def _waiting(connection: Connection) -> int:
    """Return how many sessions of the database wait for an advisory lock."""
    sql = (
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    )
    ((count,),) = connection.execute(sql).fetchall()
    assert isinstance(count, int)
    return count
