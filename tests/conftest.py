"""Fixtures that every kind of test shares: one temporary Postgres per session, and a migrated database per test.

Without Docker, the tests that need it are skipped with that reason; with CI set they fail.
"""

from __future__ import annotations

import gc
import os
import shutil
import signal
import subprocess
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import hypothesis
import psycopg
import pytest

from db.migrator import apply_pending, read_source
from infra.spec import roles
from tests import containers
from tests.containers import Server
from tests.scale import IS_FULL

EMPTY_TEMPLATE, TEMPLATE = "empty_template", "groundwork_template"
Connection = psycopg.Connection[tuple[object, ...]]
Connect = Callable[..., Connection]
# No time limit for finding or running an example: a busy machine is slow.
hypothesis.settings.register_profile(
    "groundwork", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("groundwork")
# If a shell starts the tests in the background, they and their child processes ignore Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)


@dataclass(frozen=True)
class Database:
    """A database of the temporary server, with the connection strings of each login."""

    server: Server
    name: str

    def url(self, role: str) -> str:
        """Return the URL of a login, or of a role's first login: `app` is `app_a`."""
        login = roles.LOGINS[role][0].name if role in roles.LOGINS else role
        return self.server.database_url(login, self.name)

    def psql(self, sql: str) -> str:
        """Run SQL in the database as the superuser."""
        return self.server.psql(sql, self.name)


def pytest_collection_finish() -> None:
    _collect_garbage()
    gc.set_threshold(10_000, 20, 20)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep one of the two flavours of the data access for each case, in turns. SCALE=full runs both.

    The sync code is generated from the async code, so that both flavours rarely find more than one.
    """
    if IS_FULL:
        return
    cases: dict[tuple[object, ...], list[pytest.Item]] = {}
    for item in items:
        parameters = (
            dict(item.callspec.params)
            if isinstance(item, pytest.Function) and hasattr(item, "callspec")
            else {}
        )
        if parameters.pop("flavour", None) is not None:
            case = (
                item.nodeid.partition("[")[0],
                *(f"{name}={value!r}" for name, value in parameters.items()),
            )
            cases.setdefault(case, []).append(item)
    of_two = [case for case in cases.values() if len(case) == 2]
    dropped = {case[number % 2] for number, case in enumerate(of_two)}
    if dropped:
        config.hook.pytest_deselected(items=list(dropped))
        items[:] = [item for item in items if item not in dropped]


def _collect_garbage() -> None:
    """Collect garbage, and exclude what remains from later collections, so that each takes milliseconds."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="module", autouse=True)
def _no_garbage_for_other_files() -> Iterator[None]:
    """Collect garbage after each file, so that an object it left open fails its own last test and no other file's."""
    yield
    _collect_garbage()


@pytest.fixture(scope="session")
def docker_engine() -> None:
    """Skip the test, or fail it in CI, if no Docker engine answers."""
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
    """Yield the session's Postgres. Tests that restart or break a server start their own."""
    # Of the CPU time of a connection, a client spends half on the iterations.
    with containers.postgres_server(in_memory=True, scram_iterations=1) as server:
        yield server


@pytest.fixture(scope="session")
def empty_template(postgres_server: Server) -> str:
    """Return the name of a database with roles, grants and no migration. Tests only clone it."""
    _create_database(postgres_server, EMPTY_TEMPLATE, "template0")
    return EMPTY_TEMPLATE


@pytest.fixture(scope="session")
def migrated_template(postgres_server: Server) -> str:
    """Return the name of a database at the newest migration. Tests only clone it, and never connect to it."""
    _create_database(postgres_server, TEMPLATE, "template0")
    apply_pending(postgres_server.database_url("migrator", TEMPLATE), read_source())
    return TEMPLATE


@pytest.fixture
def database(postgres_server: Server, migrated_template: str) -> Iterator[Database]:
    """Yield a migrated database for this test, without rows."""
    with cloned_database(postgres_server, migrated_template) as clone:
        yield clone


@pytest.fixture
def empty_database(postgres_server: Server, empty_template: str) -> Iterator[Database]:
    """Yield a database for this test with roles and grants, and no migration applied."""
    with cloned_database(postgres_server, empty_template) as clone:
        yield clone


@pytest.fixture
def connect(database: Database) -> Iterator[Connect]:
    """Yield a function that connects to the test's database as a role or login, in autocommit: connect("app").

    The connections are closed at the end of the test.
    """
    with ExitStack() as stack:

        def open_as(role: str, **options: object) -> Connection:
            options = {"autocommit": True} | options
            return stack.enter_context(psycopg.connect(database.url(role), **options))  # type: ignore[arg-type]

        yield open_as


@contextmanager
def cloned_database(server: Server, template: str) -> Iterator[Database]:
    """Yield a clone of a template with the grants of the specification. It is dropped with the next clone."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    _create_database(server, name, template)
    yield Database(server, name)
    server.left_databases.append(name)


def _create_database(server: Server, name: str, template: str) -> None:
    """Create the database with one command, because starting a command takes as long as its work."""
    drops = "".join(f"DROP DATABASE {left} WITH (FORCE);\n" for left in server.left_databases)
    server.left_databases.clear()
    # A clone contains what is inside a database, but not the right to connect to it.
    inside = f"\\connect {name}\n{roles.grants_sql(name)}" if template == "template0" else ""
    server.psql(
        f"{drops}CREATE DATABASE {name} TEMPLATE {template} ENCODING 'UTF8' LOCALE 'C.UTF-8'"
        # FILE_COPY copies whole files; WAL_LOG would write each page to the WAL.
        f" STRATEGY FILE_COPY;\n{roles.connect_sql(name)}{inside}"
    )
