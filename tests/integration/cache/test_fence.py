"""A Redis that accepts no writes is not read: it may be a former primary, which no longer gets the invalidations."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import redis

from cache._async.connections import AsyncConnections
from cache._async.connections import _exchange_many as async_exchange
from cache._sync.connections import Connections
from cache._sync.connections import _exchange_many as _exchange
from cache.near import MISS
from db.models import NewUser
from tests import containers
from tests.conftest import Database
from tests.containers import Server, wait_until
from tests.integration.data_access import cache_settings, data_access, database_settings, wait_until_near
from tests.promises import promise


@pytest.fixture(scope="module")
def server(docker_engine: None) -> Iterator[Server]:
    with containers.redis_server(administrator=True, eviction_policy="noeviction") as server:
        yield server


@pytest.fixture
def administrator(server: Server) -> Iterator[Any]:
    """A client that may change the configuration, which is restored after the test."""
    with redis.Redis.from_url(server.redis_url("administrator"), driver_info=None) as client:
        usual = client.config_get("maxmemory")
        try:
            yield client
        finally:
            client.config_set("min-replicas-to-write", 0)
            client.config_set("maxmemory", usual["maxmemory"])


@pytest.fixture
def data(flavour: str, database: Database, server: Server, namespace: str) -> Iterator[Any]:
    cache = cache_settings(server.redis_url("app"), namespace)
    with data_access(flavour, database_settings(database.url("app")), cache) as data:
        yield data


def _hold(data: Any) -> Any:
    """Return a user that is in Redis and in the near cache."""
    user = data.users.add(NewUser(github_id=7, username="before"))
    wait_until_near(data, user.id)
    return user


def _cut_off(administrator: Any, database: Database) -> None:
    """Make the server refuse writes as if it had lost its replicas, then change the row behind its back."""
    administrator.config_set("min-replicas-to-write", 1)
    database.psql("UPDATE groundwork.users SET username = 'after'")


@promise("a Redis that has lost its replicas, or is a replica, is not read")
@pytest.mark.parametrize("is_full", [False, True])
def test_a_server_that_refuses_writes_is_not_read(
    data: Any, administrator: Any, database: Database, is_full: bool
) -> None:
    user = _hold(data)
    if is_full:
        administrator.config_set("maxmemory", 1)
    _cut_off(administrator, database)
    wait_until(lambda: data.users.get(user.id).username == "after")
    assert data.users.cached.peek(user.id) is MISS
    assert data.cache.breaker.is_open
    # It is used again when its replicas are back.
    administrator.config_set("min-replicas-to-write", 0)
    wait_until(lambda: not data.cache.breaker.is_open)


async def _async_question(self: Any, connection: Any) -> Any:
    return await async_exchange(connection, [("INFO", "server", "replication"), ("GET", self._nonce_key)])


def _question(self: Any, connection: Any) -> Any:
    return _exchange(connection, [("INFO", "server", "replication"), ("GET", self._nonce_key)])


@promise("a Redis that has lost its replicas, or is a replica, is not read", control=True)
def test_a_greeting_that_only_reads_lets_it_be_read(
    data: Any, administrator: Any, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    user = _hold(data)
    monkeypatch.setattr(AsyncConnections, "_greet", _async_question)
    monkeypatch.setattr(Connections, "_greet", _question)
    _cut_off(administrator, database)
    # The near cache has a fence of its own.
    wait_until(lambda: data.users.cached.peek(user.id) is MISS)
    data.cache.epoch.doubt()
    assert data.users.get(user.id).username == "before"
