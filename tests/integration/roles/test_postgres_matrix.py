"""Every cell of the Postgres matrix (docs/security.md), run as the login: what is allowed and what is denied."""

from __future__ import annotations

import psycopg
import pytest

from infra.spec import roles
from tests.conftest import Connection, Database
from tests.integration.roles.conftest import LOGINS, AsLogin
from tests.integration.roles.matrix import DENIED_ROWS, SCHEMA_ROWS, TABLE_ROWS, Row
from tests.promises import promise


def role_of(login: str) -> str:
    return next(role for role, logins in roles.LOGINS.items() if login in {entry.name for entry in logins})


def is_allowed(connection: Connection, row: Row) -> bool:
    """Run an operation in its own transaction, and return whether it was permitted."""
    connection.execute("BEGIN READ WRITE")
    try:
        connection.execute(row.sql)
    except psycopg.errors.InsufficientPrivilege:
        return False
    except psycopg.Error as error:
        error.add_note(row.operation)
        raise
    finally:
        connection.execute("ROLLBACK")
    return True


@promise("each cell of the matrix is true when tested as the login")
@pytest.mark.parametrize("login", LOGINS)
def test_an_operation_is_allowed_or_denied_as_the_matrix_says(sessions: AsLogin, login: str) -> None:
    rows = TABLE_ROWS + SCHEMA_ROWS + DENIED_ROWS
    allowed = {row.operation for row in rows if role_of(login) in row.allowed}
    assert {row.operation for row in rows if is_allowed(sessions(login), row)} == allowed


@pytest.mark.parametrize("login", LOGINS)
def test_what_cannot_run_in_a_transaction_is_denied_to_everybody(sessions: AsLogin, login: str) -> None:
    connection = sessions(login)
    connection.execute("SET default_transaction_read_only = off")
    for sql in (
        b"ALTER SYSTEM SET work_mem = '1MB'",
        b"CREATE DATABASE new",
        b"DROP DATABASE postgres",
        b"CREATE TABLESPACE new LOCATION '/tmp'",
        b"CREATE SUBSCRIPTION new CONNECTION 'host=localhost' PUBLICATION p",
    ):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute(sql)


@pytest.mark.parametrize("login", LOGINS)
@pytest.mark.parametrize("elsewhere", ["postgres", "template1"])
def test_no_login_connects_to_the_servers_own_databases(
    database: Database, login: str, elsewhere: str
) -> None:
    with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
        psycopg.connect(database.server.database_url(login, elsewhere))


@pytest.mark.parametrize("login", LOGINS)
@pytest.mark.parametrize("replication", ["true", "database"])
def test_no_login_can_replicate(database: Database, login: str, replication: str) -> None:
    with pytest.raises(
        psycopg.OperationalError, match=r"for replication connection|must be superuser or replication"
    ):
        psycopg.connect(f"{database.url(login)}&replication={replication}")


@pytest.mark.parametrize("login", LOGINS)
def test_only_the_owner_grants_privileges(as_login: AsLogin, login: str) -> None:
    connection = as_login(login)
    try:
        # A role with the privilege but without the right to grant it gets a warning and no error.
        connection.execute("GRANT SELECT ON groundwork.users TO monitor")
    except psycopg.errors.InsufficientPrivilege:
        assert role_of(login) != "migrator"
        return
    row = connection.execute("SELECT has_table_privilege('monitor', 'groundwork.users', 'SELECT')").fetchone()
    assert row == (role_of(login) == "migrator",)


@promise("only monitor sees the query text of other roles")
@pytest.mark.parametrize("login", LOGINS)
def test_a_login_sees_the_query_text_of_others_only_as_monitor(sessions: AsLogin, login: str) -> None:
    others = [other for other in LOGINS if role_of(other) != role_of(login)]
    secrets = {other: f"SELECT 'said by {other}'" for other in others}
    pids = []
    for other, query in secrets.items():
        session = sessions(other)
        session.execute(query)
        pids.append(session.info.backend_pid)
    seen = _seen_queries(sessions(login), pids)
    if role_of(login) == "monitor":
        assert seen == set(secrets.values())
    else:
        assert seen & set(secrets.values()) == set()


def test_the_other_login_of_a_role_is_another_role_to_it(sessions: AsLogin) -> None:
    other = sessions("app_b")
    other.execute("SELECT 'said by app_b'")
    assert "SELECT 'said by app_b'" not in _seen_queries(sessions("app_a"), [other.info.backend_pid])


@pytest.mark.parametrize("login", LOGINS)
def test_statement_statistics_are_for_monitor_alone(as_login: AsLogin, login: str) -> None:
    query = "SELECT count(*) FROM extensions.pg_stat_statements WHERE query IS NOT NULL"
    connection = as_login(login)
    if role_of(login) == "monitor":
        (count,) = connection.execute(query).fetchone() or (0,)
        assert count
    else:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute(query)


@promise("readonly cannot read tokens, nor their samples in the planner's statistics")
@pytest.mark.parametrize("login", LOGINS)
def test_the_planners_sample_of_the_tokens_is_for_those_who_may_read_them(
    as_login: AsLogin, login: str
) -> None:
    rows = (
        as_login(login)
        .execute("SELECT attname FROM pg_stats WHERE tablename = 'users' AND attname LIKE '%\\_token'")
        .fetchall()
    )
    assert bool(rows) == (role_of(login) in {"app", "migrator"})


@promise("a login cannot become another role or end another role's session")
@pytest.mark.parametrize("login", LOGINS)
def test_a_login_cannot_become_a_role_that_it_does_not_inherit(sessions: AsLogin, login: str) -> None:
    connection = sessions(login)
    worn = next(entry.privileges for group in roles.LOGINS.values() for entry in group if entry.name == login)
    became = set()
    for other in (*LOGINS, *roles.PRIVILEGE_SETS, roles.OWNER):
        try:
            connection.execute(f"SET ROLE {other}".encode())
        except psycopg.errors.InsufficientPrivilege:
            continue
        became.add(other)
        connection.execute("RESET ROLE")
    assert became == {login, worn}


@promise("a login cannot become another role or end another role's session")
@pytest.mark.parametrize("login", [login for login in LOGINS if login != "migrator"])
def test_a_login_cannot_end_the_session_of_another_role(
    as_login: AsLogin, sessions: AsLogin, login: str
) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        as_login(login).execute("SELECT pg_terminate_backend(%s)", [sessions("migrator").info.backend_pid])


def test_the_migrators_session_is_owner_from_its_start(sessions: AsLogin) -> None:
    row = sessions("migrator").execute("SELECT session_user, current_user").fetchone()
    assert row == ("migrator", "owner")


@pytest.mark.parametrize("role", [roles.OWNER, *roles.PRIVILEGE_SETS])
def test_a_privilege_set_cannot_log_in_even_with_a_password(database: Database, role: str) -> None:
    database.psql(f"ALTER ROLE {role} PASSWORD 'known'")
    try:
        url = database.url("app_a").replace(f"app_a:{database.server.passwords['app_a']}", f"{role}:known")
        with pytest.raises(psycopg.OperationalError, match=r"not permitted to log in|rejects connection"):
            psycopg.connect(url)
    finally:
        database.psql(f"ALTER ROLE {role} PASSWORD NULL")


@promise("no role has cluster-wide privileges")
def test_no_role_has_an_attribute_of_power(database: Database) -> None:
    for role in (roles.OWNER, *roles.PRIVILEGE_SETS, *LOGINS):
        attributes = database.psql(
            "SELECT rolsuper, rolcreaterole, rolcreatedb, rolreplication, rolbypassrls, rolcanlogin"
            f" FROM pg_roles WHERE rolname = '{role}'"
        ).strip()
        assert attributes == "|".join("f" * 5 + ("t" if role in LOGINS else "f")), role


def test_only_monitor_is_a_member_of_a_predefined_role(database: Database) -> None:
    monitor = ["pg_monitor", "pg_read_all_settings", "pg_read_all_stats", "pg_stat_scan_tables"]
    for role in (roles.OWNER, *roles.PRIVILEGE_SETS, *LOGINS):
        members = database.psql(
            "SELECT predefined.rolname FROM pg_roles AS predefined, pg_roles AS ours"
            f" WHERE predefined.rolname LIKE 'pg\\_%' AND ours.rolname = '{role}'"
            " AND pg_has_role(ours.oid, predefined.oid, 'MEMBER') ORDER BY 1"
        ).split()
        assert members == (monitor if role.startswith("monitor") else []), role


@pytest.mark.parametrize("login", ["app_a", "app_b"])
def test_a_write_of_app_reaches_the_outbox_by_trigger(as_login: AsLogin, login: str) -> None:
    connection = as_login(login)
    connection.execute("DELETE FROM cache_outbox")
    connection.execute("UPDATE users SET email = 'ada@example.org'")
    assert connection.execute("SELECT entity FROM cache_outbox").fetchall() == [("user",)]


@pytest.mark.parametrize("login", ["app_a", "readonly_a"])
def test_the_trigger_functions_cannot_be_called_or_hung_on_other_tables(
    as_login: AsLogin, login: str
) -> None:
    row = (
        as_login(login)
        .execute(
            "SELECT bool_or(has_function_privilege(p.oid, 'EXECUTE')) FROM pg_proc AS p"
            " WHERE pronamespace = 'groundwork'::regnamespace AND prorettype = 'trigger'::regtype"
        )
        .fetchone()
    )
    assert row == (False,)


@promise("PUBLIC has no privileges on functions, temporary tables or schema public")
def test_public_may_execute_no_function_of_the_schema(database: Database) -> None:
    open_functions = database.psql(
        "SELECT proname FROM pg_proc, aclexplode(coalesce(proacl, acldefault('f', proowner))) AS grant_"
        " WHERE pronamespace = 'groundwork'::regnamespace AND grant_.grantee = 0"
    ).split()
    assert open_functions == []


@pytest.mark.parametrize("login", ["readonly_a", "monitor_a"])
def test_a_reader_starts_read_only(sessions: AsLogin, login: str) -> None:
    row = (
        sessions(login)
        .execute(
            "SELECT boot_val, setconfig @> '{default_transaction_read_only=on}' FROM pg_settings, pg_roles"
            " JOIN pg_db_role_setting ON setrole = pg_roles.oid"
            " WHERE name = 'default_transaction_read_only' AND rolname = session_user"
        )
        .fetchone()
    )
    assert row == ("off", True)


def _seen_queries(observer: Connection, pids: list[int]) -> set[str]:
    rows = observer.execute("SELECT query FROM pg_stat_activity WHERE pid = ANY (%s)", [pids])
    return {str(row[0]) for row in rows}
