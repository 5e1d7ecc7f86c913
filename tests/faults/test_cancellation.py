"""Tasks cancelled at random moments: no task gets the answer of another, and no connection is lost."""

from __future__ import annotations

import asyncio
import random
import time
from typing import Any

from redis.asyncio import Connection
from redis.asyncio.connection import parse_url

from db import AsyncDataAccess
from db.models import NewUser
from tests.conftest import Database
from tests.containers import Server
from tests.integration.data_access import cache_settings, database_settings
from tests.promises import promise
from tests.scale import scaled

CANCELLED = scaled(200, 2000)
USERS = 20


async def settle(data: Any) -> dict[str, int]:
    """Return the pool's statistics, after every connection is returned or 60 s have passed."""
    give_up_at = time.monotonic() + 60
    while True:
        statistics: dict[str, int] = data.pool.statistics()
        if statistics["pool_size"] == statistics["pool_available"] or time.monotonic() > give_up_at:
            return statistics
        await asyncio.sleep(0.1)


@promise("a cancelled call never leaves its answer to another caller")
def test_cancelled_tasks_leave_no_answer_to_the_wrong_caller(
    database: Database, redis_server: Server, namespace: str
) -> None:
    """Reads from Redis, reads from Postgres, writes, and transactions, all on few connections."""

    async def scenario() -> tuple[int, int, int, dict[str, int]]:
        access = AsyncDataAccess(
            database_settings(database.url("app"), pool_size=4),
            cache_settings(redis_server.redis_url("app"), namespace, max_connections=4),
        )
        async with access as data:
            users = [
                await data.users.add(NewUser(github_id=n, username=f"u{n}")) for n in range(1, USERS + 1)
            ]

            async def read(github_id: int) -> int:
                return (await data.users.get(users[github_id - 1].id)).github_id

            async def read_past_the_cache(github_id: int) -> int:
                return (await data.users.get_by_github_id(github_id)).github_id

            async def read_many(github_id: int) -> int:
                (user,) = await data.users.get_many([users[github_id - 1].id])
                return user.github_id if user else 0

            async def write(github_id: int) -> int:
                user = await data.users.upsert(NewUser(github_id=github_id, username=f"u{github_id}"))
                return user.github_id

            async def transact(github_id: int) -> int:
                async with data.transaction():
                    await write(github_id)
                    return await read(github_id)

            calls = [read, read, read_past_the_cache, read_many, write, transact]
            cancelled = answered = wrong = 0
            while cancelled < CANCELLED:
                asked = [random.randint(1, USERS) for _ in range(2 * USERS)]
                tasks = [asyncio.create_task(random.choice(calls)(github_id)) for github_id in asked]
                for task in random.sample(tasks, USERS):
                    await asyncio.sleep(random.uniform(0, 0.002))
                    task.cancel()
                for task, github_id in zip(tasks, asked, strict=True):
                    try:
                        wrong += await task != github_id
                        answered += 1
                    except asyncio.CancelledError:
                        cancelled += 1
                # So that there are both misses and hits.
                await data.users.cached.drop([(user.id, None) for user in random.sample(users, 5)])
            # An answer left on a connection would go to the next caller.
            for n in range(1, USERS + 1):
                wrong += [await call(n) for call in calls] != [n] * len(calls)
            return cancelled, answered, wrong, await settle(data)

    cancelled, answered, wrong, statistics = asyncio.run(scenario())
    assert cancelled >= CANCELLED
    assert answered > CANCELLED / 4
    assert wrong == 0
    assert statistics["pool_size"] == statistics["pool_available"]


@promise("a cancelled call never leaves its answer to another caller", control=True)
def test_a_shared_connection_hands_a_cancelled_reply_to_the_next(
    redis_server: Server, namespace: str
) -> None:
    """The negative control: the connection is not closed when a call on it is cancelled."""

    async def scenario() -> int:
        url = redis_server.redis_url("app")
        options: dict[str, Any] = parse_url(url)
        kind = options.pop("connection_class", Connection)
        # With a timeout for sending, a task cancelled while sending would close the connection.
        connection = kind(**options, driver_info=None, socket_timeout=None)
        await connection.connect()

        async def ask(*command: object) -> Any:
            await connection.send_command(*command)
            return await connection.read_response(disconnect_on_error=False)

        keys = [f"gw:{namespace}:{n}" for n in range(10)]
        for key in keys:
            await ask("SET", key, key)
        wrong = 0
        for key in keys * 3:
            asking = asyncio.create_task(ask("GET", random.choice(keys)))
            await asyncio.sleep(0)
            asking.cancel()
            await asyncio.wait([asking])
            wrong += await ask("GET", key) != key.encode()
        await connection.disconnect()
        return wrong

    assert asyncio.run(scenario()) > 0
