"""The temporary servers of the benchmarks of the data access, with TLS as in a stack."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import msgspec
import redis

from db import DataAccess
from db.migrator import apply_pending, read_source
from db.models import NewUser, User
from tests import containers
from tests.containers import Server
from tests.integration.data_access import cache_settings, database_settings

# Calls of each alternative in a round.
CALLS = 400


@dataclass(frozen=True)
class BenchServers:
    """The servers, and a user that is stored in both."""

    postgres: Server
    redis: Server
    user: User

    @property
    def database(self) -> Any:
        return database_settings(self.postgres.database_url("app_a"))

    def cache(self, near_entries: int = 0) -> Any:
        return cache_settings(self.redis.redis_url("app"), "bench", near_entries=near_entries)

    @property
    def raw_redis(self) -> str:
        return self.redis.redis_url("administrator")


@contextmanager
def bench_servers() -> Iterator[BenchServers]:
    with containers.postgres_server() as postgres, containers.redis_server(administrator=True) as cache:
        apply_pending(postgres.database_url("migrator"), read_source())
        with DataAccess(
            database_settings(postgres.database_url("app_a")), cache_settings(cache.redis_url("app"), "bench")
        ) as data:
            user = data.users.add(
                NewUser(
                    github_id=1,
                    username="made-up-ada",
                    email="ada@example.org",
                    preferences={"theme": "dark", "digest": True, "columns": ["stars", "forks", "issues"]},
                )
            )
            for n in range(2, 102):
                data.users.add(NewUser(github_id=n, username=f"made-up-{n}", preferences={"theme": "dark"}))
        yield BenchServers(postgres, cache, user)


@contextmanager
def raw_redis(servers: BenchServers) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(servers.raw_redis, driver_info=None) as client:
        client.set("raw", msgspec.msgpack.encode(servers.user))
        yield client
