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
from tests.containers import Server
from tests.declared_parameters import watch
from tests.integration.data_access import FLAVOURS, cache_settings, data_access, database_settings

OpenData = Callable[..., Any]


@pytest.fixture(autouse=True)
def _declared_parameters(monkeypatch: pytest.MonkeyPatch) -> None:
    watch(monkeypatch)


@pytest.fixture(scope="session")
def redis_server(docker_engine: None) -> Iterator[Server]:
    """The session's Redis. Tests that break or fill a server take one of their own."""
    with containers.redis_server() as server:
        yield server


@pytest.fixture
def namespace() -> str:
    """The first part of this test's keys: nobody else's, so nothing has to be flushed."""
    return f"t{uuid.uuid4().hex[:12]}"


@pytest.fixture
def redis_as_ops(redis_server: Server) -> Iterator[redis.Redis]:
    """Redis as an operator sees it, to look at what the code under test did."""
    with redis.Redis.from_url(redis_server.redis_url("ops"), driver_info=None) as client:
        yield client


@pytest.fixture(params=FLAVOURS)
def flavour(request: pytest.FixtureRequest) -> str:
    """Sync and async: one suite holds for both."""
    return str(request.param)


@pytest.fixture
def near_entries() -> int:
    """The near cache's size; 0 where a test looks at what Redis is asked."""
    return 10_000


@pytest.fixture
def open_data(
    flavour: str, database: Database, redis_server: Server, namespace: str, near_entries: int
) -> Iterator[OpenData]:
    """Opens a data access on the test's database and keys; keyword arguments change DatabaseSettings."""
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
