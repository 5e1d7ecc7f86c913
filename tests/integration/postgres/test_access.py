"""Authentication: SCRAM over TLS for the logins, peer over the local socket for the superuser, nothing else."""

from __future__ import annotations

import re
import subprocess
from contextlib import ExitStack

import psycopg
import pytest

from infra.spec import postgres, roles
from tests.containers import Server
from tests.integration.postgres.conftest import CONNECTION_LIMITS, open_connection
from tests.promises import promise

LOGINS = roles.ALL_LOGINS


@promise("Postgres stores SCRAM verifiers, and Redis digests, never passwords")
def test_passwords_are_stored_as_scram_verifiers_only(stack_postgres: Server) -> None:
    stored = stack_postgres.psql("SELECT rolname, rolpassword FROM pg_authid WHERE rolpassword IS NOT NULL")
    verifiers = dict(line.split("|", 1) for line in stored.splitlines())
    assert set(verifiers) == set(LOGINS)
    assert all(verifier.startswith("SCRAM-SHA-256$4096:") for verifier in verifiers.values())
    assert not [name for name in LOGINS if stack_postgres.passwords[name] in stored]


def test_each_login_can_connect_with_its_password(stack_postgres: Server) -> None:
    for login in LOGINS:
        with open_connection(stack_postgres, login) as connection:
            assert connection.execute("SELECT session_user").fetchall() == [(login,)]


def test_a_wrong_password_is_refused(stack_postgres: Server) -> None:
    assert (
        _connected(stack_postgres, "password", [{"password": each} for each in ("x", "", "postgres")]) == []
    )


@promise("of a role's two logins, the unused one has no password and no session")
def test_a_login_cannot_use_the_password_of_its_twin(stack_postgres: Server) -> None:
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        open_connection(stack_postgres, "app_a", password=stack_postgres.passwords["app_b"])


@promise("only the defined logins can connect, over TLS, with SCRAM, to the one database")
def test_host_based_authentication_is_as_specified(stack_postgres: Server) -> None:
    rows = stack_postgres.psql(
        "SELECT type, database, user_name, address, auth_method, error FROM pg_hba_file_rules ORDER BY line_number"
    )
    assert rows.splitlines() == [
        "local|{all}|{postgres}||peer|",
        "local|{all}|{all}||reject|",
        "hostssl|{groundwork}|{+app,+readonly,+monitor,migrator}|samenet|scram-sha-256|",
        "host|{all}|{all}|all|reject|",
    ]


@promise("the superuser can log in over the local socket only")
def test_the_superuser_gets_in_over_the_local_socket(stack_postgres: Server) -> None:
    who = stack_postgres.psql("SELECT session_user, inet_client_addr() IS NULL, rolsuper FROM pg_roles"
                              " WHERE rolname = session_user")  # fmt: skip
    assert who.strip() == "postgres|t|t"


@promise("the superuser can log in over the local socket only")
def test_the_superuser_never_gets_in_over_the_network(stack_postgres: Server) -> None:
    tries = [
        {"user": "postgres", "password": "x", "sslmode": mode, "dbname": database}
        for mode in ("verify-full", "require", "disable")
        for database in ("groundwork", "postgres")
    ]
    assert _connected(stack_postgres, r"pg_hba\.conf rejects .* user \"postgres\"", tries) == []


def test_the_superuser_never_gets_in_over_the_containers_own_network(stack_postgres: Server) -> None:
    refused = _psql_inside(stack_postgres, "--host=127.0.0.1", "--username=postgres")
    assert refused.returncode != 0
    assert b"pg_hba.conf rejects" in refused.stderr


def test_no_other_role_gets_in_over_the_local_socket(stack_postgres: Server) -> None:
    for login in ("app_a", "migrator", roles.OWNER):
        refused = _psql_inside(stack_postgres, f"--username={login}")
        assert (refused.returncode != 0, b"pg_hba.conf rejects" in refused.stderr) == (True, True), login


def test_another_user_of_the_container_is_not_the_superuser(stack_postgres: Server) -> None:
    refused = _psql_inside(stack_postgres, "--username=postgres", user="12345")
    assert refused.returncode != 0
    assert b"eer authentication failed" in refused.stderr or b"could not look up local user" in refused.stderr
    assert _psql_inside(stack_postgres, "--username=postgres").returncode == 0


@promise("only the defined logins can connect, over TLS, with SCRAM, to the one database")
def test_a_login_reaches_no_other_database(stack_postgres: Server) -> None:
    tries = [
        {"user": "migrator", "password": stack_postgres.passwords["migrator"], "dbname": database}
        for database in ("postgres", "template1")
    ]
    assert _connected(stack_postgres, r"pg_hba\.conf rejects", tries) == []


def test_a_role_that_is_not_a_login_cannot_connect(stack_postgres: Server) -> None:
    with pytest.raises(psycopg.OperationalError):
        open_connection(stack_postgres, user="app", password=stack_postgres.passwords["app_a"])


@promise("a connection above a login's limit is refused")
@pytest.mark.parametrize("login", ["app_a", "monitor_a"])
def test_a_connection_beyond_a_logins_limit_is_refused(stack_postgres: Server, login: str) -> None:
    limit = CONNECTION_LIMITS[login.removesuffix("_a")]
    with ExitStack() as stack:
        # The control: connections up to the limit are accepted.
        for _ in range(limit):
            stack.enter_context(open_connection(stack_postgres, login))
        with pytest.raises(psycopg.OperationalError, match=f'too many connections for role "{login}"'):
            open_connection(stack_postgres, login)
        # Each login has its own limit, so that switching to the other login is possible at the limit.
        stack.enter_context(open_connection(stack_postgres, login.replace("_a", "_b")))


def test_the_limits_in_force_are_those_asked_for(stack_postgres: Server) -> None:
    rows = stack_postgres.psql("SELECT rolname, rolconnlimit FROM pg_roles WHERE rolcanlogin")
    found = dict(line.split("|") for line in rows.splitlines())
    expected = {
        login.name: str(CONNECTION_LIMITS.get(role, 60))
        for role, logins in roles.LOGINS.items()
        for login in logins
    }
    assert {name: found[name] for name in expected} == expected


def _connected(server: Server, refusal: str, tries: list[dict[str, str]]) -> list[dict[str, str]]:
    """Return the options with which the server accepts a connection, or refuses it with another message."""
    found = []
    for options in tries:
        try:
            open_connection(server, **options).close()
        except psycopg.OperationalError as error:
            if re.search(refusal, str(error)):
                continue
        found.append(options)
    return found


def _psql_inside(
    server: Server, *options: str, user: str = str(postgres.UID)
) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        ["docker", "exec", "--user", user, "--env", "PGPASSWORD=x", server.container, "psql", "--no-psqlrc",
         "--dbname=postgres", "--command=SELECT 1", *options],
        capture_output=True, check=False, timeout=30,
    )  # fmt: skip
