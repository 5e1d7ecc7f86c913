"""Each difference from the specification and the migrations is reported as drift."""

from __future__ import annotations

from dataclasses import replace

import psycopg
import pytest

from infra.spec import postgres
from ops.doctor.check_result import CheckStatus
from ops.servers.monitored_stack import MonitoredStack
from ops.sql_check import grants
from ops.sql_check.lockfile import migrations_digest
from tests.conftest import Connect, Database
from tests.containers import Server
from tests.integration.doctor.asking import Ask, ask
from tests.monitored import monitored
from tests.promises import promise


@promise("a changed parameter, role, grant or ACL rule is reported as drift")
def test_a_parameter_set_by_alter_system_is_drift(asked_ill: Ask, ill_postgres: Server) -> None:
    changes = {
        "work_mem": ("64MB", "work_mem is 65536 (kB) and should be 1310kB"),
        "log_statement": ("all", "log_statement is all and should be ddl"),
        "idle_in_transaction_session_timeout": ("1h", "should be 5min"),
        "log_min_duration_statement": ("2s", "should be 500ms"),
        # Not in the specification, so it must not be set.
        "vacuum_cost_delay": ("10ms", "vacuum_cost_delay is set to '10' by ALTER SYSTEM"),
    }
    assert asked_ill("postgres-settings").status is CheckStatus.OK
    sets = "".join(f"ALTER SYSTEM SET {name} = '{value}'; " for name, (value, _) in changes.items())
    ill_postgres.psql(f"{sets}SELECT pg_reload_conf(), pg_sleep(0.3)")
    found = asked_ill("postgres-settings")
    resets = "".join(f"ALTER SYSTEM RESET {name}; " for name in changes)
    ill_postgres.psql(f"{resets}SELECT pg_reload_conf(), pg_sleep(0.3)")
    assert found.status is CheckStatus.FAIL
    assert len(found.details) == len(changes)
    for name, (_, difference) in changes.items():
        (line,) = (line for line in found.details if line.startswith(f"{name} "))
        assert difference in line


def test_a_parameter_that_waits_for_a_restart_is_a_warning(asked_ill: Ask, ill_postgres: Server) -> None:
    ill_postgres.psql("ALTER SYSTEM SET max_wal_senders = 7; SELECT pg_reload_conf(), pg_sleep(0.3)")
    found = asked_ill("postgres-settings")
    ill_postgres.psql("ALTER SYSTEM RESET max_wal_senders; SELECT pg_reload_conf(), pg_sleep(0.3)")
    assert found.status is CheckStatus.WARN
    assert "max_wal_senders" in found.text


def test_a_setting_that_differs_from_the_server_is_drift(database: Database, redis_server: Server) -> None:
    stack = monitored(database, redis_server)
    expected = dict(stack.expected)
    expected["postgresParameters"] = postgres.parameters(1024**3, 120) | {"fsync": "off"}
    found = ask(monitored(database, redis_server, expected=expected), "postgres-settings")
    assert found.status is CheckStatus.FAIL
    assert any("max_connections is 100 and should be 120" in line for line in found.details)


@promise("a changed parameter, role, grant or ACL rule is reported as drift")
def test_a_changed_role_is_drift(asked_ill: Ask, ill_postgres: Server) -> None:
    changes = (
        ("CREATE ROLE stranger LOGIN", "DROP ROLE stranger", "stranger is not in the specification"),
        ("ALTER ROLE app_a SUPERUSER", "ALTER ROLE app_a NOSUPERUSER", "app_a has SUPER"),
        ("ALTER ROLE app_a BYPASSRLS", "ALTER ROLE app_a NOBYPASSRLS", "app_a has BYPASSRLS"),
        ("ALTER ROLE owner LOGIN", "ALTER ROLE owner NOLOGIN", "owner may log in"),
        (
            "ALTER ROLE app_b CONNECTION LIMIT -1",
            "ALTER ROLE app_b CONNECTION LIMIT 60",
            "app_b may have -1 connections and should have 60 (-1: any)",
        ),
        (
            "ALTER ROLE app_a SET statement_timeout = '1h'",
            "ALTER ROLE app_a SET statement_timeout = '30s'",
            "app_a has statement_timeout = 1h and should have 30s",
        ),
        (
            "ALTER ROLE readonly_a RESET default_transaction_read_only",
            "ALTER ROLE readonly_a SET default_transaction_read_only = 'on'",
            "readonly_a has default_transaction_read_only = nothing and should have on",
        ),
        (
            "GRANT pg_read_all_data TO readonly",
            "REVOKE pg_read_all_data FROM readonly",
            "readonly is a member of pg_read_all_data",
        ),
        (
            "REVOKE pg_monitor FROM monitor",
            "GRANT pg_monitor TO monitor",
            "monitor is not a member of pg_monitor",
        ),
        (
            "ALTER DATABASE groundwork SET work_mem = '1GB'",
            "ALTER DATABASE groundwork RESET work_mem",
            "work_mem=1GB is set for every role in groundwork",
        ),
    )
    for change, _, _ in changes:
        ill_postgres.psql(change)
    found = asked_ill("roles")
    for _, undo, _ in changes:
        ill_postgres.psql(undo)
    assert found.status is CheckStatus.FAIL
    assert sorted(found.details) == sorted(difference for _, _, difference in changes)
    assert asked_ill("roles").status is CheckStatus.OK


@promise("a changed parameter, role, grant or ACL rule is reported as drift")
def test_a_password_or_session_that_a_login_should_not_have_is_drift(
    asked_ill: Ask, ill_stack: MonitoredStack, ill_postgres: Server
) -> None:
    retired = {**ill_stack.expected["verifierDigests"]}
    del retired["app_b"]
    stack = replace(ill_stack, expected=ill_stack.expected | {"verifierDigests": retired})
    ill_postgres.psql("ALTER ROLE app_a PASSWORD 'of its own'")
    with psycopg.connect(ill_postgres.database_url("app_b")):
        found = ask(stack, "roles")
    ill_postgres.psql(f"ALTER ROLE app_a PASSWORD '{ill_postgres.verifiers['app_a']}'")
    assert found.status is CheckStatus.FAIL
    assert found.details == (
        "app_a has another password than the stack's",
        "app_b can log in and is retired",
        "app_b has a password and is retired",
        "app_b has 1 sessions and is retired",
    )
    assert asked_ill("roles").status is CheckStatus.OK


@promise("a changed parameter, role, grant or ACL rule is reported as drift")
@pytest.mark.parametrize(
    ("login", "attack", "difference"),
    [
        # Such a setting locks the login out, and with it every check.
        (
            "monitor_a",
            "ALTER ROLE monitor_a SET local_preload_libraries = 'nonexistent'",
            "monitor_a has local_preload_libraries = nonexistent and should have nothing",
        ),
        (
            "monitor_a",
            "ALTER ROLE monitor_a IN DATABASE {database} SET local_preload_libraries = 'nonexistent'",
            "monitor_a has local_preload_libraries = nonexistent and should have nothing",
        ),
        (
            "readonly_a",
            "SET ROLE readonly; ALTER ROLE readonly PASSWORD 'of its own'",
            "readonly has a password and is not a login",
        ),
    ],
)
def test_what_a_role_changes_of_itself_is_reported_even_if_it_locks_doctor_out(
    asked_ill: Ask, ill_postgres: Server, ill_stack: MonitoredStack, login: str, attack: str, difference: str
) -> None:
    attack = attack.format(database=ill_stack.database)
    url = ill_postgres.database_url(login)
    with psycopg.connect(url, options="-c default_transaction_read_only=off", autocommit=True) as session:
        session.execute(attack.encode())
    try:
        found = asked_ill("postgres" if login.startswith("monitor") else "roles")
    finally:
        ill_postgres.psql("ALTER ROLE monitor_a RESET local_preload_libraries")
        ill_postgres.psql(f"ALTER ROLE monitor_a IN DATABASE {ill_stack.database} RESET ALL")
        ill_postgres.psql("ALTER ROLE readonly PASSWORD NULL")
    assert found.status is CheckStatus.FAIL
    assert difference in "\n".join((found.text, *found.details))


def test_a_stack_from_before_its_limits_were_kept_is_skipped(
    stack: MonitoredStack, database: Database, redis_server: Server
) -> None:
    older = {key: value for key, value in stack.expected.items() if key != "connectionLimits"}
    found = ask(monitored(database, redis_server, expected=older), "roles")
    assert found.status is CheckStatus.SKIPPED
    assert "groundwork up" in found.advice


@promise("a changed parameter, role, grant or ACL rule is reported as drift")
def test_a_grant_that_no_migration_made_or_that_is_gone_is_drift(asked: Ask, database: Database) -> None:
    changes = (
        ("GRANT TRUNCATE ON users TO app", "extra: app may TRUNCATE table users"),
        ("GRANT SELECT ON users TO readonly", "extra: readonly may SELECT table users"),
        ("GRANT SELECT (access_token) ON users TO readonly", "extra: readonly may SELECT column users.access_token"),
        ("GRANT SELECT ON users TO PUBLIC", "extra: PUBLIC may SELECT table users"),
        ("REVOKE INSERT ON users FROM app", "missing: app may INSERT table users"),
        ("ALTER TABLE organizations OWNER TO postgres", "extra: postgres owns table organizations"),
        ("CREATE TABLE stray (id int)", "extra: postgres owns table stray"),
        ("GRANT CREATE ON SCHEMA groundwork TO app", "extra: app may CREATE schema groundwork"),
        ("GRANT CREATE ON SCHEMA public TO PUBLIC", "extra: PUBLIC may CREATE schema public"),
        ("GRANT UPDATE ON users TO app WITH GRANT OPTION", "extra: app may UPDATE table users, and grant it"),
        (
            "ALTER DEFAULT PRIVILEGES IN SCHEMA groundwork GRANT SELECT ON TABLES TO readonly",
            "extra: readonly may SELECT every new table of postgres",
        ),
        (
            "GRANT EXECUTE ON FUNCTION pg_catalog.lo_create(oid) TO PUBLIC",
            "extra: PUBLIC may EXECUTE function pg_catalog.lo_create(oid)",
        ),
    )  # fmt: skip
    database.psql("; ".join(["SET search_path = groundwork", *(change for change, _ in changes)]))
    found = asked("grants")
    assert found.status is CheckStatus.FAIL
    for _, difference in changes:
        assert difference in found.details
    # A login's default privileges cannot be changed as role `migrator`.
    assert found.advice.startswith("run `groundwork up")


def test_a_partition_made_later_has_no_grants_of_its_own(asked: Ask, connect: Connect) -> None:
    connect("app").execute("SELECT make_activity_partitions(now(), now() + interval '2 years')")
    assert asked("grants").status is CheckStatus.OK


def test_the_lockfile_of_grants_is_what_the_migrations_grant(connect: Connect) -> None:
    """If this fails, run `groundwork sql check --update`."""
    digest, lines = grants.locked()
    assert digest == migrations_digest()
    assert [line for (line,) in connect("monitor").execute(grants.QUERY.encode())] == lines
