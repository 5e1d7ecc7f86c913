"""Compare the data access with raw drivers and similar libraries, on temporary servers with TLS, as in a stack.

The others are redis-py, psycopg, asyncpg, SQLAlchemy, cashews, aiocache and psql. The value is a user
of about 200 bytes.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import aiocache
import asyncpg
import msgspec
import psycopg
import redis
import redis.asyncio
import sqlalchemy as sa
from cashews import Cache
from sqlalchemy import orm

from db import AsyncDataAccess, DataAccess
from db.migrator import apply_pending, read_source
from db.models import NewActivity, NewUser, User
from db.named_query import queries
from db.paging import encode_cursor
from infra.docker.engine import docker
from infra.spec import roles
from tests import containers
from tests.bench.archive import measure_import
from tests.bench.orm_user import OrmUser
from tests.bench.result import Result
from tests.bench.turns import Turns, seconds, take_async_turns, take_turns
from tests.containers import Server
from tests.integration.data_access import cache_settings, database_settings

FULL = os.environ.get("SCALE") == "full"
FEED_ROWS = 10_000_000 if FULL else 400_000
FEED_PART = 400_000
PAGE_ITEMS = 20
DEEP_PAGE = 10_000
COPIED_ROWS = 40_000
COPY_ROUNDS = 7
IMPORTED_EVENTS = 200_000 if FULL else 20_000
_CALLS = 400
_decode_user = msgspec.msgpack.Decoder(User).decode


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
def _servers() -> Iterator[BenchServers]:
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


def measure() -> list[Result]:
    """Return the data access's part of the table."""
    with _servers() as servers:
        return [
            *_near(servers),
            *asyncio.run(_near_async(servers)),
            *_redis(servers),
            *asyncio.run(_redis_async(servers)),
            *_database(servers),
            *asyncio.run(_database_async(servers)),
            *_bulk(servers),
            *_feed(servers),
            *measure_import(servers.postgres.database_url("app_a"), events=IMPORTED_EVENTS),
        ]


def _near(servers: BenchServers) -> list[Result]:
    with DataAccess(servers.database, servers.cache(1000)) as data, _raw_redis(servers) as raw:
        _settle(lambda: data.users.get(servers.user.id))
        turns = _near_turns(lambda: data.users.get(servers.user.id), lambda: raw.get("raw"))
    return [
        Result("near-cache hit, sync", [each * 1e6 for each in turns.ours], "us", at_most=3),
        Result("near-cache hit, times faster than redis-py GET", turns.speedups(), "x", at_least=50),
    ]


async def _near_async(servers: BenchServers) -> list[Result]:
    async with AsyncDataAccess(servers.database, servers.cache(1000)) as data:
        for _ in range(10):
            await data.users.get(servers.user.id)
            await asyncio.sleep(0.1)
        ours = []
        for _ in range(7):
            started = time.perf_counter()
            for _ in range(20_000):
                await data.users.get(servers.user.id)
            ours.append((time.perf_counter() - started) / 20_000 * 1e6)
            await asyncio.sleep(0.05)
    return [Result("near-cache hit, async", ours, "us", at_most=5)]


def _near_turns(ours: Any, theirs: Any) -> Turns:
    """Measure in turns, with more calls of the faster side."""
    turns = Turns([], [])
    for _ in range(7):
        turns.ours.append(seconds(ours, 20_000))
        turns.theirs.append(seconds(theirs, _CALLS))
    return turns


def _redis(servers: BenchServers) -> list[Result]:
    with DataAccess(servers.database, servers.cache()) as data, _raw_redis(servers) as raw:
        ids = [user.id for user in data.users.list(limit=101).items][:100]
        data.users.get(servers.user.id)
        data.users.get_many(ids)
        data.users.get_many(ids)
        hit = take_turns(
            lambda: data.users.get(servers.user.id),
            lambda: _decode_user(raw.get("raw")),
            _CALLS,  # type: ignore[arg-type]
        )
        names = [f"raw{n}" for n in range(100)]
        raw.mset(dict.fromkeys(names, msgspec.msgpack.encode(servers.user)))
        many = take_turns(
            lambda: data.users.get_many(ids),
            lambda: [_decode_user(value) for value in raw.mget(names)],  # type: ignore[union-attr]
            _CALLS // 4,
        )
    return [
        Result("Redis hit / redis-py GET + decode, sync", hit.ratios(), "x", at_most=1.15),
        Result("get_many(100) / redis-py MGET + decode", many.ratios(), "x", at_most=1.3),
    ]


async def _redis_async(servers: BenchServers) -> list[Result]:
    raw = redis.asyncio.Redis.from_url(servers.raw_redis, driver_info=None)
    results = []
    async with AsyncDataAccess(servers.database, servers.cache()) as data, raw:
        await data.users.get(servers.user.id)

        async def ours() -> object:
            return await data.users.get(servers.user.id)

        async def theirs() -> object:
            return _decode_user(await raw.get("raw"))  # type: ignore[arg-type]

        turns = await take_async_turns(ours, theirs, _CALLS)
        results.append(Result("Redis hit / redis-py GET + decode, async", turns.ratios(), "x", at_most=1.15))
        cashews = Cache()
        cashews.setup(f"{servers.raw_redis}&driver_info=", client_side=False)
        for name, read in (
            ("cashews", await _cashews(servers, cashews)),
            ("aiocache", await _aiocache(servers, raw)),
        ):
            turns = await take_async_turns(ours, read, _CALLS)
            results.append(Result(f"Redis hit, times faster than {name}, async", turns.speedups(), "x"))
        await cashews.close()
    return results


async def _cashews(servers: BenchServers, cache: Cache) -> Any:
    await cache.set("cashews", servers.user)

    async def read() -> object:
        return await cache.get("cashews")

    assert await read() == servers.user
    return read


async def _aiocache(servers: BenchServers, raw: Any) -> Any:
    from aiocache.serializers import PickleSerializer

    address = raw.connection_pool.connection_kwargs
    assert address
    cache = aiocache.RedisCache(serializer=PickleSerializer(), endpoint="unused")
    # Its settings do not support TLS. Its client is redis-py's, so it gets one with TLS.
    cache.client = redis.asyncio.Redis.from_url(servers.raw_redis, driver_info=None)
    await cache.set("aiocache", servers.user)

    async def read() -> object:
        return await cache.get("aiocache")

    assert await read() == servers.user
    return read


def _database(servers: BenchServers) -> list[Result]:
    query = queries("users")["find_user_by_github_id"]
    parameters = {"github_id": servers.user.github_id}
    engine = sa.create_engine(
        "postgresql+psycopg://", creator=lambda: psycopg.connect(servers.postgres.database_url("app_a"))
    )
    with (
        DataAccess(servers.database, servers.cache()) as data,
        psycopg.connect(servers.postgres.database_url("app_a"), autocommit=True) as raw,
    ):

        def read_raw() -> object:
            return raw.execute(query.sql, parameters, prepare=True).fetchone()

        def read_orm() -> object:
            with orm.Session(engine) as session:
                return session.get(OrmUser, servers.user.id)

        def read() -> object:
            return data.users.find_by_github_id(1)

        assert read() == servers.user
        beside_driver = take_turns(read, read_raw, _CALLS)
        beside_orm = take_turns(read, read_orm, _CALLS // 2)
    engine.dispose()
    return [
        Result("read by id past the cache / prepared psycopg", beside_driver.ratios(), "x", at_most=1.3),
        Result(
            "read by id, times faster than SQLAlchemy's Session.get", beside_orm.speedups(), "x", at_least=3
        ),
    ]


async def _database_async(servers: BenchServers) -> list[Result]:
    context = ssl.create_default_context(cafile=str(servers.postgres.ca_file))
    pool = await asyncpg.create_pool(
        host="localhost", port=servers.postgres.port, user="app_a", database=roles.DATABASE,
        password=servers.postgres.passwords["app_a"], ssl=context, min_size=1, max_size=8,
    )  # fmt: skip
    sql = queries("users")["find_user_by_github_id"].sql.decode().replace("%(github_id)s", "$1")
    async with AsyncDataAccess(servers.database, servers.cache()) as data, pool:

        async def ours() -> object:
            return await data.users.find_by_github_id(1)

        async def theirs() -> object:
            return await pool.fetchrow(sql, 1)

        turns = await take_async_turns(ours, theirs, _CALLS)
    return [Result("read by id / asyncpg's pool.fetchrow, async", turns.ratios(), "x", at_most=1)]


def _bulk(servers: BenchServers) -> list[Result]:
    now = datetime.now(UTC)
    rows = [
        NewActivity(
            user_id=n % 100 + 1, type="PushEvent", timestamp=now - timedelta(seconds=n), github_event_id=n,
            data={"size": n % 7, "message": f"made up {n}", "public": True},
        )
        for n in range(1, COPIED_ROWS + 1)
    ]  # fmt: skip
    with DataAccess(servers.database, servers.cache()) as data:
        data.activities.copy_in(rows)
        psql = _Psql(servers)
        ours, theirs = [], []
        for _ in range(COPY_ROUNDS + 1):
            for times, load in (
                (ours, lambda: seconds(lambda: data.activities.copy_in(rows), 1)),
                (theirs, psql.copy_seconds),
            ):
                servers.postgres.psql(
                    f"TRUNCATE {roles.SCHEMA}.activities, {roles.SCHEMA}.cache_outbox", roles.DATABASE
                )
                times.append(load())
    speeds = [theirs_ / mine for mine, theirs_ in zip(ours[1:], theirs[1:], strict=True)]
    rate = COPIED_ROWS / min(ours)
    return [
        Result(
            "copy_in of activities, speed beside psql's \\copy",
            speeds,
            "x",
            at_least=1,
            note=f"{rate:,.0f} rows/s",
        )
    ]


class _Psql:
    """psql with the same login, TLS and published port as the data access.

    psql itself reports the duration of \\copy, so that the start of psql and its container does not count.
    """

    def __init__(self, servers: BenchServers) -> None:
        """Take the rows of the table. `\\copy` will load them in text format, which is its default."""
        self._servers = servers
        table = (
            queries("activities")["copy_activities"].sql.decode().removeprefix("COPY ").partition(" FROM ")[0]
        )
        self._copy = f"\\copy {table} FROM '/bench/rows'"
        columns = table.partition("(")[2].removesuffix(")")
        with psycopg.connect(servers.postgres.database_url("app_a"), autocommit=True) as connection:
            with connection.cursor().copy(f"COPY (SELECT {columns} FROM activities) TO STDOUT") as copy:
                self._rows = b"".join(copy)

    def copy_seconds(self) -> float:
        server = self._servers.postgres
        url = server.database_url("app_a").replace(str(server.ca_file), "/bench/ca.pem")
        with TemporaryDirectory() as folder:
            shutil.copy(server.ca_file, Path(folder, "ca.pem"))
            Path(folder, "rows").write_bytes(self._rows)
            Path(folder).chmod(0o755)
            printed = docker(
                "run", "--rm", "--init", "--network=host", "--user=postgres", f"--volume={folder}:/bench:ro",
                "--entrypoint=psql", containers.build_image("postgres"),
                "--no-psqlrc", f"--dbname={url}", "--command=\\timing on", f"--command={self._copy}",
            )  # fmt: skip
        found = re.search(r"^Time: ([\d.]+) ms", printed, re.MULTILINE)
        assert found, printed
        assert f"COPY {COPIED_ROWS}" in printed, printed
        return float(found[1]) / 1000


def _feed(servers: BenchServers) -> list[Result]:
    _fill_feed(servers)
    with DataAccess(servers.database, servers.cache()) as data:
        activities = data.activities
        place = _place(servers, min(DEEP_PAGE * PAGE_ITEMS, FEED_ROWS - 1000))
        cursor = encode_cursor("feed of user 1", place)

        def page(after: str | None) -> Any:
            # Bypasses the cache, because the bar is about the database.
            return activities._feed("feed of user 1", "list_user_feed", {"user_id": 1}, PAGE_ITEMS, after)

        assert len(page(cursor).items) == PAGE_ITEMS
        turns = take_turns(lambda: page(cursor), lambda: page(None), _CALLS // 2)
    note = f"{FEED_ROWS:,} rows" + ("" if FULL else "; 10 M with SCALE=full")
    return [Result(f"feed, page {DEEP_PAGE:,} / page 1", turns.ratios(), "x", at_most=1.2, note=note)]


def _fill_feed(servers: BenchServers) -> None:
    # In parts, because ten million rows in one statement exceed the time limit of a command in a container.
    parts = [(start + 1, min(start + FEED_PART, FEED_ROWS)) for start in range(0, FEED_ROWS, FEED_PART)]
    for sql in (
        f"TRUNCATE {roles.SCHEMA}.activities",
        f"SELECT {roles.SCHEMA}.make_activity_partitions(now() - interval '13 months', now())",
        *(
            f"SET session_replication_role = replica; INSERT INTO {roles.SCHEMA}.activities (user_id, type, timestamp)"
            f" SELECT 1, 'PushEvent', now() - n * (interval '1 year' / {FEED_ROWS})"
            f" FROM generate_series({first}, {last}) n"
            for first, last in parts
        ),
        f"VACUUM ANALYZE {roles.SCHEMA}.activities",
    ):
        servers.postgres.psql(sql, roles.DATABASE)


def _place(servers: BenchServers, offset: int) -> tuple[int, int]:
    """Return the key of the feed's row at an offset: microseconds since 1970, and id."""
    found = servers.postgres.psql(
        f"SELECT (extract(epoch FROM timestamp) * 1000000)::bigint || ' ' || id FROM {roles.SCHEMA}.activities"
        f" WHERE user_id = 1 ORDER BY timestamp DESC, id DESC OFFSET {offset} LIMIT 1",
        roles.DATABASE,
    )
    at, identity = found.split()
    return int(at), int(identity)


def _settle(read: Any) -> None:
    """Read until the near cache keeps the record, because Redis reports the first fill as a change."""
    for _ in range(10):
        read()
        time.sleep(0.1)


@contextmanager
def _raw_redis(servers: BenchServers) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(servers.raw_redis, driver_info=None) as client:
        client.set("raw", msgspec.msgpack.encode(servers.user))
        yield client
