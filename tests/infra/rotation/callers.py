"""A program with eight callers of the data access. The Python of the access image runs it; nothing imports it.

Four callers are sync, four async. Each writes and reads, in Postgres and through Redis, with the files that the access
service reads. Two more log in again each time, because an open connection would not notice a rotation. The program
answers each line on stdin with one line of JSON: the count of each operation, the logins used, and every error.
"""

import asyncio
import json
import os
import sys
import threading
import time
from collections import Counter

sys.path[:0] = ["/opt/groundwork/source", "/opt/groundwork/site"]

from dataclasses import replace  # noqa: E402
from pathlib import Path  # noqa: E402

import psycopg  # noqa: E402
import redis  # noqa: E402

from cache.metrics import ERRORS  # noqa: E402
from cache.settings import CacheSettings  # noqa: E402
from db import AsyncDataAccess, DataAccess  # noqa: E402
from db.models import NewUser  # noqa: E402
from db.settings import DatabaseSettings  # noqa: E402

CALLERS = 4
# The pause between two calls of a caller, and between two logins.
CALL_SECONDS = LOGIN_SECONDS = float(sys.argv[1])
FIRST_GITHUB_ID = 7_000_000_000_000
done: Counter[str] = Counter()
logins: Counter[str] = Counter()
errors: list[str] = []


def settings() -> tuple[DatabaseSettings, CacheSettings]:
    # Short-lived connections, so that new ones are made all the time. Long time limits, because a busy
    # machine is not an error.
    database = replace(
        DatabaseSettings.from_environment(),
        pool_size=CALLERS,
        max_lifetime_seconds=5.0,
        deadline_seconds=30.0,
    )
    return database, replace(CacheSettings.from_environment(), timeout_seconds=5.0)


def failed(who: str, error: Exception) -> None:
    errors.append(f"{time.strftime('%H:%M:%S')} {who}: {type(error).__name__}: {error}"[:300])
    time.sleep(0.1)


def call_sync(data: DataAccess, n: int) -> None:
    turn = 0
    while True:
        turn += 1
        name = f"sync{n}-{turn}"
        try:
            user = data.users.upsert(NewUser(github_id=FIRST_GITHUB_ID + n, username=name))
            assert data.users.get(user.id).username == name, "a stale read"
            assert data.users.get_by_github_id(user.github_id).username == name, "a lost write"
            done["sync"] += 1
        except Exception as error:
            failed("sync", error)
        time.sleep(CALL_SECONDS)


async def call_async(data: AsyncDataAccess, n: int) -> None:
    turn = 0
    while True:
        turn += 1
        name = f"async{n}-{turn}"
        try:
            user = await data.users.upsert(NewUser(github_id=FIRST_GITHUB_ID + 100 + n, username=name))
            assert (await data.users.get(user.id)).username == name, "a stale read"
            assert (await data.users.get_by_github_id(user.github_id)).username == name, "a lost write"
            done["async"] += 1
        except Exception as error:
            failed("async", error)
        await asyncio.sleep(CALL_SECONDS)


async def all_async() -> None:
    async with AsyncDataAccess(*settings()) as data:
        await asyncio.gather(*(call_async(data, n) for n in range(CALLERS)))


def log_in_to_postgres() -> None:
    while True:
        try:
            url = Path(os.environ["DATABASE_URL_FILE"]).read_text().strip()
            with psycopg.connect(url, connect_timeout=30) as connection:
                row = connection.execute("SELECT session_user").fetchone()
                assert row is not None
                logins[row[0]] += 1
            done["postgres logins"] += 1
        except Exception as error:
            failed("login to Postgres", error)
        time.sleep(LOGIN_SECONDS)


def log_in_to_redis() -> None:
    while True:
        try:
            url = Path(os.environ["REDIS_URL_FILE"]).read_text().strip()
            with redis.Redis.from_url(url, socket_timeout=30, driver_info=None) as client:
                client.ping()
            done["redis logins"] += 1
        except Exception as error:
            failed("login to Redis", error)
        time.sleep(LOGIN_SECONDS)


def main() -> None:
    with DataAccess(*settings()) as data:
        threads = [threading.Thread(target=call_sync, args=(data, n), daemon=True) for n in range(CALLERS)]
        for target in (lambda: asyncio.run(all_async()), log_in_to_postgres, log_in_to_redis):
            threads.append(threading.Thread(target=target, daemon=True))
        for thread in threads:
            thread.start()
        for _ in sys.stdin:
            samples = (s for metric in ERRORS.collect() for s in metric.samples if s.name.endswith("_total"))
            answer = {
                "done": dict(done),
                "logins": dict(logins),
                "errors": list(errors),
                "cache_errors": int(sum(s.value for s in samples)),
            }
            print(json.dumps(answer), flush=True)
        os._exit(0)


main()
