"""Compare activities with psql and raw drivers: COPY, a deep page of a feed, and a page from Redis."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from db import DataAccess
from db.models import Activity, NewActivity, Page
from db.paging import encode_cursor
from infra.spec import roles
from tests.bench.psql import Psql
from tests.bench.result import Result
from tests.bench.servers import CALLS, BenchServers, raw_redis
from tests.bench.turns import SHORT_RUN, seconds, take_turns

FULL = os.environ.get("SCALE") == "full"
FEED_ROWS = 10_000_000 if FULL else 400_000
FEED_PART = 400_000
PAGE_ITEMS = 20
DEEP_PAGE = 10_000
COPIED_ROWS = 40_000
COPY_ROUNDS = 7
FEED_PAGE_ITEMS = 50
_decode_page = msgspec.msgpack.Decoder(Page[Activity]).decode


def measure_copy(servers: BenchServers) -> list[Result]:
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
        psql = Psql(servers.postgres)
        ours, theirs = [], []
        for _ in range(COPY_ROUNDS + 1):
            for times, load in (
                (ours, lambda: seconds(lambda: data.activities.copy_in(rows), 1)),
                (theirs, psql.copy_seconds),
            ):
                _empty(servers)
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


def _empty(servers: BenchServers) -> None:
    servers.postgres.psql(f"TRUNCATE {roles.SCHEMA}.activities, {roles.SCHEMA}.cache_outbox", roles.DATABASE)


def measure_deep_page(servers: BenchServers) -> list[Result]:
    _fill_feed(servers)
    with DataAccess(servers.database, servers.cache()) as data:
        activities = data.activities
        place = _place(servers, min(DEEP_PAGE * PAGE_ITEMS, FEED_ROWS - 1000))
        cursor = encode_cursor("feed of user 1", place)

        def page(after: str | None) -> Any:
            # Bypasses the cache, because the bar is about the database.
            return activities._feed("feed of user 1", "list_user_feed", {"user_id": 1}, PAGE_ITEMS, after)

        assert len(page(cursor).items) == PAGE_ITEMS
        turns = take_turns(lambda: page(cursor), lambda: page(None), CALLS // 2)
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


def measure_cached_page(servers: BenchServers) -> list[Result]:
    """Measure a page of events of about 2 kB, as GitHub Archive has them."""
    now = datetime.now(UTC)
    events = [
        NewActivity(
            user_id=servers.user.id, type="PushEvent", timestamp=now - timedelta(seconds=n), github_event_id=n,
            data={"size": n % 7, "commits": [{"message": f"made up {n} {c}" * 4} for c in range(25)]},
        )
        for n in range(1, FEED_PAGE_ITEMS + 2)
    ]  # fmt: skip
    with DataAccess(servers.database, servers.cache()) as data, raw_redis(servers) as raw:
        data.activities.make_partitions(now - timedelta(days=31), now)
        data.activities.copy_in(events)

        def read() -> object:
            return data.activities.feed(servers.user.id, limit=FEED_PAGE_ITEMS)

        packed = msgspec.msgpack.encode(read())
        raw.set("page", packed)

        def read_raw() -> object:
            return _decode_page(raw.get("page"))  # type: ignore[arg-type]

        assert read() == read_raw()
        turns = take_turns(read, read_raw, CALLS // 4, run=SHORT_RUN)
    _empty(servers)
    note = f"{len(packed):,} bytes, one round trip"
    name = f"feed page of {FEED_PAGE_ITEMS} from Redis / redis-py GET + decode"
    return [Result(name, turns.ratios(), "x", at_most=1.2, note=note)]
