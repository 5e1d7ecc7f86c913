"""A Postgres that refuses what RDS refuses: its administrator is not a superuser, and logins need rds_iam.

RDS checks a token by PAM. This server uses trust authentication: it accepts members of rds_iam without checking a
token.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from infra.docker.engine import docker
from infra.spec import rds, roles
from ops.bootstrap import AdministratorLogin
from tests.containers import Server, build_image, postgres_server

_HBA = f"""\
local all postgres peer
local all all reject
hostssl all +{rds.IAM_ROLE} samenet trust
hostssl all {rds.ADMIN} samenet scram-sha-256
host all all all reject
"""
_CONTROL = "/usr/share/postgresql/15/extension/pg_stat_statements.control"


@pytest.fixture(scope="package")
def control_file(docker_engine: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Mark an extension as trusted, because RDS lets its administrator create the extensions that it supports."""
    path = tmp_path_factory.mktemp("rds") / "pg_stat_statements.control"
    found = docker("run", "--rm", "--init", "--entrypoint", "cat", build_image("postgres"), _CONTROL)
    path.write_text(f"{found}\ntrusted = true\n")
    path.chmod(0o644)
    return path


@pytest.fixture(scope="package")
def trusting_server(control_file: Path) -> Iterator[Server]:
    mount = ("--volume", f"{control_file}:{_CONTROL}:ro")
    with postgres_server(extra_files={"pg_hba.conf": _HBA}, in_memory=True, run_options=mount) as server:
        yield server


@pytest.fixture
def rds_server(trusting_server: Server) -> Server:
    """A server like a new RDS instance: one database, one administrator, none of groundwork's roles."""
    server = trusting_server
    server.psql(f"DROP DATABASE IF EXISTS {roles.DATABASE} WITH (FORCE)")
    server.psql("ALTER DATABASE postgres OWNER TO postgres; ALTER DATABASE template1 OWNER TO postgres;")
    everyone = [
        *roles.ALL_LOGINS,
        *roles.PRIVILEGE_SETS,
        roles.OWNER,
        rds.ADMIN,
        rds.IAM_ROLE,
        "rds_superuser",
    ]
    server.psql(f"DROP ROLE IF EXISTS {', '.join(everyone)}")
    password = server.passwords[rds.ADMIN] = uuid.uuid4().hex
    server.psql(
        f"""
        CREATE ROLE {rds.IAM_ROLE} NOLOGIN;
        CREATE ROLE rds_superuser NOLOGIN;
        GRANT pg_monitor, pg_signal_backend TO rds_superuser WITH ADMIN OPTION;
        CREATE ROLE {rds.ADMIN} LOGIN CREATEDB CREATEROLE IN ROLE rds_superuser PASSWORD '{password}';
        ALTER DATABASE postgres OWNER TO {rds.ADMIN};
        ALTER DATABASE template1 OWNER TO {rds.ADMIN};
        GRANT CONNECT, TEMPORARY ON DATABASE postgres, template1 TO PUBLIC;
        """
    )
    return server


@pytest.fixture
def administrator(rds_server: Server) -> AdministratorLogin:
    return AdministratorLogin(rds.ADMIN, rds_server.passwords[rds.ADMIN])


def url_of(server: Server, login: str) -> str:
    """Return a login's connection string without a password, as in the stack outputs."""
    return (
        f"postgresql://{login}@localhost:{server.port}/{roles.DATABASE}"
        f"?sslmode=verify-full&sslrootcert={server.ca_file}"
    )


def session(server: Server, login: str) -> psycopg.Connection[tuple[object, ...]]:
    return psycopg.connect(url_of(server, login), password="a token", autocommit=True)
