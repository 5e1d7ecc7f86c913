"""Nine faults of Redis: reads and writes are correct in bounded time, and Redis is used again afterwards."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, nullcontext
from dataclasses import replace as with_fields
from itertools import count
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import redis
import redis.asyncio
from msgspec.structs import replace
from redis import exceptions
from redis.backoff import NoBackoff
from redis.retry import Retry

from cache.breaker import Breaker
from cache.errors import CacheSettingError
from cache.keys import EntityKeys
from cache.url_source import UrlSource
from db.errors import NotFound
from db.models import USER_SCHEMA, NewUser
from tests import containers
from tests.conftest import Database
from tests.containers import Server, wait_until
from tests.faults.cache_errors import cache_errors
from tests.faults.illnesses import ILLNESSES, LOAD_DELAY, Illness, Patient, patient
from tests.integration.data_access import SHIPPED_TIMEOUT, cache_settings, data_access, database_settings
from tests.integration.redis_calls import left_alone
from tests.promises import promise

# The promise is 150 ms more on the first call, 5 ms more while the breaker is open, and 2 s until Redis is used again.
# The limits are three times that, plus the time that Postgres takes on a busy machine.
FIRST_CALL_SECONDS = 3 * 0.15 + 0.3
LATER_CALL_SECONDS = 3 * 0.005 + 0.3
RECOVERY_SECONDS = 3 * 2.0
# A pause of the machine can make one try fail. A broken promise fails all of them.
TRIES = 3
NO_RETRY: Any = Retry(NoBackoff(), 0)


@pytest.fixture(scope="module")
def sick_redis(docker_engine: None) -> Iterator[Server]:
    """A Redis for this module only, which keeps its data when restarted and loads it slowly."""
    with containers.redis_server(
        eviction_policy="noeviction",
        persistence="rdb",
        administrator=True,
        keeps_port=True,
        extra_settings=LOAD_DELAY,
    ) as server:
        yield server


@pytest.fixture
def it(illness: Illness, sick_redis: Server, tmp_path: Path) -> Patient:
    return patient(sick_redis, tmp_path, by_address=illness.by_address)


@pytest.fixture
def open_over_it(flavour: str, database: Database, it: Patient, namespace: str) -> Callable[[], Any]:
    cache = with_fields(
        # Without near cache: another process's near cache may serve a stale entry for a moment, fault or not.
        cache_settings(it.url, namespace, near_entries=0, timeout_seconds=SHIPPED_TIMEOUT),
        url=UrlSource("REDIS_URL", CacheSettingError, file=it.url_file),
    )
    return lambda: data_access(flavour, database_settings(database.url("app")), cache)


def timed(call: Callable[..., Any], *arguments: Any) -> tuple[Any, float]:
    started = time.monotonic()
    result = call(*arguments)
    return result, time.monotonic() - started


def each(illness: Illness) -> Any:
    return pytest.param(illness, id=illness.name)


@promise("reads are correct while Redis is slow, frozen, full, absent or refuses the login")
@pytest.mark.parametrize("illness", [each(illness) for illness in ILLNESSES])
def test_answers_are_correct_and_in_time_and_redis_is_used_again(
    illness: Illness, it: Patient, open_over_it: Callable[[], Any], namespace: str
) -> None:
    late = []
    for n in range(TRIES):
        late = _suffer(illness, it, open_over_it, namespace, first_id=10 * n)
        if not late:
            break
    assert late == []


def _suffer(
    illness: Illness, it: Patient, open_over_it: Callable[[], Any], namespace: str, first_id: int
) -> list[float]:
    """Run one fault until Redis is used again, and check every answer.

    Return the seconds of each call, and of the recovery, that took too long.
    """
    with open_over_it() as reader, open_over_it() as writer:
        user = reader.users.get(reader.users.add(NewUser(github_id=first_id + 1, username="before")).id)
        doomed = reader.users.get(reader.users.add(NewUser(github_id=first_id + 2, username="doomed")).id)
        assert writer.users.get(user.id) == user

        # On a busy machine a read before the fault may already have opened a breaker.
        _await_health(reader, writer)
        errors = cache_errors()
        with illness.befall(it):
            # Each of the two notices the fault on its own: one in a read, the other in a write.
            read, first_read = timed(reader.users.get, user.id)
            updated, first_write = timed(writer.users.update, replace(user, username="after"))
            assert read == user
            later = []
            lasts = illness.name in LASTING
            # A Redis that still answers may return entries that the writer could not invalidate yet.
            readers = (reader, writer) if lasts else (writer,)
            kills = it.kills
            with left_alone(clients=2) if lasts else nullcontext():
                for round_ in count(1):
                    for data in readers:
                        read, seconds = timed(data.users.get, user.id)
                        assert read == updated
                        later.append(seconds)
                    updated, seconds = timed(writer.users.update, updated)
                    later.append(seconds)
                    # On a busy machine it takes more calls until one of their connections is killed.
                    if round_ >= 5 and (it.kills > kills or illness.name not in RELAPSING):
                        break
                added, seconds = timed(writer.users.add, NewUser(github_id=first_id + 3, username="new"))
                later.append(seconds)
                _, seconds = timed(writer.users.delete, doomed.id)
                later.append(seconds)
                found, seconds = timed(writer.users.get_many, [user.id, doomed.id, added.id])
                later.append(seconds)
                assert found == [updated, None, added]
        # An idle connection that was killed is replaced before it is used, without an error.
        assert illness.name in RELAPSING or cache_errors() > errors

        # Neither of them may see what was cached before.
        recovery = _await_health(reader, writer)
        for data in (reader, writer):
            assert data.users.get(user.id) == updated
            with pytest.raises(NotFound):
                data.users.get(doomed.id)
            assert data.users.get(added.id) == added
        assert _is_cached(it, namespace, added.id)
    limit = FIRST_CALL_SECONDS if illness.name in RELAPSING else LATER_CALL_SECONDS
    taken = [
        (first_read, FIRST_CALL_SECONDS),
        (first_write, FIRST_CALL_SECONDS),
        (recovery, RECOVERY_SECONDS),
        *((seconds, limit) for seconds in later),
    ]
    return [seconds for seconds, allowed in taken if seconds >= allowed]


# Redis works between two faults, so that the breaker closes and opens again.
RELAPSING = {"killed"}
# No probe succeeds during these faults, so that the breaker stays open. Loading ends after a while; the other faults
# let Redis answer.
LASTING = {"refused", "frozen", "blackholed", "reset", "unauthenticated"}


@pytest.mark.parametrize("illness", [each(illness) for illness in ILLNESSES if illness.name in LASTING])
def test_without_a_breaker_every_read_calls_the_failing_redis(
    illness: Illness,
    it: Patient,
    open_over_it: Callable[[], Any],
    namespace: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The negative control of the breaker. Answers are still correct and in time, because Postgres gives them."""
    monkeypatch.setattr(Breaker, "trip", lambda _: False)
    with pytest.raises(AssertionError, match="times besides the probes"):
        _suffer(illness, it, open_over_it, namespace, first_id=0)


@promise("reads are correct while Redis is slow, frozen, full, absent or refuses the login", control=True)
@pytest.mark.parametrize("illness", [each(illness) for illness in ILLNESSES if illness.symptom])
def test_a_plain_client_gets_the_error_of_the_fault(illness: Illness, it: Patient) -> None:
    """Check that the fault exists, because otherwise the test above would prove nothing."""
    # A server that loads its data answers between the parts, which takes longer on a busy machine.
    seconds = 0.5 if exceptions.TimeoutError in illness.symptom else 30
    with illness.befall(it):
        client: Any = redis.Redis.from_url(
            it.url_file.read_text(),
            driver_info=None,
            socket_timeout=seconds,
            socket_connect_timeout=seconds,
            retry=NO_RETRY,
        )
        with client, pytest.raises(illness.symptom):
            client.set("gw:plain", "x")


@promise("reads are correct while Redis is slow, frozen, full, absent or refuses the login", control=True)
@pytest.mark.parametrize(
    "illness", [each(illness) for illness in ILLNESSES if illness.name in ("frozen", "blackholed")]
)
def test_a_client_with_default_settings_exceeds_the_bound(illness: Illness, it: Patient) -> None:
    """The negative control of the time limit."""
    client = redis.Redis.from_url(it.url, driver_info=None)
    client.ping()
    with illness.befall(it):
        reader = Thread(target=_get, args=[client], daemon=True)
        reader.start()
        reader.join(FIRST_CALL_SECONDS)
        is_late = reader.is_alive()
    reader.join(30)
    assert is_late


@promise("closing does not wait for a Redis that does not answer")
@pytest.mark.parametrize(
    "illness", [each(illness) for illness in ILLNESSES if illness.name in ("frozen", "blackholed")]
)
def test_closing_does_not_wait_and_raises_no_error(
    illness: Illness, it: Patient, open_over_it: Callable[[], Any]
) -> None:
    with ExitStack() as stack:
        data = stack.enter_context(open_over_it())
        user = data.users.add(NewUser(github_id=1, username="x"))
        with illness.befall(it):
            assert data.users.get(user.id) == user
            _, seconds = timed(stack.close)
    assert seconds < FIRST_CALL_SECONDS


@promise("closing does not wait for a Redis that does not answer", control=True)
@pytest.mark.parametrize("illness", [each(illness) for illness in ILLNESSES if illness.name == "frozen"])
def test_the_drivers_connection_waits_for_its_tls_close(illness: Illness, it: Patient) -> None:
    """The negative control of closing."""

    async def close() -> None:
        client = redis.asyncio.Redis.from_url(it.url, driver_info=None, socket_connect_timeout=30)
        await client.ping()
        # Closing has the time limit of connecting. Only closing should reach it.
        (connection,) = client.connection_pool._available_connections
        connection.socket_connect_timeout = 0.5
        writer = connection._writer
        try:
            with illness.befall(it):
                await client.aclose()
        finally:
            # Otherwise the socket stays open unless Redis answers before the event loop ends.
            writer.transport.abort()
            await asyncio.sleep(0.1)

    with pytest.raises(redis.TimeoutError, match="closing"):
        asyncio.run(close())


def _await_health(*accesses: Any) -> float:
    """Wait until all of them use Redis, and return the seconds that this took."""
    started = time.monotonic()
    wait_until(lambda: not any(data.cache.breaker.is_open for data in accesses), 60)
    return time.monotonic() - started


def _get(client: Any) -> None:
    try:
        client.get("gw:plain")
    except redis.RedisError:
        # Only the time counts here.
        pass


def _is_cached(it: Patient, namespace: str, user_id: int) -> bool:
    with it.administrator() as administrator:
        return bool(administrator.exists(EntityKeys(namespace, "user", USER_SCHEMA).value(user_id)))
