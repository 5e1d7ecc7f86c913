"""A rotation of role monitor must replace the exporters, because one of them reads its password only at start."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest
import redis

from infra.docker.engine import File, docker, write_files
from infra.monitoring import configuration
from infra.spec import roles
from infra.spec.monitoring import POSTGRES_EXPORTER, REDIS_EXPORTER, UIDS
from tests import containers
from tests.containers import Server, build_image, wait_until
from tests.integration.monitoring.measured import free_port, postgres_exporter, redis_exporter, scrape
from tests.promises import promise


@pytest.fixture
def own_servers(docker_engine: None) -> Iterator[tuple[Server, Server]]:
    """Postgres and Redis whose passwords may be changed."""
    with containers.postgres_server() as postgres, containers.redis_server(administrator=True) as cache:
        yield postgres, cache


def is_up(port: int, metric: str) -> bool:
    return f"\n{metric} 1\n" in scrape(port)


@promise("the exporters switch to a new password without an alert")
def test_the_postgres_exporter_reloads_a_new_password_and_the_redis_exporter_needs_a_restart(
    own_servers: tuple[Server, Server],
) -> None:
    postgres, cache = own_servers
    image = build_image("monitoring")
    ports = {POSTGRES_EXPORTER: free_port(), REDIS_EXPORTER: free_port()}
    login = roles.login_of("monitor", 1)
    with ExitStack() as stack:
        of_postgres = postgres_exporter(stack, image, ports[POSTGRES_EXPORTER], postgres, roles.DATABASE)
        of_redis = redis_exporter(stack, image, ports[REDIS_EXPORTER], cache)
        wait_until(lambda: is_up(ports[POSTGRES_EXPORTER], "pg_up"), 90)
        wait_until(lambda: is_up(ports[REDIS_EXPORTER], "redis_up"), 90)

        postgres.psql(
            f"ALTER ROLE {login} PASSWORD 'new';"
            f" SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{login}'"
        )
        with redis.Redis.from_url(cache.redis_url("administrator"), driver_info=None) as administrator:
            administrator.execute_command("ACL", "SETUSER", "monitor", "resetpass", ">new")
        # The control: both use the old password and cannot log in.
        wait_until(lambda: not is_up(ports[POSTGRES_EXPORTER], "pg_up"), 90)
        wait_until(lambda: not is_up(ports[REDIS_EXPORTER], "redis_up"), 90)

        files = {
            of_postgres: ("pgpass", configuration.pgpass({login: "new"}), UIDS[POSTGRES_EXPORTER]),
            of_redis: (
                "redis_passwords.json",
                configuration.redis_passwords([configuration.redis_address("localhost", cache.port)], "new"),
                UIDS[REDIS_EXPORTER],
            ),
        }
        for container, (name, text, uid) in files.items():
            write_files(container, image, {name: File(text, uid, uid)})
        wait_until(lambda: is_up(ports[POSTGRES_EXPORTER], "pg_up"), 90)
        assert not is_up(ports[REDIS_EXPORTER], "redis_up")
        docker("restart", of_redis)
        wait_until(lambda: is_up(ports[REDIS_EXPORTER], "redis_up"), 90)
