"""A Redis for the session, a key namespace for each test, and the data access over both servers."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import redis

from tests import containers
from tests.conftest import Database
from tests.containers import QUIET, Server
from tests.declared_parameters import watch
from tests.integration.data_access import FLAVOURS, cache_settings, data_access, database_settings

OpenData = Callable[..., Any]


@pytest.fixture(autouse=True)
def _declared_parameters(monkeypatch: pytest.MonkeyPatch) -> None:
    watch(monkeypatch)


@pytest.fixture(scope="session")
def redis_server(docker_engine: None) -> Iterator[Server]:
    """The Redis of the test session. Tests that break or fill a server start a separate one."""
    with containers.redis_server() as server:
        yield server


@pytest.fixture
def namespace() -> str:
    """A unique cache namespace for the test, so that nothing must be flushed."""
    return f"t{uuid.uuid4().hex[:12]}"


@pytest.fixture
def redis_as_ops(redis_server: Server) -> Iterator[redis.Redis]:
    """A Redis client as user ops, to check what the code under test did."""
    with redis.Redis.from_url(redis_server.redis_url("ops"), **QUIET) as client:
        yield client


@pytest.fixture(params=FLAVOURS)
def flavour(request: pytest.FixtureRequest) -> str:
    """The form of the data access: sync or async."""
    return str(request.param)


@pytest.fixture
def near_entries() -> int:
    """The size of the near cache. 0 in tests that check calls to Redis."""
    return 10_000


@pytest.fixture
def open_data(
    flavour: str, database: Database, redis_server: Server, namespace: str, near_entries: int
) -> Iterator[OpenData]:
    """Open a data access with the test's database and namespace. Keyword arguments change DatabaseSettings."""
    with ExitStack() as stack:

        def open_one(**changes: Any) -> Any:
            return stack.enter_context(
                data_access(
                    flavour,
                    database_settings(database.url("app"), **changes),
                    cache_settings(redis_server.redis_url("app"), namespace, near_entries=near_entries),
                )
            )

        yield open_one


@pytest.fixture
def data(open_data: OpenData) -> Any:
    """An open data access as role app."""
    return open_data()
