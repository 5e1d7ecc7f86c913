"""One database for the whole matrix, with a row in each table, and transactions as any login.

Each test's changes are rolled back, so all cells share the database and the connections.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import psycopg
import pytest

from infra.spec import roles
from tests.conftest import Connection, Database, cloned_database
from tests.containers import Server

LOGINS = roles.ALL_LOGINS
AsLogin = Callable[[str], Connection]

_ROWS = """
    INSERT INTO users (github_id, username, access_token, refresh_token)
        VALUES (1, 'ada', 'ciphertext', 'ciphertext');
    INSERT INTO organizations (github_id, name) VALUES (1, 'analysts');
    INSERT INTO repositories (github_id, org_id, name) SELECT 1, id, 'analysts/engine' FROM organizations;
    INSERT INTO activities (user_id, type, timestamp) SELECT id, 'PushEvent', now() FROM users;
"""


@pytest.fixture(scope="package")
def database(postgres_server: Server, migrated_template: str) -> Iterator[Database]:
    with cloned_database(postgres_server, migrated_template) as clone:
        with psycopg.connect(clone.url("app")) as connection:
            connection.execute(_ROWS)
        # Fill pg_stats, from whose sample a role could read tokens.
        clone.psql("ANALYZE groundwork.users")
        yield clone


@pytest.fixture(scope="package")
def sessions(database: Database) -> Iterator[AsLogin]:
    """One session per login, in autocommit mode."""
    opened: dict[str, Connection] = {}
    with ExitStack() as stack:

        def session(login: str) -> Connection:
            if login not in opened:
                opened[login] = stack.enter_context(psycopg.connect(database.url(login), autocommit=True))
            return opened[login]

        yield session


@pytest.fixture
def as_login(sessions: AsLogin) -> Iterator[AsLogin]:
    """A login's session inside a transaction that is rolled back.

    The transaction is READ WRITE, because a login can change default_transaction_read_only. Whatever is denied must be
    denied by privileges.
    """
    with ExitStack() as stack:

        def begin(login: str) -> Connection:
            connection = sessions(login)
            connection.execute("BEGIN READ WRITE")
            stack.callback(connection.execute, "ROLLBACK")
            return connection

        yield begin
