"""Each fault of Postgres is caused on a real server and found by its check, which was ok before."""

from __future__ import annotations

import shutil
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest

from db.migrator import MIGRATIONS_FOLDER
from ops.doctor.check_result import CheckResult, CheckStatus
from ops.servers.monitored_stack import MonitoredStack
from tests.conftest import Connect, Database
from tests.containers import Server, wait_until
from tests.integration.doctor.asking import Ask, ask
from tests.monitored import LIMIT, monitored
from tests.promises import promise


def text_of(finding: CheckResult) -> str:
    return "\n".join([finding.text, *finding.details])


def test_a_login_near_its_connection_limit_is_named(asked: Ask, database: Database) -> None:
    assert asked("postgres-connections").status is CheckStatus.OK
    with ExitStack() as stack:
        for _ in range(5):
            stack.enter_context(psycopg.connect(database.url("readonly")))
        found = asked("postgres-connections", connections_warn=5 / LIMIT, connections_fail=0.9)
        assert found.status is CheckStatus.WARN
        assert found.text == f"nearly exhausted: readonly_a 5 of {LIMIT}"
        assert "raise the role's limit" in found.advice


def test_connections_that_rds_reserves_are_not_counted_as_free(asked: Ask, database: Database) -> None:
    assert "of 97 in use" in asked("postgres-connections").text
    # RDS has this parameter, with this value.
    database.psql(f"ALTER DATABASE {database.name} SET rds.rds_superuser_reserved_connections = 2")
    assert "of 95 in use" in asked("postgres-connections").text


def test_a_login_at_its_limit_fails(ill_postgres: Server, ill_stack: MonitoredStack) -> None:
    ill_postgres.psql("ALTER ROLE readonly_a CONNECTION LIMIT 2")
    try:
        with ExitStack() as stack:
            for _ in range(2):
                stack.enter_context(psycopg.connect(ill_postgres.database_url("readonly_a")))
            found = ask(ill_stack, "postgres-connections")
            assert found.status is CheckStatus.FAIL
            assert "readonly_a 2 of 2" in found.text
    finally:
        ill_postgres.psql(f"ALTER ROLE readonly_a CONNECTION LIMIT {LIMIT}")


def test_reads_that_miss_the_buffers_are_a_poor_hit_rate(ill_postgres: Server, ill_redis: Server) -> None:
    database = Database(ill_postgres, "groundwork")
    assert ask(monitored(database, ill_redis), "postgres-hit-rate").status is CheckStatus.OK
    ill_postgres.psql(
        "CREATE TABLE cold AS SELECT g, repeat('x', 900) AS pad FROM generate_series(1, 100000) AS g",
        "groundwork",
    )
    ill_postgres.restart()
    ill_postgres.psql("SELECT pg_stat_reset()", "groundwork")
    ill_postgres.psql("SELECT count(pad) FROM cold; SELECT pg_stat_force_next_flush()", "groundwork")
    # The port has changed with the restart.
    found = ask(monitored(database, ill_redis), "postgres-hit-rate")
    ill_postgres.psql("DROP TABLE cold", "groundwork")
    assert found.status is CheckStatus.WARN, found


def test_a_long_transaction_is_named(asked: Ask, connect: Connect) -> None:
    assert asked("long-transactions", transaction_warn=30).status is CheckStatus.OK
    app = connect("app", autocommit=False, application_name="forgetful")
    app.execute("SELECT count(*) FROM users")
    time.sleep(1.1)
    found = asked("long-transactions", transaction_warn=1)
    assert found.status is CheckStatus.WARN
    assert "forgetful" in text_of(found)
    assert f"process {app.info.backend_pid}" in text_of(found)
    assert "idle in transaction" in text_of(found)
    assert asked("long-transactions", transaction_warn=0.5, transaction_fail=1).status is CheckStatus.FAIL


def test_a_blocked_session_and_its_blocker_are_reported(asked: Ask, connect: Connect) -> None:
    assert asked("locks").status is CheckStatus.OK
    holder = connect("app", autocommit=False, application_name="holder")
    holder.execute("LOCK TABLE users IN SHARE ROW EXCLUSIVE MODE")
    waiter = connect("migrator")
    waiter.execute("SET lock_timeout = '60s'")
    pid = waiter.info.backend_pid
    waits = threading.Thread(target=waiter.execute, args=["ALTER TABLE users ADD COLUMN probe int"])
    waits.start()
    wait_until(lambda: bool(asked("locks", lock_wait_warn=0.001).details))
    found = asked("locks", lock_wait_warn=0.001)
    holder.rollback()
    waits.join()
    assert found.status is CheckStatus.WARN
    assert f"process {pid} (migrator) waits" in text_of(found)
    assert "for users" in text_of(found) or "for groundwork.users" in text_of(found)
    assert f"held by process {holder.info.backend_pid} (app_a, holder, idle in transaction)" in text_of(found)


@promise("invalid, duplicate and unused indexes are found")
def test_an_invalid_index_is_found(asked: Ask, database: Database) -> None:
    assert asked("invalid-indexes").status is CheckStatus.OK
    database.psql(
        "INSERT INTO groundwork.organizations (github_id, name) VALUES (1, 'same'), (2, 'same');\n"
        "\\set ON_ERROR_STOP 0\n"
        "CREATE UNIQUE INDEX CONCURRENTLY broken ON groundwork.organizations (name);"
    )
    found = asked("invalid-indexes")
    assert found.status is CheckStatus.FAIL
    assert "broken" in found.text
    assert "uniqueness is not enforced" in text_of(found)


@promise("invalid, duplicate and unused indexes are found")
def test_an_index_equal_to_another_is_a_duplicate(asked: Ask, database: Database) -> None:
    for definition, is_duplicate in (
        ("users (username)", True),
        ("users USING btree (username) INCLUDE (id)", False),
        ("users (username DESC)", False),
        ("users (username) WHERE id > 7", False),
        ("users (lower(username))", False),
        ("users (github_id)", True),
        ("activities (user_id, timestamp DESC, id DESC)", True),
    ):
        database.psql(f"CREATE INDEX second ON groundwork.{definition}")
        found = asked("duplicate-indexes")
        database.psql("DROP INDEX groundwork.second")
        assert (found.status is CheckStatus.WARN) is is_duplicate, (definition, found)
        # Of two equal indexes, the one of a constraint is not superfluous.
        assert ("superfluous: groundwork.second" in found.text) is is_duplicate, definition


@promise("invalid, duplicate and unused indexes are found")
def test_an_index_that_is_never_read_is_found_and_one_that_is_read_is_not(
    asked: Ask, database: Database
) -> None:
    database.psql(
        "CREATE INDEX idle ON groundwork.organizations (description);\n"
        "CREATE INDEX busy ON groundwork.organizations (name);\n"
        "SET enable_seqscan = off;\n"
        "SELECT count(*) FROM groundwork.organizations WHERE name = 'x';\n"
        "SELECT pg_stat_force_next_flush();"
    )
    found = asked("unused-indexes", unused_index_days=0, unused_index_bytes=8192)
    assert found.status is CheckStatus.WARN
    assert "groundwork.idle" in found.text
    assert "busy" not in found.text
    assert "github_id_key" not in found.text
    assert "_pkey" not in found.text


def test_unused_space_is_estimated(asked: Ask, database: Database) -> None:
    assert asked("bloat").status is CheckStatus.OK
    database.psql(
        "CREATE TABLE groundwork.swollen (id bigint PRIMARY KEY, pad text) WITH (autovacuum_enabled = off);\n"
        "INSERT INTO groundwork.swollen SELECT g, repeat('x', 200) FROM generate_series(1, 100000) AS g;\n"
        "VACUUM ANALYZE groundwork.swollen;"
    )
    full = asked("bloat")
    assert full.status is CheckStatus.OK, full
    database.psql("DELETE FROM groundwork.swollen WHERE id % 10 <> 0")
    database.psql("VACUUM ANALYZE groundwork.swollen")
    found = asked("bloat")
    assert found.status is CheckStatus.WARN
    assert "groundwork.swollen: 2" in text_of(found), found


def test_dead_rows_that_no_vacuum_removed_are_found(asked: Ask, database: Database) -> None:
    assert asked("dead-rows").status is CheckStatus.OK
    database.psql(
        "CREATE TABLE groundwork.littered (id bigint) WITH (autovacuum_enabled = off);\n"
        "INSERT INTO groundwork.littered SELECT generate_series(1, 30000);\n"
        "DELETE FROM groundwork.littered WHERE id > 15000;\n"
        "SELECT pg_stat_force_next_flush();"
    )
    found = asked("dead-rows")
    assert found.status is CheckStatus.WARN
    assert "15000 dead and 15000 live rows, last vacuumed never" in text_of(found)


def test_dead_rows_that_autovacuum_will_remove_are_ignored(asked: Ask, database: Database) -> None:
    """A small table, like the outbox after an import, and a large one that was vacuumed just before."""
    database.psql(
        "CREATE TABLE groundwork.queue (id bigint);\n"
        "INSERT INTO groundwork.queue SELECT generate_series(1, 30000);\n"
        "DELETE FROM groundwork.queue;\n"
        "CREATE TABLE groundwork.tended (filler text);\n"
        "INSERT INTO groundwork.tended SELECT repeat('x', 1000) FROM generate_series(1, 15000);"
    )
    database.psql("VACUUM groundwork.tended")
    database.psql("DELETE FROM groundwork.tended; SELECT pg_stat_force_next_flush();")
    found = asked("dead-rows")
    assert found.status is CheckStatus.OK, text_of(found)
    # Without autovacuum the same rows are a finding.
    database.psql(
        "ALTER TABLE groundwork.queue SET (autovacuum_enabled = off);\n"
        "ALTER TABLE groundwork.tended SET (autovacuum_enabled = off);"
    )
    found = asked("dead-rows")
    assert found.status is CheckStatus.WARN
    assert "2 tables" in text_of(found)


def test_dead_rows_are_compared_with_the_rows_that_a_server_had_before_a_crash(
    asked: Ask, database: Database
) -> None:
    """A crash discards the statistics."""
    database.psql(
        "CREATE TABLE groundwork.old (id bigint) WITH (autovacuum_enabled = off);\n"
        "INSERT INTO groundwork.old SELECT generate_series(1, 60000);\n"
        "SELECT pg_stat_force_next_flush();"
    )
    database.psql("ANALYZE groundwork.old")
    database.psql("SELECT pg_stat_reset_single_table_counters('groundwork.old'::regclass)")
    database.psql("UPDATE groundwork.old SET id = id WHERE id <= 12000; SELECT pg_stat_force_next_flush();")
    found = asked("dead-rows")
    assert found.status is CheckStatus.OK, text_of(found)
    found = asked("dead-rows", dead_rows_share_warn=0.15)
    assert "12000 dead and 60000 live rows, last vacuumed never" in text_of(found)


@pytest.mark.parametrize(
    ("age", "status"), [(600_000_000, CheckStatus.WARN), (1_200_000_000, CheckStatus.FAIL)]
)
def test_an_old_transaction_number_is_found(
    ill_stack: MonitoredStack, ill_postgres: Server, age: int, status: CheckStatus
) -> None:
    assert ask(ill_stack, "wraparound").status is CheckStatus.OK
    # Simulate a database that no vacuum has finished for so many transactions. A vacuum repairs it.
    before = ill_postgres.psql("SELECT datfrozenxid FROM pg_database WHERE datname = 'groundwork'").strip()
    ill_postgres.psql(
        "UPDATE pg_database SET datfrozenxid = ((txid_current() + 4294967296 - "
        f"{age}) % 4294967296)::text::xid WHERE datname = 'groundwork'"
    )
    found = ask(ill_stack, "wraparound")
    ill_postgres.psql(f"UPDATE pg_database SET datfrozenxid = '{before}' WHERE datname = 'groundwork'")
    assert found.status is status, found
    assert "in database groundwork" in found.text


def test_a_pending_migration_is_named(database: Database, redis_server: Server, tmp_path: Path) -> None:
    folder = _copied_migrations(tmp_path)
    stack = monitored(database, redis_server, migrations=folder)
    assert ask(stack, "migrations").status is CheckStatus.OK
    (folder / "9001_notes.up.sql").write_text("CREATE TABLE notes (id bigint PRIMARY KEY);\n")
    found = ask(stack, "migrations")
    assert found.status is CheckStatus.WARN
    assert "9001_notes" in found.text
    # The grants of another schema version cannot be compared.
    assert ask(stack, "grants").status is CheckStatus.SKIPPED


def test_an_edited_migration_is_a_failure(database: Database, redis_server: Server, tmp_path: Path) -> None:
    folder = _copied_migrations(tmp_path)
    path = next(folder.glob("0003_*.up.sql"))
    path.write_text(path.read_text() + "-- edited\n")
    found = ask(monitored(database, redis_server, migrations=folder), "migrations")
    assert found.status is CheckStatus.FAIL
    assert "was edited after it was applied" in text_of(found)


def test_a_migration_that_began_and_did_not_end_is_a_failure(asked: Ask, database: Database) -> None:
    database.psql("UPDATE groundwork._sqlx_migrations SET success = false WHERE version = 3")
    found = asked("migrations")
    assert found.status is CheckStatus.FAIL
    assert "started but did not finish" in text_of(found)


def test_a_database_without_a_ledger_has_everything_pending(
    empty_database: Database, redis_server: Server
) -> None:
    found = ask(monitored(empty_database, redis_server), "migrations")
    assert found.status is CheckStatus.WARN
    assert "0001_row_versions" in found.text


@promise("certificates that expire soon and wrong clocks are found")
@pytest.mark.parametrize("name", ["postgres-clock", "redis-clock"])
def test_a_clock_that_is_off_is_found(asked: Ask, name: str) -> None:
    for seconds, status, text in (
        (0, CheckStatus.OK, ""),
        (-20, CheckStatus.WARN, "ahead of this machine"),
        (20, CheckStatus.WARN, "behind this machine"),
        (3600, CheckStatus.FAIL, "behind this machine"),
    ):
        found = asked(name, seconds_ahead=seconds)
        assert found.status is status, (seconds, found)
        assert text in found.text, seconds


def _copied_migrations(folder: Path) -> Path:
    target = folder / "migrations"
    shutil.copytree(MIGRATIONS_FOLDER, target)
    return target


@promise("doctor names a lock table that fills, and who fills it")
def test_open_subtransactions_of_readonly_fill_the_lock_table(ill_postgres: Server, asked_ill: Ask) -> None:
    """Each that has a transaction id holds a lock; one that only reads has none."""
    terms = {"lock_table_warn": 0.02, "lock_table_fail": 0.9}

    def after(statement: str) -> CheckResult:
        reader.execute("SET TRANSACTION READ WRITE")
        for _ in range(800):
            reader.execute(f"SAVEPOINT one; {statement}".encode())
        found = asked_ill("lock-table", **terms)
        reader.rollback()
        return found

    with psycopg.connect(ill_postgres.database_url("readonly_a")) as reader:
        assert after("SELECT 1").status is CheckStatus.OK
        found = after("ALTER ROLE CURRENT_USER SET application_name = 'n'")
        assert found.status is CheckStatus.WARN
        assert f"pg_terminate_backend({reader.info.backend_pid})" in found.advice
        assert "readonly_a" in found.details[0]
        assert asked_ill("lock-table", **terms).status is CheckStatus.OK


def test_predicate_locks_of_serializable_transactions_do_not_fill_the_lock_table(
    ill_postgres: Server, asked_ill: Ask
) -> None:
    database = Database(ill_postgres, "groundwork")
    # One row on each page, because locks of more rows on a page become one.
    database.psql(
        "CREATE TABLE groundwork.wide (id int PRIMARY KEY, filler text) WITH (fillfactor = 10);\n"
        "INSERT INTO groundwork.wide SELECT id, repeat('x', 900) FROM generate_series(1, 30) AS id;\n"
        "GRANT SELECT ON groundwork.wide TO readonly"
    )
    try:
        with psycopg.connect(database.url("readonly")) as reader:
            reader.execute("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE, READ WRITE")
            reader.execute("SET enable_seqscan = off")
            for row in range(1, 31):
                reader.execute("SELECT id FROM groundwork.wide WHERE id = %s", [row])
            assert int(database.psql("SELECT count(*) FROM pg_locks WHERE mode = 'SIReadLock'")) >= 30
            found = asked_ill("lock-table", lock_table_warn=0.002)
            assert found.status is CheckStatus.OK, text_of(found)
    finally:
        database.psql("DROP TABLE groundwork.wide")


@promise("doctor names a NOTIFY queue that fills, and who keeps it from draining")
def test_a_listener_in_an_open_transaction_fills_the_queue_of_readonly(
    ill_postgres: Server, asked_ill: Ask
) -> None:
    """readonly sends messages that its other session never reads. The share is 1.0 at 8 GB."""
    terms = {"notify_queue_warn": 0.001, "notify_queue_fail": 0.9}
    with (
        psycopg.connect(ill_postgres.database_url("readonly_a"), autocommit=True) as listener,
        psycopg.connect(ill_postgres.database_url("readonly_a"), autocommit=True) as sender,
    ):
        listener.execute("LISTEN flood")
        assert asked_ill("notify-queue", **terms).status is CheckStatus.OK
        listener.execute("BEGIN")
        with sender.pipeline():
            for number in range(2000):
                sender.execute(f"NOTIFY flood, '{number:07900}'".encode())
        found = asked_ill("notify-queue", **terms)
        assert found.status is CheckStatus.WARN
        assert f"pg_terminate_backend({listener.info.backend_pid})" in found.advice
        assert "readonly_a" in text_of(found)
        # With its own timeout of an idle transaction (60 s), the listener ends itself in the same way.
        listener.execute("SET idle_in_transaction_session_timeout = '100ms'")
        wait_until(lambda: asked_ill("notify-queue", **terms).status is CheckStatus.OK)
        with pytest.raises(psycopg.errors.IdleInTransactionSessionTimeout):
            listener.execute("SELECT 1")
