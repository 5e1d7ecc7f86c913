"""One Prometheus per session, which scrapes servers, an access service and a running application."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from db.migrator import apply_pending, read_source
from infra.spec.roles import DATABASE
from tests import containers
from tests.conftest import Database
from tests.containers import Server
from tests.integration.monitoring.application import NAMESPACE
from tests.integration.monitoring.measured import Prometheus, free_port, measured
from tests.integration.serve.service import running_service

ROOT = Path(__file__).parents[3]


@dataclass(frozen=True)
class Scene:
    """The parts that Prometheus scrapes."""

    prometheus: Prometheus
    database: str
    postgres: Server
    redis: Server
    application: subprocess.Popen[bytes]


@pytest.fixture(scope="package")
def own_postgres(docker_engine: None) -> Iterator[Server]:
    """A migrated Postgres for this package only, because tests stop it."""
    with containers.postgres_server(keeps_port=True) as server:
        apply_pending(server.database_url("migrator"), read_source())
        yield server


@pytest.fixture(scope="package")
def own_redis(docker_engine: None) -> Iterator[Server]:
    """A Redis for this package only, because tests stop it. Without eviction, because rules name that policy."""
    with containers.redis_server(eviction_policy="noeviction", keeps_port=True) as server:
        yield server


@pytest.fixture(scope="package")
def scene(own_postgres: Server, own_redis: Server) -> Iterator[Scene]:
    port = free_port()
    environment = {
        "DATABASE_URL": Database(own_postgres, DATABASE).url("app"),
        "GROUNDWORK_CACHE_NAMESPACE": NAMESPACE,
    }
    urls = {
        "WELL_REDIS_URL": own_redis.redis_url("app"),
        "ILL_REDIS_URL": own_redis.redis_url("app").replace(f":{own_redis.port}/", f":{free_port()}/"),
        "OPS_REDIS_URL": own_redis.redis_url("ops"),
    }
    with (
        running_service(**environment, REDIS_URL=own_redis.redis_url("app")) as service,
        _application(port, environment | urls) as application,
        measured(
            own_postgres, DATABASE, own_redis, {"access": service.port, "application": port}
        ) as prometheus,
    ):
        yield Scene(prometheus, DATABASE, own_postgres, own_redis, application)


@contextmanager
def _application(port: int, environment: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.integration.monitoring.application", str(port)],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)} | environment,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
