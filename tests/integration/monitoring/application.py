"""An application with metrics, which reads and writes with and without Redis until it is killed.

python -m tests.integration.monitoring.application PORT, with DATABASE_URL and three URLs of Redis: WELL_REDIS_URL,
ILL_REDIS_URL (no server listens there), and OPS_REDIS_URL (the first server, as user ops).
"""

from __future__ import annotations

import os
import sys
import time
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import redis
from msgspec.structs import replace
from prometheus_client import start_http_server

from cache.entry import entry, packed_in
from cache.keys import EntityKeys
from db import DataAccess
from db.errors import DbError
from db.models import USER_SCHEMA, NewActivity, NewUser

NAMESPACE = "measured"


def open_data(redis_url: str) -> DataAccess:
    os.environ["REDIS_URL"] = redis_url
    return DataAccess.open()


def make_due(ops: Any, user_id: int) -> None:
    """Make a cached user due for a refresh by the next read."""
    key = EntityKeys(NAMESPACE, "user", USER_SCHEMA).value(user_id)
    if raw := ops.get(key):
        epoch, version = raw.split(b":")[:2]
        ops.set(key, entry(epoch, int(version), 60_000, 10**12, packed_in(raw) or b""), px=60_000)


def work(data: DataAccess, user_id: int, turn: int) -> None:
    # Ignore errors: a busy machine may be slow.
    with suppress(DbError):
        user = data.users.get(user_id)
        data.users.update(replace(user, username=f"ada-{turn}"))
        data.activities.add(NewActivity(user_id=user_id, type="PushEvent", timestamp=datetime.now(UTC)))
        data.activities.feed(user_id)
        with data.reading():
            data.users.count()
        data.users.get(-1)


def refresh(data: DataAccess, ops: Any, user_id: int) -> None:
    with suppress(DbError, redis.RedisError):
        data.users.get(user_id)
        make_due(ops, user_id)
        data.users.get(user_id)


def main() -> None:
    os.environ["GROUNDWORK_CACHE_NAMESPACE"] = NAMESPACE
    # Without a near cache each read uses Redis, so that refreshes happen.
    os.environ["GROUNDWORK_NEAR_CACHE_ENTRIES"] = "0"
    # Its pool finds no replica, so the primary answers.
    os.environ["DATABASE_READ_URL"] = os.environ["DATABASE_URL"]
    start_http_server(int(sys.argv[1]), "127.0.0.1")
    with (
        open_data(os.environ["ILL_REDIS_URL"]) as ill,
        open_data(os.environ.pop("WELL_REDIS_URL")) as data,
        redis.Redis.from_url(os.environ["OPS_REDIS_URL"], driver_info=None) as ops,
    ):
        user_id = data.users.add(NewUser(github_id=7, username="ada")).id
        for turn in range(sys.maxsize):
            work(data, user_id, turn)
            work(ill, user_id, turn)
            refresh(data, ops, user_id)
            # A turn sets every metric. More of them take CPU time from the tests.
            time.sleep(0.5)


if __name__ == "__main__":
    main()
