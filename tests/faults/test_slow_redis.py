"""A Redis whose answers are slow but each within the limit: all steps of a call share one time limit."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from typing import Any

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from cache.errors import CacheUnavailable
from db import DataAccess
from db.models import NewUser
from tests.cases import in_case
from tests.conftest import Database
from tests.containers import Server, wait_until
from tests.faults.slow_proxy import SlowProxy, slow_proxy
from tests.integration.data_access import cache_settings, data_access, database_settings
from tests.integration.redis_calls import redis_calls
from tests.promises import promise

# Twenty times the default, so that a busy machine does not matter. The handshake alone is in time: it takes one or two
# answers. With login, epoch and the command there are at least four.
TIMEOUT_SECONDS = 2.0
DELAY_SECONDS = 0.4 * TIMEOUT_SECONDS
BOUND_SECONDS = 3 * TIMEOUT_SECONDS
# The value has fifty TLS records. A TLS socket returns only whole records.
TLS_RECORD = 1 << 14
LARGE = b"x" * (50 * TLS_RECORD)


@promise("a call to Redis takes at most 0.1 s, including the connection")
def test_a_first_call_that_connects_ends_within_its_limit(
    flavour: str, database: Database, redis_server: Server, namespace: str
) -> None:
    with slow_proxy(redis_server.port) as proxy:
        url = _through(proxy, redis_server)
        cache = cache_settings(
            url, namespace, near_entries=0, timeout_seconds=TIMEOUT_SECONDS, max_connections=4
        )
        proxy.delay_seconds = DELAY_SECONDS
        with data_access(flavour, database_settings(database.url("app")), cache) as data:
            user = data.users.add(NewUser(github_id=7, username="x"))
            # ping() ignores the breaker, which the first call opens.
            started = time.monotonic()
            with pytest.raises(Exception, match="Redis"):
                data.cache.ping()
            assert time.monotonic() - started < BOUND_SECONDS
            assert data.users.get(user.id) == user


@promise("all Redis calls of a cache miss share one budget of 0.1 s")
@pytest.mark.parametrize(("ids", "bound"), [(1, 2 * TIMEOUT_SECONDS), (601, 4 * TIMEOUT_SECONDS)])
def test_the_steps_of_a_miss_share_their_time(
    flavour: str, database: Database, redis_server: Server, namespace: str, ids: int, bound: float
) -> None:
    """Each answer is in time. Without a shared budget, values, leases and fills would take three times the limit."""
    with slow_proxy(redis_server.port) as proxy:
        url = _through(proxy, redis_server)
        cache = cache_settings(url, namespace, near_entries=0, timeout_seconds=TIMEOUT_SECONDS)
        with data_access(flavour, database_settings(database.url("app")), cache) as data:
            user = data.users.add(NewUser(github_id=1, username="x"))
            absent = [10**6 + n for n in range(ids - 1)]
            proxy.delay_seconds = 0.8 * TIMEOUT_SECONDS
            started = time.monotonic()
            found = data.users.get_many([user.id, *absent]) if absent else [data.users.get(user.id)]
            assert time.monotonic() - started < bound
            assert found == [user, *(None for _ in absent)]


@promise("a call to Redis takes at most 0.1 s, including the connection")
def test_an_answer_in_pieces_ends_within_the_limit_of_a_call(
    flavour: str, redis_server: Server, namespace: str, redis_as_ops: redis.Redis
) -> None:
    """Each piece is in time, but the whole answer would take five times the limit."""
    redis_as_ops.set(key := f"gw:{namespace}:large", LARGE, px=60_000)
    with slow_proxy(redis_server.port) as proxy:
        url = _through(proxy, redis_server)
        cache = cache_settings(url, namespace, near_entries=0, timeout_seconds=TIMEOUT_SECONDS)
        with data_access(flavour, database_settings("postgresql://x@localhost:1/x"), cache) as data:
            assert data.cache.get(key) == LARGE
            proxy.piece, proxy.delay_seconds = TLS_RECORD, 0.1 * TIMEOUT_SECONDS
            started = time.monotonic()
            with pytest.raises(CacheUnavailable):
                data.cache.get(key)
            assert time.monotonic() - started < BOUND_SECONDS


@promise("a call to Redis takes at most 0.1 s, including the connection", control=True)
def test_the_plain_client_waits_for_every_piece(
    redis_server: Server, namespace: str, redis_as_ops: redis.Redis
) -> None:
    """The negative control."""
    redis_as_ops.set(key := f"gw:{namespace}:large", LARGE, px=60_000)
    with slow_proxy(redis_server.port) as proxy:
        url = _through(proxy, redis_server)
        with redis.Redis.from_url(
            url, socket_timeout=TIMEOUT_SECONDS, retry=Retry(NoBackoff(), 0), driver_info=None
        ) as client:
            client.ping()
            proxy.piece, proxy.delay_seconds = TLS_RECORD, 0.1 * TIMEOUT_SECONDS
            assert _seconds(client.get, key) > BOUND_SECONDS


@promise("all Redis calls of a cache miss share one budget of 0.1 s", control=True)
def test_each_step_of_the_plain_client_takes_the_whole_limit(redis_server: Server, namespace: str) -> None:
    """The negative control: a plain read-through cache with open connections."""
    with slow_proxy(redis_server.port) as proxy:
        url = _through(proxy, redis_server)
        with redis.Redis.from_url(
            url, socket_timeout=TIMEOUT_SECONDS, retry=Retry(NoBackoff(), 0), driver_info=None
        ) as client:
            client.ping()
            proxy.delay_seconds = 0.8 * TIMEOUT_SECONDS
            key = f"gw:{namespace}:plain"

            def read() -> None:
                if client.get(key) is None and client.set(f"{key}:lease", 1, nx=True, px=1000):
                    client.set(key, "value", px=1000)

            assert _seconds(read) > 2 * TIMEOUT_SECONDS


@promise("all cache updates of a write, or of a COMMIT, share one budget of 2 s")
def test_the_updates_after_a_write_share_their_time(
    database: Database,
    redis_server: Server,
    namespace: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each answer is in time, so the breaker stays closed. Without a shared budget, each write makes 60 calls."""
    # A batch for each record, as a delete of very many records has.
    monkeypatch.setattr("cache._sync.invalidator.KEYS_PER_TRIP", 1)
    monkeypatch.setattr("cache._sync.feeds.KEYS_PER_TRIP", 1)

    with slow_proxy(redis_server.port) as proxy:
        url = _through(proxy, redis_server)
        cache = cache_settings(url, namespace, near_entries=0, timeout_seconds=TIMEOUT_SECONDS)
        with DataAccess(database_settings(database.url("app")), cache) as data:
            users = [data.users.add(NewUser(github_id=n, username="before")) for n in range(1, 61)]

            def change_all(name: str) -> None:
                for user in users:
                    data.users.patch(user.id, username=name)

            def in_transaction() -> None:
                with data.transaction():
                    change_all("in a transaction")

            def in_transaction_with_deadline() -> None:
                with data.deadline(30.0), data.transaction():
                    change_all("with a deadline")

            ids = [user.id for user in users]
            cases: list[tuple[Callable[[], object], str | None]] = [
                (in_transaction, "in a transaction"),
                (in_transaction_with_deadline, "with a deadline"),
                (lambda: data.users.delete_many(ids), None),
            ]
            for write, name in cases:
                wait_until(lambda: not data.cache.breaker.is_open, 60)
                data.users.get_many(ids)
                proxy.delay_seconds = 0.25
                _, before = redis_calls()
                write()
                with in_case(write, name):
                    # At most 8 before the 2 s have passed, and one of the probe a second.
                    assert redis_calls()[1] - before < 20
                    # The rest is owed, so Redis is bypassed.
                    assert [user and user.username for user in data.users.get_many(ids)] == [name] * 60
                proxy.delay_seconds = 0.0
                wait_until(lambda: not data.cache.breaker.is_open, 60)
                assert [user and user.username for user in data.users.get_many(ids)] == [name] * 60


def _through(proxy: SlowProxy, server: Server) -> str:
    return server.redis_url("app").replace(f":{server.port}/", f":{proxy.port}/")


def _seconds(call: Callable[..., object], *arguments: object) -> float:
    started = time.monotonic()
    call(*arguments)
    return time.monotonic() - started


@pytest.fixture
def slow_resolver(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the resolver slower than the limit of a call."""
    resolve = socket.getaddrinfo

    def late(*arguments: Any, **options: Any) -> Any:
        time.sleep(1.2 * BOUND_SECONDS)
        return resolve(*arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", late)


@promise("a call to Redis takes at most 0.1 s, including the connection")
def test_a_name_that_is_not_resolved_is_not_waited_for(
    flavour: str, database: Database, redis_server: Server, namespace: str, request: pytest.FixtureRequest
) -> None:
    cache = cache_settings(
        redis_server.redis_url("app"), namespace, near_entries=0, timeout_seconds=TIMEOUT_SECONDS
    )
    # Postgres by address: its pool connects in the background and is not what is tested.
    settings = database_settings(database.url("app") + "&hostaddr=127.0.0.1")
    with data_access(flavour, settings, cache) as data:
        user = data.users.add(NewUser(github_id=7, username="x"))
    request.getfixturevalue("slow_resolver")
    with data_access(flavour, settings, cache) as data:
        started = time.monotonic()
        assert data.users.get(user.id) == user
        assert time.monotonic() - started < BOUND_SECONDS


@promise("a call to Redis takes at most 0.1 s, including the connection", control=True)
@pytest.mark.usefixtures("slow_resolver")
def test_the_plain_client_waits_for_the_resolver(redis_server: Server) -> None:
    """The negative control."""
    options: dict[str, Any] = {
        "socket_timeout": TIMEOUT_SECONDS,
        "socket_connect_timeout": TIMEOUT_SECONDS,
        "retry": Retry(NoBackoff(), 0),
        "driver_info": None,
    }
    with redis.Redis.from_url(redis_server.redis_url("app"), **options) as client:
        started = time.monotonic()
        client.ping()
        assert time.monotonic() - started > BOUND_SECONDS


def test_the_plain_client_gives_each_step_the_whole_time(redis_server: Server) -> None:
    """The negative control: each step is in time, but together they are late."""
    with slow_proxy(redis_server.port) as proxy:
        url = _through(proxy, redis_server)
        proxy.delay_seconds = DELAY_SECONDS
        options: dict[str, Any] = {
            "socket_timeout": TIMEOUT_SECONDS,
            "socket_connect_timeout": TIMEOUT_SECONDS,
            "retry": Retry(NoBackoff(), 0),
            "driver_info": None,
        }
        with redis.Redis.from_url(url, **options) as client:
            started = time.monotonic()
            client.ping()
            took = time.monotonic() - started
    assert took > TIMEOUT_SECONDS
