"""The order in which a pool tries the servers of its connection string, and when its connections are outdated."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import psycopg
import pytest
from psycopg import errors as sql_errors

from cache.url_source import UrlSource
from db._async.connection import AsyncBoundedConnection
from db._async.pool import AsyncPool
from db._sync.connection import BoundedConnection
from db._sync.pool import Pool
from db.errors import InvalidSetting
from db.hosts import Hosts, merged
from db.settings import DatabaseSettings
from tests.cases import in_case
from tests.promises import promise
from tests.unit.db.fake_server import FakeServer, conninfo, fake_servers

Connect = Callable[[str, Hosts], None]
THREE = "host=a,b,c port=1,2,3 user=app"


def sync_connect(text: str, hosts: Hosts) -> None:
    BoundedConnection.connect(text, hosts=hosts).close()


def async_connect(text: str, hosts: Hosts) -> None:
    async def connect() -> None:
        await (await AsyncBoundedConnection.connect(text, hosts=hosts)).close()

    asyncio.run(connect())


def plain_connect(text: str, hosts: Hosts) -> None:
    psycopg.connect(text).close()


def logins(servers: list[FakeServer]) -> list[int]:
    return [server.logins for server in servers]


def order(hosts: Hosts, text: str = THREE) -> list[str]:
    return [attempt.host for attempt in hosts.attempts(text)]


@promise("a server that does not answer delays one connection of a pool, and not each of them")
@pytest.mark.parametrize("connect", [sync_connect, async_connect])
def test_a_frozen_server_is_tried_once(connect: Connect) -> None:
    hosts = Hosts()
    with fake_servers("silent", "replica", "primary") as servers:
        for _ in range(3):
            connect(conninfo(servers), hosts)
        assert logins(servers) == [1, 1, 3]


@promise("a server that does not answer delays one connection of a pool, and not each of them", control=True)
def test_the_driver_tries_a_frozen_server_each_time() -> None:
    with fake_servers("silent", "primary") as servers:
        for _ in range(2):
            plain_connect(conninfo(servers), Hosts())
        assert logins(servers) == [2, 2]


def test_a_primary_that_freezes_is_tried_last_afterwards() -> None:
    hosts = Hosts()
    with fake_servers("primary", "replica", "replica") as servers:
        sync_connect(conninfo(servers), hosts)
        servers[0].is_silent, servers[2].is_replica = True, False
        sync_connect(conninfo(servers), hosts)
        assert hosts.moves
        # As if the new primary has become a replica again: the frozen server is not asked before the others.
        servers[2].is_replica, servers[1].is_replica = True, False
        sync_connect(conninfo(servers), hosts)
        assert logins(servers) == [2, 2, 2]


def test_the_server_of_the_last_connection_comes_first() -> None:
    hosts = Hosts()
    assert order(hosts) == ["a", "b", "c"]
    hosts.connected(hosts.attempts(THREE)[1])
    assert order(hosts) == ["b", "a", "c"]
    assert not hosts.moves


@pytest.mark.parametrize("kind", [Pool, AsyncPool])
def test_a_forked_child_keeps_what_its_parent_has_found_out(kind: type[Pool | AsyncPool]) -> None:
    pool = kind(
        DatabaseSettings(UrlSource("DATABASE_URL", InvalidSetting, "postgresql://app@a:1,b:2/groundwork"))
    )
    hosts = pool._hosts
    hosts.connected(hosts.attempts(THREE)[1])
    pool.after_fork()
    assert pool._pool.hosts is hosts
    assert order(pool._hosts) == ["b", "a", "c"]


@promise("connections to a former primary are replaced when another server turns out to be the primary")
def test_a_connection_to_another_server_makes_the_others_outdated() -> None:
    hosts = Hosts()
    first, second, _ = hosts.attempts(THREE)
    hosts.connected(first)
    hosts.connected(first)
    assert not hosts.moves
    hosts.connected(second)
    assert hosts.moves


def test_a_connection_to_another_server_of_a_random_order_means_nothing() -> None:
    hosts = Hosts()
    text = f"{THREE} load_balance_hosts=random"
    for attempt in hosts.attempts(text):
        hosts.connected(attempt)
    assert not hosts.moves
    assert {tuple(order(hosts, text)) for _ in range(200)} > {("a", "b", "c"), ("c", "b", "a")}


def test_replicas_are_tried_in_a_random_order_without_a_parameter_that_older_drivers_do_not_know() -> None:
    hosts = Hosts(are_replicas=True)
    assert {tuple(order(hosts)) for _ in range(200)} > {("a", "b", "c"), ("c", "b", "a")}
    for text in (THREE, f"{THREE} load_balance_hosts=random"):
        assert not any("load_balance_hosts" in attempt.conninfo for attempt in hosts.attempts(text))


def test_a_refused_connection_does_not_change_the_order() -> None:
    hosts = Hosts()
    first, second, _ = hosts.attempts(THREE)
    hosts.failed(first, psycopg.OperationalError("connection refused"))
    assert order(hosts) == ["a", "b", "c"]
    hosts.failed(second, sql_errors.ConnectionTimeout("timeout"))
    assert order(hosts) == ["a", "c", "b"]


def test_the_servers_of_a_connection_string() -> None:
    """A string whose lists do not fit together is left to the driver, which reports it."""
    cases: list[tuple[str, list[str]]] = [
        ("host=a port=1", ["a"]),
        ("host=a,b port=1", ["a", "b"]),
        ("host=a,b,c port=1,2", ["a,b,c"]),
        ("host=a,b hostaddr=127.0.0.1", ["a,b"]),
        ("hostaddr=127.0.0.1,127.0.0.2", ["None", "None"]),
        ("host=a,b target_session_attrs=prefer-standby", ["a", "b", "a", "b"]),
    ]
    for text, expected in cases:
        with in_case(text, expected):
            assert order(Hosts(), text) == expected


def test_a_replica_is_preferred_over_a_primary_that_comes_first() -> None:
    with fake_servers("primary", "replica") as servers:
        sync_connect(conninfo(servers, "prefer-standby"), Hosts())
        assert servers[1].logins == 1


def test_the_error_names_each_server_and_its_reason() -> None:
    with fake_servers("replica", "replica") as servers:
        with pytest.raises(psycopg.OperationalError) as refused:
            sync_connect(conninfo(servers), Hosts())
        lines = str(refused.value).splitlines()
        assert "server is in hot standby mode" in lines[0]
        for server in servers:
            assert any(line.startswith(f"- host: '127.0.0.1', port: '{server.port}'") for line in lines)


def test_the_error_of_a_single_server_is_that_of_the_driver() -> None:
    error = psycopg.OperationalError("refused")
    assert merged([(Hosts().attempts("host=a")[0], error)]) is error


class _Session:
    def __init__(self, in_hot_standby: bytes) -> None:
        self.in_hot_standby = in_hot_standby

    def parameter_status(self, name: bytes) -> bytes | None:
        return self.in_hot_standby if name == b"in_hot_standby" else None


def test_errors_that_make_a_pool_outdated() -> None:
    cases: list[tuple[type[psycopg.Error], bytes, bool, bool]] = [
        (sql_errors.ReadOnlySqlTransaction, b"on", True, True),
        # In a transaction that is read-only on purpose.
        (sql_errors.ReadOnlySqlTransaction, b"off", False, False),
        (sql_errors.AdminShutdown, b"off", False, True),
        (sql_errors.CrashShutdown, b"off", False, True),
        (sql_errors.CannotConnectNow, b"off", False, True),
        (sql_errors.QueryCanceled, b"on", False, False),
        (psycopg.OperationalError, b"on", False, False),
    ]
    for error, in_hot_standby, is_replica, is_outdated in cases:
        with in_case(error, in_hot_standby, is_replica, is_outdated):
            hosts, session = Hosts(), cast(Any, _Session(in_hot_standby))
            assert hosts.leads_to_replica(session, 1.0, error()) is is_replica
            assert bool(hosts.moves) is is_outdated
            # A connection that is older than the replacement says nothing about the new ones.
            hosts.drained()
            hosts.leads_to_replica(session, 1.0, error())
            assert not hosts.moves
