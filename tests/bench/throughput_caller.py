"""One process of the throughput bench. It reads a line for each turn, and prints a line with what it measured."""

from __future__ import annotations

import asyncio
import json
import random
import ssl
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import accumulate, cycle
from time import perf_counter, process_time
from typing import Any
from urllib.parse import parse_qs, urlsplit

import sqlalchemy as sa
from cashews import Cache
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine

from db import AsyncDataAccess
from tests.bench.orm_user import OrmUser
from tests.integration.data_access import cache_settings, database_settings

_EXPONENT = 1.1
_CHOICES = 50_000
# Most processes need no second connection: each has one caller.
_POOL_SIZE = 2
_ENTRY_SECONDS = 300
# A near-cache hit does not give way to other tasks of the event loop.
_YIELD_AFTER = 64
# A record is in the near cache after its third read: the first one fills Redis, which reports that as a change.
_WARMINGS = 3
_PART = 100


@dataclass(frozen=True)
class Calls:
    """The calls of one side. `warm` reads users into all caches that the process uses."""

    read: Callable[[int], Awaitable[object]]
    write: Callable[[int, str], Awaitable[object]]
    warm: Callable[[list[int]], Awaitable[object]]


@asynccontextmanager
async def _groundwork(settings: dict[str, Any]) -> AsyncIterator[Calls]:
    database = database_settings(settings["database"], pool_size=_POOL_SIZE)
    async with AsyncDataAccess(database, cache_settings(settings["cache"], "bench")) as data:

        async def write(user_id: int, email: str) -> object:
            return await data.users.patch(user_id, email=email)

        async def warm(ids: list[int]) -> None:
            for _ in range(_WARMINGS):
                await data.users.get_many(ids)

        yield Calls(data.users.get, write, warm)


@asynccontextmanager
async def _cashews(settings: dict[str, Any]) -> AsyncIterator[Calls]:
    url = urlsplit(settings["database"])
    context = ssl.create_default_context(cafile=parse_qs(url.query)["sslrootcert"][0])
    engine = create_async_engine(
        f"postgresql+asyncpg://{url.netloc}{url.path}",
        connect_args={"ssl": context},
        pool_size=_POOL_SIZE,
    )
    sessions = async_sessionmaker(engine, expire_on_commit=False)
    cache = Cache()
    cache.setup(f"{settings['raw_cache']}&driver_info=", client_side=False)
    columns = [column.key for column in OrmUser.__table__.columns]

    async def read(user_id: int) -> object:
        key = f"user:{user_id}"
        found = await cache.get(key)
        if found is None:
            async with sessions() as session:
                user = await session.get(OrmUser, user_id)
            found = {name: getattr(user, name) for name in columns}
            await cache.set(key, found, expire=_ENTRY_SECONDS)
        return found

    async def write(user_id: int, email: str) -> None:
        async with sessions() as session:
            await _update(session, user_id, email)
        await cache.delete(f"user:{user_id}")

    async def warm(ids: list[int]) -> None:
        # The processes share this cache.
        if settings["seed"] == 0:
            for user_id in ids:
                await read(user_id)

    try:
        yield Calls(read, write, warm)
    finally:
        await cache.close()
        await engine.dispose()


async def _update(session: AsyncSession, user_id: int, email: str) -> None:
    await session.execute(sa.update(OrmUser).where(OrmUser.id == user_id).values(email=email))
    await session.commit()


SIDES = {"groundwork": _groundwork, "cashews": _cashews}


async def main(side: str, settings: dict[str, Any]) -> None:
    chance = random.Random(settings["seed"])
    weights = [*accumulate(1 / rank**_EXPONENT for rank in range(1, settings["users"] + 1))]
    users = cycle(chance.choices(range(1, settings["users"] + 1), cum_weights=weights, k=_CHOICES))
    async with SIDES[side](settings) as calls:
        await calls.read(1)
        print("ready", flush=True)
        while line := await asyncio.to_thread(sys.stdin.readline):
            turn = json.loads(line)
            if "warm" in turn:
                for first in range(1, turn["warm"], _PART):
                    await calls.warm([*range(first, first + _PART)])
                print("{}", flush=True)
            else:
                mixed = _mixed(calls, users, turn["reads"], chance)
                print(json.dumps(await _measure(mixed, turn["seconds"])), flush=True)


def _mixed(
    calls: Calls, users: Iterator[int], share: float, chance: random.Random
) -> Iterator[Awaitable[object]]:
    """Yield calls, of which `share` are reads."""
    for number, user_id in enumerate(users):
        if chance.random() < share:
            yield calls.read(user_id)
        else:
            yield calls.write(user_id, f"{number}@example.org")


async def _measure(calls: Iterator[Awaitable[object]], seconds: float) -> dict[str, object]:
    latencies: list[float] = []
    cpu, started = process_time(), perf_counter()
    after, end = started, started + seconds
    while after < end:
        before = perf_counter()
        await next(calls)
        after = perf_counter()
        latencies.append(after - before)
        if len(latencies) % _YIELD_AFTER == 0:
            await asyncio.sleep(0)
    return {"elapsed": after - started, "cpu": process_time() - cpu, "latencies": latencies}


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], json.loads(sys.argv[2])))
