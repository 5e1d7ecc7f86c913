"""Bootstrap of a server like RDS, by an administrator without superuser rights, for logins without passwords."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

import psycopg
import pytest
from psycopg import errors as sql_errors
from psycopg.conninfo import make_conninfo

from db.migrator import MIGRATIONS_FOLDER, ScriptFailed, read_source
from infra.spec import rds, roles
from ops.bootstrap import _LOCK, AdministratorLogin, _lock, bootstrap
from ops.errors import Exit, OpsError
from tests.containers import Server
from tests.integration.bootstrap.conftest import session, url_of

LIMITS = {"app": 11, "readonly": 12, "monitor": 13, "migrator": 14}


def run(server: Server, administrator: AdministratorLogin, folder: Path = MIGRATIONS_FOLDER) -> list[str]:
    said: list[str] = []
    conninfo = f"{url_of(server, 'migrator')}&password=token"
    bootstrap(administrator, lambda: conninfo, LIMITS, folder, said.append)
    return said


def test_an_empty_server_gets_roles_database_schema_and_partitions(
    rds_server: Server, administrator: AdministratorLogin
) -> None:
    said = run(rds_server, administrator)
    newest = max(migration.version for migration in read_source())
    ledger = f"SELECT max(version), bool_and(success) FROM {roles.SCHEMA}._sqlx_migrations"
    assert rds_server.psql(ledger, roles.DATABASE).strip() == f"{newest}|t"
    found = rds_server.psql("SELECT rolname, rolconnlimit FROM pg_roles WHERE rolcanlogin ORDER BY rolname")
    limits = dict(line.split("|") for line in found.splitlines())
    expected = {login.name: str(LIMITS[role]) for role, group in roles.LOGINS.items() for login in group}
    assert {name: limits[name] for name in roles.ALL_LOGINS} == expected
    owner = "SELECT pg_get_userbyid(nspowner) FROM pg_namespace WHERE nspname = 'groundwork'"
    assert rds_server.psql(owner, roles.DATABASE).strip() == roles.OWNER
    assert "database groundwork: created" in said

    again = run(rds_server, administrator)
    assert again[-2:] == ["migrations: nothing pending", "partitions: nothing to create"]
    assert "database groundwork: created" not in again
    last = (
        "SELECT max(relname) FROM pg_class WHERE relispartition AND relkind = 'r' AND relname ~ '^activities'"
    )
    missing = rds_server.psql(last, roles.DATABASE).strip()
    rds_server.psql(f"DROP TABLE {roles.SCHEMA}.{missing}", roles.DATABASE)
    assert run(rds_server, administrator)[-1] == f"partitions: {missing}"
    assert rds_server.psql(last, roles.DATABASE).strip() == missing
    _logins_may_what_they_are_for(rds_server)
    _text_sorts_as_on_docker(rds_server)


def _logins_may_what_they_are_for(server: Server) -> None:
    """Check the cells of the role matrix that bootstrap determines. The others are the grants of the migrations."""
    for login in roles.ALL_LOGINS:
        with session(server, login) as connection:
            row = connection.execute("SELECT session_user, current_setting('TimeZone')").fetchone()
            assert row == (login, "UTC")
            # A login can change this default, so what is denied below is denied by privileges.
            connection.execute("SET default_transaction_read_only = off")
            with pytest.raises(sql_errors.InsufficientPrivilege):
                connection.execute("CREATE TEMP TABLE mine ()")
            with pytest.raises(sql_errors.InsufficientPrivilege):
                connection.execute("CREATE SCHEMA mine")
        with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
            psycopg.connect(url_of(server, login).replace("/groundwork?", "/postgres?"), password="t")
    insert = "INSERT INTO users (github_id, username, access_token) VALUES (1, 'ada', 'c')"
    with session(server, "app_a") as connection:
        connection.execute(insert)
    with session(server, "readonly_b") as connection:
        assert connection.execute("SELECT username FROM users").fetchone() == ("ada",)
        with pytest.raises(sql_errors.InsufficientPrivilege):
            connection.execute("SELECT access_token FROM users")
    with session(server, "monitor_a") as connection:
        connection.execute("SELECT query FROM pg_stat_statements LIMIT 1")
        with pytest.raises(sql_errors.UndefinedTable):
            connection.execute("SELECT * FROM users")
    with session(server, "migrator") as connection:
        assert connection.execute("SELECT current_user").fetchone() == (roles.OWNER,)


def _text_sorts_as_on_docker(server: Server) -> None:
    found = server.psql(
        "SELECT datcollate, upper('é' COLLATE \"default\"), 'Z' < 'a' FROM pg_database WHERE datname = 'groundwork'",
        roles.DATABASE,
    )
    assert found.strip() == "C|É|t"


def test_the_administrator_is_not_a_superuser_and_the_local_method_fails_for_it(
    rds_server: Server, administrator: AdministratorLogin
) -> None:
    """The control: with a superuser, the server would not be like RDS."""
    with psycopg.connect(
        url_of(rds_server, rds.ADMIN).replace("/groundwork?", "/postgres?"), password=administrator.password
    ) as connection:
        with pytest.raises(sql_errors.InsufficientPrivilege):
            connection.execute(roles.roles_sql({}, LIMITS))


def test_a_failing_migration_is_reported_and_earlier_ones_stay_applied(
    rds_server: Server, administrator: AdministratorLogin, tmp_path: Path
) -> None:
    folder = tmp_path / "migrations"
    shutil.copytree(MIGRATIONS_FOLDER, folder)
    version = max(migration.version for migration in read_source()) + 1
    bad = folder / f"{version:04}_bad.up.sql"
    bad.write_text("-- phase: expand\nSELECT 1/0;\n")
    (folder / f"{version:04}_bad.down.sql").write_text("-- phase: expand\nSELECT 1;\n")
    with pytest.raises(ScriptFailed, match="division by zero"):
        run(rds_server, administrator, folder)
    ledger = f"SELECT max(version) FROM {roles.SCHEMA}._sqlx_migrations"
    assert rds_server.psql(ledger, roles.DATABASE).strip() == str(version - 1)
    bad.unlink()
    (folder / f"{version:04}_bad.down.sql").unlink()
    assert "migrations: nothing pending" in run(rds_server, administrator, folder)


def test_two_at_once_wait_for_each_other(rds_server: Server, administrator: AdministratorLogin) -> None:
    failures: list[BaseException] = []

    def attempt() -> None:
        try:
            run(rds_server, administrator)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=attempt) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(300)
    assert failures == []


def test_a_bootstrap_that_may_not_wait_for_another_one_fails_at_once(
    rds_server: Server, administrator: AdministratorLogin
) -> None:
    url = make_conninfo(url_of(rds_server, rds.ADMIN), dbname="postgres", password=administrator.password)
    with psycopg.connect(url) as other, psycopg.connect(url, autocommit=True) as connection:
        other.execute("SELECT pg_advisory_lock(%s)", [_LOCK])
        connection.execute("SET statement_timeout = '20s'")
        with pytest.raises(OpsError, match="another bootstrap") as refusal:
            _lock(connection, 0)
    assert refusal.value.exit_code == Exit.LOCKED


def test_the_timeout_of_a_statement_does_not_end_the_wait_for_another_bootstrap(
    rds_server: Server, administrator: AdministratorLogin
) -> None:
    url = make_conninfo(url_of(rds_server, rds.ADMIN), dbname="postgres", password=administrator.password)
    limited = make_conninfo(url, options="-c statement_timeout=100ms")
    with psycopg.connect(url) as other, psycopg.connect(limited, autocommit=True) as connection:
        other.execute("SELECT pg_advisory_lock(%s)", [_LOCK])
        with pytest.raises(OpsError, match="another bootstrap") as refusal:
            _lock(connection, 0.5)
        assert refusal.value.exit_code == Exit.LOCKED
        other.execute("SELECT pg_advisory_unlock_all()")
        _lock(connection, 60)
        assert connection.execute("SHOW statement_timeout").fetchone() == ("100ms",)


def test_a_wrong_password_is_reported_in_one_line_without_it(rds_server: Server) -> None:
    with pytest.raises(OpsError) as refusal:
        run(rds_server, AdministratorLogin(rds.ADMIN, "hunter2"))
    assert "hunter2" not in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_server_that_is_away_is_exit_code_6(tmp_path: Path) -> None:
    def conninfo() -> str:
        return "postgresql://migrator@127.0.0.1:1/groundwork?password=t&connect_timeout=2"

    with pytest.raises(OpsError) as refusal:
        bootstrap(AdministratorLogin("a", "b"), conninfo, LIMITS, MIGRATIONS_FOLDER, print)
    assert refusal.value.exit_code == Exit.UNREACHABLE
