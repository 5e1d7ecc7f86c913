"""A Postgres with a stack's access rules, and connections to it with changed options."""

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
    """A Postgres with the access rules and limits of a stack. The session's server allows more, for clones."""
    with containers.postgres_server(
        database=roles.DATABASE, connection_limits=CONNECTION_LIMITS, in_memory=True
    ) as server:
        yield server


def open_connection(server: Server, login: str = "app_a", **changes: Any) -> Connection:
    """Connect as a login with verify-full. `changes` are libpq keywords (sslmode=..., host=...)."""
    return psycopg.connect(server.database_url(login), autocommit=True, connect_timeout=10, **changes)
