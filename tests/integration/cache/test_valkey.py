"""The cache with Valkey instead of Redis. $REDIS_ENGINE chooses the engine of all tests."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from msgspec.structs import replace

from db import DataAccess
from db.models import NewUser
from infra.spec.checkout import Checkout
from ops.servers.redis_primary import client_of, version_of
from tests import containers
from tests.conftest import Database
from tests.containers import Server, wait_until
from tests.integration.data_access import cache_settings, database_settings, wait_until_near
from tests.promises import promise
from tests.scale import IS_FULL

TESTS = (
    "tests/integration/cache",
    "tests/integration/cache_operations",
    "tests/integration/doctor",
    "tests/integration/redis",
    "tests/integration/top",
    # Not the preparation of a container for its replacement: the containers of a stack never run Valkey.
    *("tests/faults/redis_replicas", "--ignore=tests/faults/redis_replicas/test_drain.py"),
    "tests/faults/test_racing_feeds.py",
)
# These measure durations, so they run one by one.
MEASURING = ("tests/faults/test_ill_redis.py", "tests/faults/test_stampede.py")


@pytest.fixture(scope="module")
def valkey(docker_engine: None) -> Iterator[Server]:
    with containers.redis_server(engine="valkey") as server:
        yield server


@promise("the cache works with Valkey as with Redis")
def test_with_valkey_a_write_invalidates_the_near_cache_of_another_process(
    valkey: Server, database: Database, namespace: str
) -> None:
    """This needs scripts, CLIENT TRACKING, INFO, and the permissions of user app."""
    settings = database_settings(database.url("app")), cache_settings(valkey.redis_url("app"), namespace)
    with ExitStack() as stack:
        here, elsewhere = (stack.enter_context(DataAccess(*settings)) for _ in range(2))
        user = here.users.add(NewUser(github_id=7, username="ada"))
        wait_until_near(here, user.id)
        updated = elsewhere.users.update(replace(user, username="countess"))
        wait_until(lambda: here.users.get(user.id) == updated)


def test_commands_show_the_version_of_valkey(valkey: Server) -> None:
    with client_of(valkey.redis_url("monitor")) as client:
        assert version_of(client.info("server")).endswith(" (Valkey)")


@promise("the cache works with Valkey as with Redis")
@pytest.mark.timeout(3600)
@pytest.mark.skipif(not IS_FULL, reason="runs every test of the cache again")
@pytest.mark.parametrize(
    "arguments",
    [pytest.param(("--numprocesses=2", *TESTS), id="all"), pytest.param(MEASURING, id="measuring")],
)
def test_the_tests_of_the_cache_pass_with_valkey(docker_engine: None, arguments: tuple[str, ...]) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "SCALE"}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--quiet", *arguments],
        cwd=Checkout.here().root,
        env=environment | {"REDIS_ENGINE": "valkey"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-5000:]
