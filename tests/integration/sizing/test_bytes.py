"""The sizes of rows and cache entries that `groundwork size` uses, measured with the sample data."""

from __future__ import annotations

import uuid

import pytest
from redis import Redis

from db.seed import load_sample_data
from ops.sizing.estimate import CACHED_BYTES, STORED_BYTES
from tests.conftest import Database
from tests.containers import QUIET, Server
from tests.integration.data_access import cache_settings, data_access, database_settings

STORED = """
SELECT (SELECT pg_total_relation_size('groundwork.users') / count(*) FROM groundwork.users),
       (SELECT sum(pg_total_relation_size(inhrelid)) FROM pg_inherits
        WHERE inhparent = 'groundwork.activities'::regclass) / (SELECT count(*) FROM groundwork.activities)
"""


def test_the_sizes_of_rows_and_entries_are_those_of_the_sample_data(
    database: Database, redis_server: Server
) -> None:
    load_sample_data(database.url("app"))
    user, activity = (float(each) for each in database.psql(STORED).strip().split("|"))
    ids = [
        int(each) for each in database.psql("SELECT id FROM groundwork.users ORDER BY id LIMIT 50").split()
    ]
    namespace = f"size-{uuid.uuid4().hex[:8]}"
    settings = (
        database_settings(database.url("app")),
        cache_settings(redis_server.redis_url("app"), namespace),
    )
    with data_access("sync", *settings) as data:
        for each in ids:
            data.users.get(each)
            data.activities.feed(each, limit=50)
    with Redis.from_url(redis_server.redis_url("ops"), **QUIET) as redis:
        keys = list(redis.scan_iter(f"gw:{namespace}:*", count=1000))
        sizes = {
            kind: [redis.memory_usage(key) for key in keys if kind in key]
            for kind in (b":user:", b":user_feed:")
        }
    cached = {kind: sum(each) / len(each) for kind, each in sizes.items()}
    measured = {
        "user": user, "activity": activity, "cached user": cached[b":user:"], "cached feed": cached[b":user_feed:"]
    }  # fmt: skip
    used = STORED_BYTES | {f"cached {name}": size for name, size in CACHED_BYTES.items()}
    assert used == pytest.approx(measured, rel=0.25)
