"""A connection to Redis takes longer than a call may, as on a busy machine. With several servers it is still used."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import pytest

from cache._async.client import AsyncClient
from cache.tls import AsyncTlsConnection, TlsConnection
from db.models import NewUser
from tests.conftest import Database
from tests.containers import Server, free_port, wait_until
from tests.integration.data_access import SHIPPED_TIMEOUT, cache_settings, data_access, database_settings
from tests.promises import promise

_CONNECT_SECONDS = 3 * SHIPPED_TIMEOUT


@pytest.fixture(autouse=True)
def _slow(monkeypatch: pytest.MonkeyPatch) -> None:
    connect, async_connect = TlsConnection._connect, AsyncTlsConnection._connect

    def slow(self: Any) -> Any:
        time.sleep(_CONNECT_SECONDS)
        return connect(self)

    async def async_slow(self: Any) -> None:
        await asyncio.sleep(_CONNECT_SECONDS)
        await async_connect(self)

    monkeypatch.setattr(TlsConnection, "_connect", slow)
    monkeypatch.setattr(AsyncTlsConnection, "_connect", async_slow)
    monkeypatch.setattr("cache.primary.RELIANCE_SECONDS", 0.0)


@pytest.fixture
def data(flavour: str, database: Database, redis_server: Server, namespace: str) -> Iterator[Any]:
    """A data access whose REDIS_URL also lists a server that does not exist."""
    listed = f"localhost:{redis_server.port}"
    url = redis_server.redis_url("app").replace(listed, f"{listed},localhost:{free_port()}")
    settings = cache_settings(url, namespace, near_entries=0, timeout_seconds=SHIPPED_TIMEOUT)
    with data_access(flavour, database_settings(database.url("app")), settings) as data:
        yield data


@promise("a primary whose connections take longer than a call's limit is found and used")
def test_connections_are_opened_in_the_background_with_a_longer_limit(data: Any) -> None:
    assert data.cache.breaker.is_open
    user = data.users.add(NewUser(github_id=7, username="one"))
    wait_until(lambda: not data.cache.breaker.is_open, 60)
    assert data.users.get(user.id).username == "one"


@pytest.fixture
def attempts(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The limits of the attempts to open connections in the background, which are those of a call."""
    limits: list[float] = []
    warm = AsyncClient._warm

    async def hurried(self: AsyncClient, seconds: float) -> None:
        limits.append(seconds)
        await warm(self, SHIPPED_TIMEOUT)

    monkeypatch.setattr(AsyncClient, "_warm", hurried)
    return limits


@promise("a primary whose connections take longer than a call's limit is found and used", control=True)
@pytest.mark.parametrize("flavour", ["async"])
def test_with_the_limit_of_a_call_the_primary_is_found_and_not_used(attempts: list[float], data: Any) -> None:
    wait_until(lambda: len(attempts) > 2, 60)
    assert data.cache.breaker.is_open
    assert all(seconds > _CONNECT_SECONDS for seconds in attempts)
