"""Callers in one process that read the same user at the same time.

    python -m tests.faults.crowd CALLERS NAMESPACE sync|async|naive   (DATABASE_URL, REDIS_URL)

Each line of input is `USER_ID START_AT`, with START_AT on the machine's monotonic clock. For each it prints what was
read, and the number of calls to Redis that have failed so far.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import redis
from psycopg_pool import ConnectionPool

from db import AsyncDataAccess, DataAccess
from tests.faults.cache_errors import cache_errors
from tests.integration.data_access import cache_settings, database_settings

Read = Callable[[int], str]


def serve_threads(read: Read, callers: int) -> None:
    with ThreadPoolExecutor(callers) as threads:

        def read_at(start_at: float, user_id: int) -> str:
            time.sleep(max(0.0, start_at - time.monotonic()))
            return read(user_id)

        print("ready", flush=True)
        for line in sys.stdin:
            user_id, start_at = line.split()
            reads = [threads.submit(read_at, float(start_at), int(user_id)) for _ in range(callers)]
            print(json.dumps([[each.result() for each in reads], cache_errors()]), flush=True)


async def serve_tasks(access: AsyncDataAccess, callers: int) -> None:
    async with access as data:

        async def read_at(start_at: float, user_id: int) -> str:
            await asyncio.sleep(max(0.0, start_at - time.monotonic()))
            return (await data.users.get(user_id)).username

        await data.users.find(0)
        print("ready", flush=True)
        while line := await asyncio.to_thread(sys.stdin.readline):
            user_id, start_at = line.split()
            reads = [read_at(float(start_at), int(user_id)) for _ in range(callers)]
            print(json.dumps([await asyncio.gather(*reads), cache_errors()]), flush=True)


def read_naively(redis_url: str, database_url: str, namespace: str, callers: int) -> Read:
    client = redis.Redis.from_url(redis_url, driver_info=None)
    # Connect first, because handshakes would spread the callers over time.
    connections = [client.connection_pool.get_connection() for _ in range(callers)]
    for connection in connections:
        client.connection_pool.release(connection)
    pool = ConnectionPool(database_url, min_size=8, open=True, kwargs={"autocommit": True})
    pool.wait()

    def read(user_id: int) -> str:
        key = f"gw:{namespace}:naive:{{{user_id}}}"
        if (cached := client.get(key)) is not None:
            return str(cached.decode())
        with pool.connection() as connection:
            cursor = connection.execute("SELECT username FROM users WHERE id = %s", [user_id])
            (username,) = cursor.fetchone() or ("",)
        client.set(key, username, ex=60)
        return str(username)

    return read


if __name__ == "__main__":
    callers, namespace, how = int(sys.argv[1]), sys.argv[2], sys.argv[3]
    urls = os.environ["REDIS_URL"], os.environ["DATABASE_URL"]
    settings = database_settings(urls[1]), cache_settings(urls[0], namespace)
    if how == "naive":
        serve_threads(read_naively(*urls, namespace, callers), callers)
    elif how == "async":
        asyncio.run(serve_tasks(AsyncDataAccess(*settings), callers))
    else:
        with DataAccess(*settings) as data:
            data.users.find(0)
            serve_threads(lambda user_id: data.users.get(user_id).username, callers)
