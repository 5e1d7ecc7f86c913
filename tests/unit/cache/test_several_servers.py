"""REDIS_URL with several servers, and what is known about their primary."""

from __future__ import annotations

import pytest
from redis.exceptions import ConnectionError

import cache.primary
from cache._async.client import AsyncClient
from cache._sync.client import Client
from cache.epoch import RELIANCE_SECONDS
from cache.errors import CacheSettingError
from cache.primary import Primary
from cache.settings import CacheSettings
from tests.cases import in_case
from tests.promises import promise

QUERY = "/0?ssl_ca_certs=/ca.crt"


def settings_of(servers: str) -> CacheSettings:
    return CacheSettings.from_environment({"REDIS_URL": f"rediss://app:can%2Cary@{servers}{QUERY}"})


def test_each_server_has_a_url_of_its_own() -> None:
    settings = settings_of("one:1,two,[::1]:3")
    assert settings.server_urls() == tuple(f"rediss://{host}{QUERY}" for host in ("one:1", "two", "[::1]:3"))
    assert settings.credentials() == ("app", "can,ary")


@promise("a list of servers in REDIS_URL that is incomplete, or names a server twice, is refused")
def test_a_wrong_list_is_refused() -> None:
    cases: list[tuple[str, str]] = [
        ("one:1,", "is not a connection string"),
        (",one:1", "is not a connection string"),
        ("one:1,:2", "is not a connection string"),
        ("one:1,two:0", "is not a connection string"),
        ("one:1,two:65536", "is not a connection string"),
        ("one:1,two:x", "is not a connection string"),
        ("one:1,two:2,one:1", "lists a server twice"),
        ("one,two,ONE:6379", "lists a server twice"),
    ]
    for servers, reason in cases:
        with in_case(servers, reason):
            for make in (AsyncClient, Client):
                with pytest.raises(CacheSettingError, match=reason) as caught:
                    make(settings_of(servers))
                assert "can,ary" not in str(caught.value)


def test_a_client_of_several_servers_starts_without_redis() -> None:
    assert Client(settings_of("one,two")).breaker.is_open
    assert not Client(settings_of("one")).breaker.is_open


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(cache.primary, "monotonic", clock)
    return clock


def test_a_single_server_is_the_primary() -> None:
    primary = Primary(["one"])
    assert (primary.is_searched, primary.index, primary.require()) == (False, 0, 0)
    primary.require_same(b"any")


def test_no_primary_is_known_before_the_first_search() -> None:
    primary = Primary(["one", "two"])
    assert primary.index is None
    with pytest.raises(ConnectionError):
        primary.require()


def test_a_new_primary_is_left_alone_for_as_long_as_others_rely_on_the_former_one(clock: Clock) -> None:
    primary = Primary(["one", "two", "three"])
    assert primary.found(1, b"a") == RELIANCE_SECONDS
    clock.now += 1
    assert primary.found(1, b"a") == RELIANCE_SECONDS - 1
    clock.now += 10
    assert primary.found(1, b"a") == 0
    # A restart of the same server, or another server.
    assert primary.found(1, b"b") == RELIANCE_SECONDS
    assert primary.found(2, b"c") == RELIANCE_SECONDS


def test_the_search_begins_with_the_last_known_primary(clock: Clock) -> None:
    primary = Primary(["one", "two", "three"])
    assert primary.order() == [0, 1, 2]
    primary.found(2, b"a")
    assert primary.order() == [2, 0, 1]
    # It may be frozen.
    primary.missing(["", "", "timed out"])
    assert primary.order() == [0, 1, 2]
    primary.found(1, b"b")
    assert primary.order() == [1, 0, 2]


def test_another_run_id_is_not_the_known_primary(clock: Clock) -> None:
    primary = Primary(["one", "two"])
    primary.found(0, b"a")
    primary.require_same(b"a")
    with pytest.raises(ConnectionError):
        primary.require_same(b"b")


def test_a_missing_primary_is_logged_once(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "groundwork.cache")
    primary = Primary(["one:1", "two:2"])
    for _ in range(3):
        primary.missing(["refused", "READONLY"])
    primary.found(0, b"a")
    primary.missing(["refused", "READONLY"])
    lost = "no server of REDIS_URL is a primary that accepts writes: one:1: refused; two:2: READONLY"
    assert [record.message for record in caplog.records] == [lost, "Redis at one:1 is the primary", lost]
