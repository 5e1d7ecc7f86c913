"""Fixtures that every kind of test shares: one throwaway Postgres a session, a clone of a migrated database a test.

Without Docker the tests that need it are skipped with that reason; where CI is set they fail instead.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import psycopg
import pytest

from db.migrator import apply_pending, read_source
from infra.spec import roles
from tests import containers
from tests.containers import Server

EMPTY_TEMPLATE, TEMPLATE = "empty_template", "groundwork_template"
Connection = psycopg.Connection[tuple[object, ...]]
Connect = Callable[..., Connection]
# A shell that starts the tests in the background has them, and all that they start, ignore Ctrl-C for good.
signal.signal(signal.SIGINT, signal.default_int_handler)


@dataclass(frozen=True)
class Database:
    """One database of the throwaway server, and how each login reaches it."""

    server: Server
    name: str

    def url(self, role: str) -> str:
        """The URL for a login, or for the first login of a role: `app` is `app_a`."""
        login = roles.LOGINS[role][0].name if role in roles.LOGINS else role
        return self.server.database_url(login, self.name)

    def psql(self, sql: str) -> str:
        """Run SQL in it as the superuser."""
        return self.server.psql(sql, self.name)


@pytest.fixture(scope="session")
def docker_engine() -> None:
    """Skips, or in CI fails, where no Docker engine answers."""
    if shutil.which("docker") is None:
        missing = "docker is not installed"
    else:
        info = subprocess.run(["docker", "info"], capture_output=True, check=False, timeout=60)
        missing = "" if info.returncode == 0 else "the Docker engine does not answer"
    if missing and os.environ.get("CI"):
        pytest.fail(f"{missing}, and CI must run every test")
    if missing:
        pytest.skip(f"{missing}; `make up` starts one")


@pytest.fixture(scope="session")
def postgres_server(docker_engine: None) -> Iterator[Server]:
    """The session's Postgres. Tests that restart or break a server take one of their own."""
    with containers.postgres_server() as server:
        yield server


@pytest.fixture(scope="session")
def empty_template(postgres_server: Server) -> str:
    """The name of a database with roles and grants and no migration: only cloned."""
    _create_database(postgres_server, EMPTY_TEMPLATE, "template0")
    return EMPTY_TEMPLATE


@pytest.fixture(scope="session")
def migrated_template(postgres_server: Server) -> str:
    """The name of a database at the newest migration that nobody connects to: only cloned."""
    _create_database(postgres_server, TEMPLATE, "template0")
    apply_pending(postgres_server.database_url("migrator", TEMPLATE), read_source())
    return TEMPLATE


@pytest.fixture
def database(postgres_server: Server, migrated_template: str) -> Iterator[Database]:
    """A migrated database of the test's own, without rows."""
    with cloned_database(postgres_server, migrated_template) as clone:
        yield clone


@pytest.fixture
def empty_database(postgres_server: Server, empty_template: str) -> Iterator[Database]:
    """A database of the test's own with roles and grants, and no migration applied."""
    with cloned_database(postgres_server, empty_template) as clone:
        yield clone


@pytest.fixture
def connect(database: Database) -> Iterator[Connect]:
    """Connections to the test's database as any role or login, in autocommit, closed at its end: connect("app")."""
    with ExitStack() as stack:

        def open_as(role: str, **options: object) -> Connection:
            options = {"autocommit": True} | options
            return stack.enter_context(psycopg.connect(database.url(role), **options))  # type: ignore[arg-type]

        yield open_as


@contextmanager
def cloned_database(server: Server, template: str) -> Iterator[Database]:
    """A clone of a template with the grants of the specification, dropped with the next clone."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    _create_database(server, name, template)
    yield Database(server, name)
    server.left_databases.append(name)


def _create_database(server: Server, name: str, template: str) -> None:
    """One command does it all: each takes as long to start as its work takes."""
    drops = "".join(f"DROP DATABASE {left} WITH (FORCE);\n" for left in server.left_databases)
    server.left_databases.clear()
    # A clone takes over what is inside a database, and not who may connect to it.
    inside = f"\\connect {name}\n{roles.grants_sql(name)}" if template == "template0" else ""
    server.psql(
        f"{drops}CREATE DATABASE {name} TEMPLATE {template} ENCODING 'UTF8' LOCALE 'C.UTF-8'"
        # Files are copied at once; the other way each page goes through the WAL.
        f" STRATEGY FILE_COPY;\n{roles.connect_sql(name)}{inside}"
    )
