"""Postgres matches the stack's outputs: version, effective settings, roles, TLS."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import LiteralString

import psycopg
import pytest

from infra import outputs
from infra.spec import roles
from tests.cases import in_case
from tests.infra.live.reached import Reached, has_libraries
from tests.infra.live.stranger import stranger
from tests.promises import promise

ROLES = [role for role, (login, _) in outputs.ROLES.items() if login]
every_role = pytest.mark.parametrize("role", ROLES)


def test_it_is_postgres_15(reached: Reached) -> None:
    with reached.postgres("monitor") as connection:
        assert 150000 <= connection.info.server_version < 160000


@promise("a stack's servers match its outputs")
def test_every_parameter_of_the_settings_is_in_effect(reached: Reached) -> None:
    other = {}
    with reached.postgres("monitor") as connection:
        for name, value in reached.expected["postgresParameters"].items():
            if name.endswith(("_file", "_directories")) or "timeout" in name:
                continue  # hidden from role monitor, or set per role
            if name == "shared_preload_libraries":
                continue  # see test_every_library_is_preloaded
            is_size = value.endswith(("MB", "GB", "kB"))
            row = connection.execute(
                "SELECT pg_size_bytes(%(v)s) = pg_size_bytes(current_setting(%(n)s)), current_setting(%(n)s)"
                if is_size
                else "SELECT lower(current_setting(%(n)s)) = lower(%(v)s), current_setting(%(n)s)",
                {"n": name, "v": value},
            ).fetchone()
            assert row is not None
            if not row[0]:
                other[name] = (value, row[1])
    assert other == {}


@promise("a stack's servers match its outputs")
def test_every_library_is_preloaded(reached: Reached) -> None:
    """RDS adds libraries of its own, such as rdsutils."""
    wanted = reached.expected["postgresParameters"]["shared_preload_libraries"]
    with reached.postgres("monitor") as connection:
        row = connection.execute("SELECT current_setting('shared_preload_libraries')").fetchone()
    assert row is not None
    assert has_libraries(row[0], wanted, others=reached.is_on_aws)


def test_each_role_has_its_own_login_and_connection_limit(reached: Reached) -> None:
    for role in ROLES:
        group = outputs.ROLES[role][0]
        assert group is not None
        with reached.postgres(role) as connection:
            row = connection.execute(
                "SELECT rolname, rolconnlimit,"
                " rolsuper OR rolcreatedb OR rolcreaterole OR rolreplication OR rolbypassrls FROM pg_roles"
                " WHERE rolname = session_user"
            ).fetchone()
        assert row is not None
        name, limit, may_more = row
        assert name in {login.name for login in roles.LOGINS[group]}
        assert limit == reached.expected["connectionLimits"][group], role
        assert may_more is False, role


@promise("the settings of each login are fixed")
def test_the_settings_of_a_login_are_fixed(reached: Reached) -> None:
    for role in ROLES:
        login = roles.LOGINS[outputs.ROLES[role][0] or ""][0]
        with reached.postgres(role) as connection:
            # No role may set the others, not even to the value that it has: tests/integration/roles compares them.
            for name, value in roles.managed_settings(login).items():
                # The second column is the value as the server writes it: 60s is 1min.
                row = connection.execute(
                    "SELECT current_setting(%(n)s), set_config(%(n)s, %(v)s, true)", {"n": name, "v": value}
                ).fetchone()
                assert row is not None
                assert row[0] == row[1], (role, name)


# RDS's administrator cannot revoke it from PUBLIC (docs/aws.md).
CREATE_LARGE_OBJECT: LiteralString = "SELECT lo_create(0)"
# Each statement, and the roles that may execute it.
MATRIX: list[tuple[LiteralString, set[str]]] = [
    ("SELECT id FROM groundwork.users LIMIT 0", {"app", "readonly", "migrator"}),
    ("SELECT access_token FROM groundwork.users LIMIT 0", {"app", "migrator"}),
    ("SELECT version FROM groundwork._sqlx_migrations LIMIT 0", {"app", "migrator"}),
    ("UPDATE groundwork._sqlx_migrations SET success = success WHERE false", {"migrator"}),
    ("DELETE FROM groundwork.users WHERE false", {"app", "migrator"}),
    ("CREATE TABLE groundwork.verified_live (a int)", {"migrator"}),
    ("CREATE SCHEMA verified_live", set()),
    ("CREATE TEMP TABLE verified_live (a int)", set()),
    ("SELECT rolpassword FROM pg_authid LIMIT 0", set()),
    ("SELECT pg_read_file('PG_VERSION')", set()),
    (CREATE_LARGE_OBJECT, set()),
]


@promise("each cell of the matrix is true when tested as the login")
@every_role
def test_a_role_has_exactly_the_privileges_of_the_matrix(reached: Reached, role: str) -> None:
    """Each transaction is rolled back, so nothing changes even if the server allows a statement."""
    matrix = [row for row in MATRIX if not (reached.is_on_aws and row[0] == CREATE_LARGE_OBJECT)]
    allowed = set()
    with reached.postgres(role) as connection:
        for sql, _ in matrix:
            connection.execute("SET TRANSACTION READ WRITE")
            connection.execute("SET LOCAL lock_timeout = '2s'")
            with suppress(psycopg.errors.InsufficientPrivilege):
                connection.execute(sql)
                allowed.add(sql)
            connection.rollback()
    assert allowed == {sql for sql, who in matrix if role in who}


def test_connections_use_tls_1_2_or_newer(reached: Reached) -> None:
    for role in ROLES:
        with reached.postgres(role) as connection:
            # After SET ROLE to owner, the login's session is not visible.
            connection.execute("SET ROLE NONE")
            row = connection.execute(
                "SELECT ssl, version FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
            ).fetchone()
        assert row is not None
        assert row[0] is True, role
        assert row[1] in ("TLSv1.2", "TLSv1.3"), role


def test_unencrypted_connections_are_refused(reached: Reached) -> None:
    for role in ROLES:
        with in_case(role), pytest.raises(psycopg.OperationalError, match=r"no encryption|SSL off"):
            reached.postgres(role, sslmode="disable").close()


def test_a_server_certificate_of_another_authority_is_rejected(reached: Reached, tmp_path: Path) -> None:
    with pytest.raises(psycopg.OperationalError, match="certificate verify failed"):
        reached.postgres("app", sslrootcert=str(stranger(tmp_path))).close()


def test_every_migration_is_applied(reached: Reached) -> None:
    with reached.postgres("app") as connection:
        row = connection.execute(
            "SELECT max(version), bool_and(success) FROM groundwork._sqlx_migrations"
        ).fetchone()
    assert row == (int(reached.expected["schemaVersion"]), True)
