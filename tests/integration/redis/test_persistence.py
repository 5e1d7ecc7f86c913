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


@pytest.fixture(scope="module", params=PERSISTENCE)
def persistence(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def server(docker_engine: None, persistence: str) -> Iterator[Server]:
    with containers.redis_server(persistence=persistence) as server:
        yield server


def write(server: Server, key: str) -> None:
    with client_of(server, "app") as app:
        assert app.set(key, f"value of {key}", ex=600)


def survived(server: Server, key: str) -> bool:
    """Return whether a value is complete and has its lifetime, or does not exist."""
    with client_of(server, "app") as app:
        value = app.get(key)
        assert value in (None, f"value of {key}".encode())
        assert value is None or 0 < app.pttl(key) <= 600_000
        return value is not None


def test_every_mode_has_a_promise() -> None:
    assert PROMISES.keys() == PERSISTENCE.keys()


@promise("Redis keeps the data across a restart as `redisPersistence` sets it")
def test_a_clean_stop_and_a_later_kill_keep_what_was_promised(server: Server, persistence: str) -> None:
    survives_stop, survives_kill = PROMISES[persistence]
    write(server, "gw:early")
    server.restart()
    assert survived(server, "gw:early") is survives_stop
    write(server, "gw:late")
    time.sleep(SETTLED_SECONDS if persistence == "aof" else 0)
    server.restart(kill=True)
    # A kill loses nothing that was saved before.
    assert survived(server, "gw:early") is survives_stop
    assert survived(server, "gw:late") is survives_kill


def test_the_settings_of_the_mode_are_in_force(server: Server, persistence: str) -> None:
    with client_of(server, "ops") as ops:
        live = ops.config_get("save") | ops.config_get("append*")
    wanted = {key: value.strip('"') for key, value in PERSISTENCE[persistence].items()}
    assert {key: live[key] for key in wanted} == wanted
