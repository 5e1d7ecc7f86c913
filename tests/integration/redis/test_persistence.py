"""The data that Redis keeps across a restart, for each persistence mode, after a clean stop and after a kill."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from infra.spec.redis import PERSISTENCE
from tests import containers
from tests.containers import Server
from tests.integration.redis.conftest import client_of
from tests.promises import promise

# With appendfsync everysec, writes older than a second are on disk.
SETTLED_SECONDS = 1.5
# Mode to whether it keeps data across a clean stop, and across a kill without an earlier snapshot.
PROMISES = {"none": (False, False), "rdb": (True, False), "aof": (True, True)}
KEEPING = [mode for mode, (clean, _) in PROMISES.items() if clean]


@pytest.fixture(scope="module", params=PERSISTENCE)
def persistence(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def server(docker_engine: None, persistence: str) -> Iterator[Server]:
    with containers.redis_server(persistence=persistence) as server:
        yield server


def write(server: Server, *keys: str) -> None:
    with client_of(server, "app") as app:
        for key in keys:
            assert app.set(key, f"value of {key}")


def read(server: Server, key: str) -> str | None:
    with client_of(server, "app") as app:
        value = app.get(key)
        return None if value is None else str(value.decode())


def survives(server: Server, key: str, persistence: str, *, kill: bool) -> bool:
    write(server, key)
    time.sleep(SETTLED_SECONDS if kill and persistence == "aof" else 0)
    server.restart(kill=kill)
    value = read(server, key)
    # Complete or missing.
    assert value in (None, f"value of {key}")
    return value is not None


def test_every_mode_has_a_promise() -> None:
    assert PROMISES.keys() == PERSISTENCE.keys()


@promise("Redis keeps the data across a restart as `redisPersistence` sets it")
def test_a_clean_stop_keeps_what_was_promised(server: Server, persistence: str) -> None:
    assert survives(server, "gw:clean", persistence, kill=False) is PROMISES[persistence][0]


@promise("Redis keeps the data across a restart as `redisPersistence` sets it")
def test_a_kill_keeps_what_was_promised(server: Server, persistence: str) -> None:
    assert survives(server, "gw:kill", persistence, kill=True) is PROMISES[persistence][1]


@pytest.mark.parametrize("persistence", KEEPING, indirect=True, scope="module")
def test_a_kill_loses_nothing_that_was_saved_before(server: Server, persistence: str) -> None:
    write(server, "gw:early")
    server.restart()
    write(server, "gw:late")
    time.sleep(SETTLED_SECONDS)
    server.restart(kill=True)
    assert read(server, "gw:early") is not None
    assert (read(server, "gw:late") is not None) is PROMISES[persistence][1]


@pytest.mark.parametrize("persistence", KEEPING, indirect=True, scope="module")
def test_a_ttl_continues_across_a_restart(server: Server, persistence: str) -> None:
    with client_of(server, "app") as app:
        app.set("gw:ttl", "1", ex=600)
    server.restart()
    with client_of(server, "app") as app:
        assert 0 < app.pttl("gw:ttl") <= 600_000


def test_the_settings_of_the_mode_are_in_force(server: Server, persistence: str) -> None:
    with client_of(server, "ops") as ops:
        live = ops.config_get("save") | ops.config_get("append*")
    wanted = {key: value.strip('"') for key, value in PERSISTENCE[persistence].items()}
    assert {key: live[key] for key in wanted} == wanted
