"""What a role that may only read can use up: disk, locks, time, and transaction ids. Each attack runs as the login."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest

from db.migrator import apply_pending, read_source
from infra.docker.engine import DockerError, docker, psql
from infra.spec import roles
from tests import containers
from tests.conftest import Connection
from tests.containers import Server, wait_until
from tests.integration.roles.conftest import LOGINS, AsLogin
from tests.promises import promise

_MB = 1024**2
# Role -> statement_timeout, lock_timeout, idle_in_transaction_session_timeout, temp_file_limit (docs/security.md).
LIMITS = {
    "app": ("30s", "5s", "15s", "256MB"),
    "readonly": ("1min", "0", "1min", "512MB"),
    "monitor": ("10s", "0", "15s", "64MB"),
    "migrator": ("0", "0", "5min", "-1"),
}
# Stores about 700 MB in 8,000 rows, which work_mem does not hold. Its file exists until the cursor is closed.
_SPILL = """
DECLARE spilling CURSOR FOR
WITH wide AS MATERIALIZED (SELECT repeat(n::text, 20000) AS text FROM generate_series(10001, 18000) AS n)
SELECT length(text) FROM wide
"""
# The volatile functions that PUBLIC may execute, by the reason why each is kept.
DECIDED = {
    "needs an attribute, a privilege or the ownership of its object, or the server's own upgrade": """
        binary_upgrade_create_empty_extension binary_upgrade_set_missing_value
        binary_upgrade_set_next_array_pg_type_oid binary_upgrade_set_next_attribute_versions
        binary_upgrade_set_next_heap_pg_class_oid binary_upgrade_set_next_heap_relfilenode
        binary_upgrade_set_next_index_pg_class_oid binary_upgrade_set_next_index_relfilenode
        binary_upgrade_set_next_multirange_array_pg_type_oid binary_upgrade_set_next_multirange_pg_type_oid
        binary_upgrade_set_next_pg_authid_oid binary_upgrade_set_next_pg_enum_oid
        binary_upgrade_set_next_pg_tablespace_oid binary_upgrade_set_next_pg_type_oid
        binary_upgrade_set_next_toast_pg_class_oid binary_upgrade_set_next_toast_relfilenode
        binary_upgrade_set_record_init_privs brin_desummarize_range brin_summarize_new_values brin_summarize_range
        currtid2 currval gin_clean_pending_list lo_get nextval pg_copy_logical_replication_slot
        pg_copy_physical_replication_slot pg_create_logical_replication_slot pg_create_physical_replication_slot
        pg_drop_replication_slot pg_extension_config_dump pg_import_system_collations pg_logical_slot_get_binary_changes
        pg_logical_slot_get_changes pg_logical_slot_peek_binary_changes pg_logical_slot_peek_changes pg_nextoid
        pg_read_file_old pg_replication_slot_advance pg_rotate_logfile_old pg_sequence_last_value
        pg_stop_making_pinned_objects setval
        pg_stat_statements pg_stat_statements_info plpgsql_validator
        """,
    "reaches only sessions of the same login": "pg_cancel_backend pg_terminate_backend",
    "releases only what the session itself has": """
        lastval lo_close lo_lseek lo_lseek64 lo_tell lo_tell64 loread pg_advisory_unlock pg_advisory_unlock_all
        pg_advisory_unlock_shared
        """,
    "changes only the session": """
        pg_stat_clear_snapshot pg_stat_force_next_flush set_config setseed
        """,
    "notifies, as SQL's NOTIFY does, which cannot be revoked; doctor and an alert watch the queue": "pg_notify",
    "runs a query with the privileges of its caller": """
        cursor_to_xml cursor_to_xmlschema query_to_xml query_to_xml_and_xmlschema query_to_xmlschema ts_rewrite ts_stat
        """,
    "keeps a connection, of which each login has a limited number": "pg_sleep pg_sleep_for pg_sleep_until",
    "only reads": """
        amvalidate clock_timestamp current_query gen_random_uuid pg_blocking_pids pg_collation_actual_version
        pg_control_checkpoint pg_control_init pg_control_recovery pg_control_system pg_current_wal_flush_lsn
        pg_current_wal_insert_lsn pg_current_wal_lsn pg_database_collation_actual_version pg_database_size
        pg_get_multixact_members pg_get_wal_replay_pause_state pg_get_wal_resource_managers pg_indexes_size
        pg_is_in_recovery pg_is_wal_replay_paused pg_isolation_test_session_is_blocked pg_jit_available
        pg_last_committed_xact pg_last_wal_receive_lsn pg_last_wal_replay_lsn pg_last_xact_replay_timestamp
        pg_lock_status pg_notification_queue_usage pg_partition_ancestors pg_partition_tree pg_prepared_xact
        pg_relation_size pg_safe_snapshot_blocking_pids pg_stat_get_recovery_prefetch pg_stat_get_xact_blocks_fetched
        pg_stat_get_xact_blocks_hit pg_stat_get_xact_function_calls pg_stat_get_xact_function_self_time
        pg_stat_get_xact_function_total_time pg_stat_get_xact_numscans pg_stat_get_xact_tuples_deleted
        pg_stat_get_xact_tuples_fetched pg_stat_get_xact_tuples_hot_updated pg_stat_get_xact_tuples_inserted
        pg_stat_get_xact_tuples_returned pg_stat_get_xact_tuples_updated pg_table_size pg_tablespace_size
        pg_total_relation_size pg_xact_commit_timestamp pg_xact_commit_timestamp_origin pg_xact_status random timeofday
        txid_status
        """,
}


@pytest.fixture(scope="module")
def server(docker_engine: None) -> Iterator[Server]:
    """A server with its data on disk, and the connection limit that a stack has for readonly."""
    with containers.postgres_server(database=roles.DATABASE, connection_limits={"readonly": 10}) as server:
        apply_pending(server.database_url("migrator"), read_source())
        yield server


def temporary_bytes(server: Server) -> int:
    return int(server.psql("SELECT coalesce(sum(size), 0) FROM pg_ls_tmpdir()"))


@promise("the limits of each login are in force")
def test_the_limits_of_a_login_are_in_force(server: Server) -> None:
    names = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout", "temp_file_limit")
    for login in LOGINS:
        with psycopg.connect(server.database_url(login)) as connection:
            found = [connection.execute(f"SHOW {name}".encode()).fetchall()[0][0] for name in names]
        assert tuple(found) == LIMITS[login.removesuffix("_a").removesuffix("_b")], login


@promise("a query of readonly that spills in one process is stopped at its limit")
def test_a_query_of_readonly_that_spills_is_stopped_at_its_limit(server: Server) -> None:
    with psycopg.connect(server.database_url("readonly_a")) as connection:
        with pytest.raises(psycopg.errors.ConfigurationLimitExceeded, match="temp_file_limit"):
            assert all(0 < size <= 512 * _MB for size in spill(connection, server))
        connection.rollback()
    assert temporary_bytes(server) == 0


@promise("a query of readonly that spills in one process is stopped at its limit", control=True)
def test_without_the_limit_the_query_uses_more(server: Server) -> None:
    server.psql("ALTER ROLE readonly_b SET temp_file_limit = -1")
    with psycopg.connect(server.database_url("readonly_b")) as connection:
        assert max(spill(connection, server)) > 512 * _MB


def spill(connection: Connection, server: Server) -> Iterator[int]:
    """Run the query that spills in steps, and yield the size of the temporary files after each."""
    connection.execute("SET work_mem = '64kB'")
    connection.execute(_SPILL.encode())
    for _ in range(8):
        connection.execute("MOVE 1000 IN spilling")
        yield temporary_bytes(server)


def test_files_of_parallel_hash_joins_do_not_count_after_they_are_closed(server: Server) -> None:
    """No setting prevents it. Each join stays below the limit, and its files exist until the query ends."""
    server.psql(
        "CREATE TABLE wide AS SELECT n, repeat('x', 300) AS text FROM generate_series(1, 20000) AS n;"
        " GRANT USAGE ON SCHEMA public TO readonly; GRANT SELECT ON wide TO readonly; ANALYZE wide;"
        " ALTER ROLE readonly_b SET temp_file_limit = '5MB'",
        roles.DATABASE,
    )
    options = {
        "work_mem": "64kB", "hash_mem_multiplier": "1", "parallel_setup_cost": "0", "parallel_tuple_cost": "0",
        "min_parallel_table_scan_size": "0", "enable_mergejoin": "off", "enable_nestloop": "off",
    }  # fmt: skip
    join = (
        "(SELECT count(*) FROM public.wide AS a JOIN public.wide AS b USING (n) WHERE a.text || b.text <> '')"
    )
    size = "du -s --block-size=1 $PGDATA/base/pgsql_tmp | cut -f1"
    try:
        with psycopg.connect(server.database_url("readonly_b")) as reader, ThreadPoolExecutor(1) as pool:
            for name, value in options.items():
                reader.execute(f"SET {name} = '{value}'".encode())
            query = " UNION ALL ".join([join] * 5 + ["SELECT 1 FROM pg_sleep(600)"])
            running = pool.submit(reader.execute, query.encode())
            sleeps = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'readonly_b' AND wait_event = 'PgSleep'"
            try:
                wait_until(lambda: running.done() or server.psql(sleeps).strip() == "1", 120)
                used = int(docker("exec", server.container, "sh", "-c", size))
            finally:
                reader.cancel()
            with pytest.raises(psycopg.errors.QueryCanceled):
                running.result()
        assert used > 20 * _MB
    finally:
        server.psql("DROP TABLE wide; REVOKE USAGE ON SCHEMA public FROM readonly", roles.DATABASE)


def recorded_bytes(server: Server, login: str) -> int:
    """Send one long query text as a login, and return the size of the file of query texts."""
    url = server.database_url(login)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"SELECT 1 /* {'x' * 4 * _MB} */".encode())
    return int(server.psql("SELECT size FROM pg_stat_file('pg_stat_tmp/pgss_query_texts.stat')"))


@promise("the texts of readers' queries are not kept on the disk")
def test_the_texts_of_readers_queries_are_not_kept(server: Server) -> None:
    """pg_stat_statements keeps texts of any length; its limit is a number of texts."""
    assert recorded_bytes(server, "readonly_a") < 4 * _MB
    assert recorded_bytes(server, "monitor_a") < 4 * _MB


@promise("the texts of readers' queries are not kept on the disk", control=True)
def test_the_texts_of_queries_that_are_tracked_are_kept(server: Server) -> None:
    server.psql("ALTER ROLE readonly_b SET pg_stat_statements.track = 'top'")
    assert recorded_bytes(server, "readonly_b") > 4 * _MB


@promise("locks on every table by all sessions of readonly use a small part of the lock table")
def test_sessions_of_readonly_with_a_lock_on_everything_leave_locks_for_others(server: Server) -> None:
    relations = (
        "SELECT oid::regclass FROM pg_class WHERE relkind IN ('r', 'p', 'v', 'm')"
        " AND has_table_privilege(oid, 'SELECT')"
        " AND has_schema_privilege(relnamespace, 'USAGE')"
    )
    with ExitStack() as stack:
        for _ in range(10):
            reader = stack.enter_context(psycopg.connect(server.database_url("readonly_a")))
            for (name,) in reader.execute(relations).fetchall():
                reader.execute(f"LOCK TABLE {name} IN ACCESS SHARE MODE".encode())
        with pytest.raises(psycopg.OperationalError, match="too many connections for role"):
            psycopg.connect(server.database_url("readonly_a"))
        assert int(server.psql("SELECT count(*) FROM pg_locks")) > 1000
        with psycopg.connect(server.database_url("app_a")) as app:
            app.execute("INSERT INTO users (github_id, username) VALUES (1, 'ada')")
            app.execute("SELECT pg_advisory_xact_lock(n) FROM generate_series(1, 2000) AS n")
            app.rollback()


@promise("locks on every table by all sessions of readonly use a small part of the lock table", control=True)
def test_a_role_that_may_take_advisory_locks_uses_up_the_lock_table(server: Server) -> None:
    """PUBLIC has lost these functions for this reason. app needs them."""
    with psycopg.connect(server.database_url("app_a")) as app, pytest.raises(psycopg.errors.OutOfMemory):
        app.execute("SELECT count(pg_advisory_xact_lock(n)) FROM generate_series(1, 100000) AS n")


@promise("the runbook of LockTableFills ends the sessions of a login when nobody can log in")
def test_a_lock_table_that_readonly_has_filled_is_freed_from_inside_the_container(
    docker_engine: None,
) -> None:
    """No grant prevents it. The command is that of docs/monitoring.md."""
    runbook = (Path(__file__).parents[3] / "docs/monitoring.md").read_text()
    command = next(
        line.partition("sh -c ")[2].strip("'") for line in runbook.splitlines() if "kill $p" in line
    )
    small = {"max_connections": "20", "max_locks_per_transaction": "10"}
    with containers.postgres_server(small, database=roles.DATABASE, in_memory=True) as server:
        with psycopg.connect(server.database_url("readonly_a")) as reader:
            reader.execute("SET idle_in_transaction_session_timeout = 0; SET TRANSACTION READ WRITE")
            with pytest.raises(psycopg.errors.OutOfMemory):
                open_subtransactions(reader)
            with pytest.raises(DockerError, match="out of shared memory"):
                psql(server.container, "SELECT 1")
            docker("exec", server.container, "sh", "-c", command)
            wait_until(lambda: logs_in(server))
            with pytest.raises(psycopg.OperationalError):
                reader.execute("SELECT 1")


def open_subtransactions(writer: Connection) -> None:
    for _ in range(10_000):
        writer.execute("SAVEPOINT one; ALTER ROLE CURRENT_USER SET application_name = 'n'")


def logs_in(server: Server) -> bool:
    try:
        return psql(server.container, "SELECT 1").strip() == "1"
    except DockerError:
        return False


@promise("somebody has decided on every function of the server that writes, locks, signals or notifies")
def test_every_volatile_function_that_public_may_execute_is_in_the_list_of_decisions(server: Server) -> None:
    found = server.psql(
        "SELECT DISTINCT proname FROM pg_proc, aclexplode(coalesce(proacl, acldefault('f', proowner))) AS grant_"
        " WHERE grant_.grantee = 0 AND provolatile = 'v' AND prorettype NOT IN"
        # Only the server itself calls these: triggers, handlers of languages, and functions with internal values.
        " (SELECT oid FROM pg_type WHERE typtype = 'p' AND typname NOT IN ('record', 'void'))"
        " AND NOT 'internal'::regtype = ANY (proargtypes)",
        roles.DATABASE,
    ).split()
    decided = [name for names in DECIDED.values() for name in names.split()]
    assert len(decided) == len(set(decided))
    assert set(found) == set(decided)


@promise("somebody has decided on every function of the server that writes, locks, signals or notifies")
def test_only_two_stable_functions_without_arguments_have_an_effect(sessions: AsLogin) -> None:
    """They assign one id to a transaction, as NOTIFY does. `doctor` and an alert watch the ids."""
    reader = sessions("readonly_a")
    names = reader.execute(
        "SELECT DISTINCT proname FROM pg_proc WHERE pronamespace = 'pg_catalog'::regnamespace AND pronargs = 0"
        " AND provolatile = 's' AND prokind = 'f' AND has_function_privilege(oid, 'EXECUTE')"
        " AND prorettype NOT IN (SELECT oid FROM pg_type WHERE typtype = 'p' AND typname <> 'record')"
    ).fetchall()
    assert {name for (name,) in names if has_effect(reader, name)} == {"pg_current_xact_id", "txid_current"}


def has_effect(reader: Connection, function: str) -> bool:
    """Return whether a call assigns a transaction id, or holds another lock than reading pg_proc does."""
    locks = "SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND mode <> 'AccessShareLock'"
    reader.execute("BEGIN")
    try:
        before = reader.execute(locks).fetchall()
        reader.execute(f"SELECT * FROM pg_catalog.{function}()".encode())
        assigned = reader.execute("SELECT pg_current_xact_id_if_assigned()").fetchall()
        return assigned != [(None,)] or reader.execute(locks).fetchall() != before
    except psycopg.errors.Error:
        # Not callable like this: it needs a privilege or another context.
        return False
    finally:
        reader.execute("ROLLBACK")
