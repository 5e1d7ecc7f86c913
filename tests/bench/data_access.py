"""Compare the data access with raw drivers and similar libraries, on temporary servers with TLS, as in a stack.

The others are redis-py, psycopg, asyncpg, SQLAlchemy, cashews, aiocache and psql. The value is a user
of about 200 bytes.
"""

from __future__ import annotations

import asyncio
import os
import ssl
import time
from statistics import median
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
from db.models import NewUser, User
from db.named_query import queries
from infra.spec import roles
from tests.bench.activities import measure_cached_page, measure_copy, measure_deep_page
from tests.bench.archive import measure_import
from tests.bench.orm_user import OrmUser
from tests.bench.replicas import measure_replicas
from tests.bench.result import Result
from tests.bench.servers import CALLS, BenchServers, bench_servers, raw_redis
from tests.bench.turns import ROUNDS, SHORT_RUN, Turns, async_seconds, seconds, take_async_turns, take_turns

FULL = os.environ.get("SCALE") == "full"
IMPORTED_EVENTS = 100_000 if FULL else 40_000
# Calls in a run, and runs in a round, of hits in the near cache.
_NEAR_RUN = 500
_RUNS = 40
_decode_user = msgspec.msgpack.Decoder(User).decode
# Dictionaries and lists in others, so that a copy of the outer ones is not enough.
_NESTED_PREFERENCES = {
    "theme": "dark",
    "editor": {"font": {"name": "mono", "size": 12}, "tabs": [{"name": "a", "open": True}, {"name": "b"}]},
    "columns": ["stars", "forks"],
}


def measure() -> list[Result]:
    """Return the data access's part of the table."""
    with bench_servers() as servers:
        return [
            *_near(servers),
            *asyncio.run(_near_async(servers)),
            *_redis(servers),
            *measure_cached_page(servers),
            *asyncio.run(_redis_async(servers)),
            *_database(servers),
            *asyncio.run(_database_async(servers)),
            *measure_replicas(),
            *measure_copy(servers),
            *measure_deep_page(servers),
            *measure_import(servers.postgres, events=IMPORTED_EVENTS),
        ]


def _near(servers: BenchServers) -> list[Result]:
    with DataAccess(servers.database, servers.cache(1000)) as data, raw_redis(servers) as raw:
        settle(lambda: data.users.get(servers.user.id))
        turns = _near_turns(lambda: data.users.get(servers.user.id), lambda: raw.get("raw"))
        nested = data.users.add(
            NewUser(github_id=1000, username="made-up-bea", preferences=_NESTED_PREFERENCES)
        )
        settle(lambda: data.users.get(nested.id))
        nested_turns = _near_turns(lambda: data.users.get(nested.id), lambda: raw.get("raw"))
        data.users.delete(nested.id)
    return [
        Result("near-cache hit, sync", [each * 1e6 for each in turns.ours], "us", at_most=1),
        Result(
            "near-cache hit with nested preferences, sync",
            [each * 1e6 for each in nested_turns.ours],
            "us",
            at_most=1.5,
        ),
        Result("near-cache hit, times faster than redis-py GET", turns.speedups(), "x", at_least=50),
    ]


async def _near_async(servers: BenchServers) -> list[Result]:
    async with AsyncDataAccess(servers.database, servers.cache(1000)) as data:
        for _ in range(10):
            await data.users.get(servers.user.id)
            await asyncio.sleep(0.1)
        ours = []
        for _ in range(ROUNDS):
            runs = [
                await async_seconds(lambda: data.users.get(servers.user.id), _NEAR_RUN) for _ in range(_RUNS)
            ]
            ours.append(median(runs) * 1e6)
            # Gives the near cache's connection time to confirm that it is current.
            await asyncio.sleep(0.05)
    return [Result("near-cache hit, async", ours, "us", at_most=5)]


def _near_turns(ours: Any, theirs: Any) -> Turns:
    """Measure in turns, with more calls of the faster side.

    A run is short, so that other work of the machine interrupts few of them.
    """
    turns = Turns([], [])
    for _ in range(ROUNDS):
        turns.ours.append(median(seconds(ours, _NEAR_RUN) for _ in range(_RUNS)))
        turns.theirs.append(median(seconds(theirs, CALLS // _RUNS) for _ in range(_RUNS)))
    return turns


def _redis(servers: BenchServers) -> list[Result]:
    with DataAccess(servers.database, servers.cache()) as data, raw_redis(servers) as raw:
        ids = [user.id for user in data.users.list(limit=101).items][:100]
        data.users.get(servers.user.id)
        data.users.get_many(ids)
        data.users.get_many(ids)
        hit = take_turns(
            lambda: data.users.get(servers.user.id),
            lambda: _decode_user(raw.get("raw")),
            CALLS,  # type: ignore[arg-type]
        )
        names = [f"raw{n}" for n in range(100)]
        raw.mset(dict.fromkeys(names, msgspec.msgpack.encode(servers.user)))
        many = take_turns(
            lambda: data.users.get_many(ids),
            lambda: [_decode_user(value) for value in raw.mget(names)],  # type: ignore[union-attr]
            CALLS // 4,
            run=SHORT_RUN,
        )
    return [
        Result("Redis hit / redis-py GET + decode, sync", hit.ratios(), "x", at_most=0.95),
        Result("get_many(100) / redis-py MGET + decode", many.ratios(), "x", at_most=1),
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

        turns = await take_async_turns(ours, theirs, CALLS)
        results.append(Result("Redis hit / redis-py GET + decode, async", turns.ratios(), "x", at_most=1.15))
        cashews = Cache()
        cashews.setup(f"{servers.raw_redis}&driver_info=", client_side=False)
        for name, read in (
            ("cashews", await _cashews(servers, cashews)),
            ("aiocache", await _aiocache(servers, raw)),
        ):
            turns = await take_async_turns(ours, read, CALLS)
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
        beside_driver = take_turns(read, read_raw, CALLS)
        beside_orm = take_turns(read, read_orm, CALLS // 2)
    engine.dispose()
    return [
        Result("read by id past the cache / prepared psycopg", beside_driver.ratios(), "x", at_most=1.15),
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

        turns = await take_async_turns(ours, theirs, CALLS)
    return [Result("read by id / asyncpg's pool.fetchrow, async", turns.ratios(), "x", at_most=1)]


def settle(read: Any) -> None:
    """Read until the near cache keeps the record, because Redis reports the first fill as a change."""
    for _ in range(10):
        read()
        time.sleep(0.1)
