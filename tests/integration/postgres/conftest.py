"""A Postgres whose access rules are a stack's own, and ways into it that a test can bend."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from infra.spec import roles
from tests import containers
from tests.conftest import Connection
from tests.containers import Server

CONNECTION_LIMITS = {"app": 3, "monitor": 1}
Open = Callable[..., Connection]


@pytest.fixture(scope="package")
def stack_postgres(docker_engine: None) -> Iterator[Server]:
    """Rules and limits as a stack has them, where the session's server is open to clones."""
    with containers.postgres_server(database=roles.DATABASE, connection_limits=CONNECTION_LIMITS) as server:
        yield server


def open_connection(server: Server, login: str = "app_a", **changes: Any) -> Connection:
    """A connection as a login, verify-full; `changes` are libpq's keywords (sslmode=..., host=...)."""
    return psycopg.connect(server.database_url(login), autocommit=True, connect_timeout=10, **changes)
