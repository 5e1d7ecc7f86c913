"""A stack of test servers for doctor, and servers that its tests may break."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from db.migrator import apply_pending, read_source
from infra.spec import roles
from ops.servers.monitored_stack import MonitoredStack
from tests import containers
from tests.conftest import Database
from tests.containers import Server
from tests.integration.doctor.asking import Ask, ask
from tests.monitored import monitored


@pytest.fixture(scope="package")
def ill_postgres(docker_engine: None) -> Iterator[Server]:
    """A Postgres for tests that change the whole server. Each test undoes its changes."""
    with containers.postgres_server() as server:
        apply_pending(server.database_url("migrator"), read_source())
        yield server


@pytest.fixture(scope="package")
def ill_redis(docker_engine: None) -> Iterator[Server]:
    """A Redis with an administrator, a user that is not in the specification."""
    with containers.redis_server(administrator=True) as server:
        yield server


@pytest.fixture
def stack(database: Database, redis_server: Server) -> MonitoredStack:
    return monitored(database, redis_server)


@pytest.fixture
def ill_stack(ill_postgres: Server, ill_redis: Server) -> MonitoredStack:
    return monitored(Database(ill_postgres, roles.DATABASE), ill_redis)


@pytest.fixture
def asked(stack: MonitoredStack) -> Ask:
    return lambda name, **terms: ask(stack, name, **terms)


@pytest.fixture
def asked_ill(ill_stack: MonitoredStack) -> Ask:
    return lambda name, **terms: ask(ill_stack, name, **terms)
