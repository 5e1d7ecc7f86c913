"""A server whose container gets less memory than its data need."""

from __future__ import annotations

from typing import Any

import pytest

from infra.docker.engine import File, copy_files, docker, inspect
from infra.docker.redis_drain import shrink
from infra.spec import redis, redis_acl
from tests import containers
from tests.containers import Server, wait_until
from tests.integration.redis.conftest import client_of
from tests.scale import IS_FULL

MB = 1024**2


def _resize(server: Server, memory: str) -> None:
    docker("stop", server.container)
    docker("update", f"--memory={memory}", f"--memory-swap={memory}", server.container)


def _state(server: Server) -> dict[str, Any]:
    (found,) = inspect("container", server.container)
    return dict(found["State"])


@pytest.mark.parametrize("persistence", ["aof", "rdb"] if IS_FULL else ["aof"])
def test_a_server_starts_with_less_memory_after_its_data_were_reduced(
    docker_engine: None, persistence: str
) -> None:
    with containers.redis_server(maxmemory=150 * MB, memory="256m", persistence=persistence) as server:
        with client_of(server, "app") as app:
            for n in range(100):
                app.set(f"gw:{n}", "x" * MB)
        # Control: not reduced, the data kill each server that loads them.
        _resize(server, "64m")
        docker("start", server.container)
        wait_until(lambda: not _state(server)["Running"], 180)
        assert _state(server)["OOMKilled"]
        _resize(server, "256m")
        server.restart()

        passwords = {
            f"{user.name}.password": File(server.passwords[user.name], redis.UID, redis.GID)
            for user in (redis_acl.MONITOR, redis_acl.ROTATOR)
        }
        copy_files(server.container, redis.CONFIG_DIR, passwords)
        name = f"{server.container}-redis"
        docker("rename", server.container, name)
        try:
            shrink(name, 40 * MB, "allkeys-lfu")
        finally:
            docker("rename", name, server.container)
        _resize(server, "64m")
        server.restart()
        with client_of(server, "app") as app:
            assert 20 <= app.exists(*(f"gw:{n}" for n in range(100))) <= 40
