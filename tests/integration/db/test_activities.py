"""Activities with a real server: keys, feeds and bulk loads."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from enum import Enum
from functools import partial
from typing import Any

import psycopg
import pytest
from msgspec.structs import replace

from db import copy_binary
from db.activity_parameters import EPOCH, MICROSECONDS
from db.errors import (
    ConstraintViolated,
    IdempotencyKeyReused,
    InvalidCursor,
    InvalidInput,
    NotFound,
    QueryFailed,
    Unavailable,
    VersionConflict,
)
from db.models import NewActivity, NewRepository, NewUser, Page
from db.paging import INTEGER, encode_cursor
from infra.docker.engine import DockerError
from tests.cases import in_case
from tests.conftest import Database
from tests.promises import promise
from tests.scale import limit

NOW = datetime.now(UTC).replace(microsecond=123457)


@pytest.fixture
def user_id(data: Any) -> int:
    return int(data.users.add(NewUser(github_id=1, username="ada")).id)


@pytest.fixture
def repo_id(data: Any) -> int:
    return int(data.repositories.add(NewRepository(github_id=1, name="o/r")).id)


def _made(user_id: int, n: int = 1, **changes: Any) -> NewActivity:
    made = NewActivity(user_id=user_id, type="PushEvent", timestamp=NOW, github_event_id=n, data={"n": n})
    return replace(made, **changes)


def _count(database: Database) -> int:
    return int(database.psql("SELECT count(*) FROM groundwork.activities"))


def test_an_activity_comes_back_equal(data: Any, user_id: int, repo_id: int) -> None:
    added = data.activities.add(
        _made(user_id, repo_id=repo_id, data={"text": 'a"b\\c\n\u2028', "n": [1, None]})
    )
    assert added.timestamp == NOW
    assert data.activities.get(added.id, NOW) == added
    # The same instant in another time zone.
    assert data.activities.find(added.id, NOW.astimezone(timezone(timedelta(hours=9)))) == added
    assert data.activities.find(added.id, NOW + timedelta(microseconds=1)) is None
    with pytest.raises(NotFound, match=f"no activity with id {added.id + 1}"):
        data.activities.get(added.id + 1, NOW)


def test_many_are_returned_in_the_requested_order(data: Any, user_id: int) -> None:
    first, second = (data.activities.add(_made(user_id, n)) for n in (1, 2))
    keys = [
        (second.id, NOW),
        (4711, NOW),
        (first.id, NOW),
        (first.id, NOW + timedelta(days=1)),
        (second.id, NOW),
    ]
    assert data.activities.get_many(keys) == [second, None, first, None, second]
    assert data.activities.get_many([]) == []


def test_a_duplicate_event_is_refused_and_an_upsert_updates_it(data: Any, user_id: int) -> None:
    added = data.activities.add(_made(user_id))
    with pytest.raises(ConstraintViolated):
        data.activities.add(_made(user_id))
    again = data.activities.upsert(_made(user_id, type="ForkEvent", data={"forked": True}))
    assert (again.id, again.type, again.data) == (added.id, "ForkEvent", {"forked": True})
    with pytest.raises(InvalidInput, match="github_event_id"):
        data.activities.upsert(_made(user_id, github_event_id=None))


def test_an_update_is_optimistic(data: Any, user_id: int) -> None:
    added = data.activities.add(_made(user_id))
    updated = data.activities.update(replace(added, type="ForkEvent"))
    assert (updated.type, updated.row_version) == ("ForkEvent", 2)
    with pytest.raises(VersionConflict):
        data.activities.update(replace(added, type="WatchEvent"))
    data.activities.delete(added.id, NOW)
    for call in (lambda: data.activities.update(updated), lambda: data.activities.delete(added.id, NOW)):
        with pytest.raises(NotFound):
            call()


@promise("a write with an idempotency key is applied once, however often it is sent")
def test_a_write_under_a_key_is_done_once(data: Any, user_id: int, database: Database) -> None:
    # Only the idempotency key identifies this write. Without it there would be two activities.
    nameless = _made(user_id, github_event_id=None)
    added = data.activities.add(nameless, idempotency_key="k1")
    assert data.activities.add(nameless, idempotency_key="k1") == added
    updated = data.activities.update(replace(added, type="ForkEvent"), idempotency_key="k2")
    assert data.activities.update(replace(added, type="ForkEvent"), idempotency_key="k2") == updated
    for _ in range(2):
        assert data.activities.upsert(_made(user_id, 7), idempotency_key="k3").row_version == 1
    assert _count(database) == 2
    for other in (
        replace(nameless, timestamp=NOW + timedelta(microseconds=1)),
        _made(user_id, 7),
        _made(user_id + 1, github_event_id=None),
    ):
        with pytest.raises(IdempotencyKeyReused, match="was used for 'add activity with user_id"):
            data.activities.add(other, idempotency_key="k1")
    assert _count(database) == 2


@promise("a rejected write does not use up its idempotency key")
def test_a_key_of_a_write_that_was_refused_stays_free(data: Any, user_id: int) -> None:
    with pytest.raises(ConstraintViolated):
        data.activities.add(_made(user_id + 1), idempotency_key="k")
    assert data.activities.add(_made(user_id), idempotency_key="k").row_version == 1


@promise("a feed is newest first, and its pages contain each activity exactly once")
def test_a_feed_is_newest_first_and_pages_hold_each_once_also_where_times_tie(
    data: Any, user_id: int, repo_id: int
) -> None:
    other = data.users.add(NewUser(github_id=2, username="grace")).id
    times = [NOW - timedelta(seconds=n // 3) for n in range(10)]
    mine = [
        data.activities.add(_made(user_id, n + 1, timestamp=at, repo_id=repo_id))
        for n, at in enumerate(times)
    ]
    data.activities.add(_made(other, 99))
    wanted = sorted(mine, key=lambda each: (each.timestamp, each.id), reverse=True)
    assert list(_pages(data.activities.feed, user_id)) == wanted
    assert list(_pages(data.activities.repository_feed, repo_id)) == wanted
    assert len(list(_pages(data.activities.list))) == 11
    cursor = data.activities.feed(user_id, limit=1).next
    with pytest.raises(InvalidCursor):
        data.activities.feed(other, after=cursor)


@promise("a cursor that was changed or belongs to another listing raises InvalidCursor")
def test_a_forged_cursor_gives_a_page_or_is_refused(data: Any, user_id: int, repo_id: int) -> None:
    data.activities.add(_made(user_id, 1, repo_id=repo_id))
    whole, since = (-(2**63), 2**63 - 1), EPOCH.isoformat()
    listings: list[tuple[Callable[..., Page[Any]], str, list[tuple[int, int]]]] = [
        (partial(data.activities.feed, user_id), f"feed of user {user_id}", [MICROSECONDS, whole]),
        (
            partial(data.activities.repository_feed, repo_id),
            f"feed of repository {repo_id}",
            [MICROSECONDS, whole],
        ),
        (
            partial(data.activities.list_by_type, "PushEvent"),
            f"activities of type PushEvent from {since} to None",
            [MICROSECONDS, whole],
        ),
        (data.activities.list, "activities", [whole]),
        (data.users.list, "users by id", [whole]),
        (partial(data.users.list_by_username, "ada"), "users by username ada", [whole]),
        (data.repositories.list_by_stars, "repositories by stars", [INTEGER, whole]),
        (partial(data.repositories.list_by_language, "C"), "repositories in C by stars", [INTEGER, whole]),
    ]
    for read, name, ranges in listings:
        with in_case(name):
            for edge in range(2):
                read(after=encode_cursor(name, tuple(each[edge] for each in ranges)))
            for place, (least, most) in enumerate(ranges):
                # A cursor cannot contain an integer below bigint.
                for outside in [most + 1, *([least - 1] if least > -(2**63) else [])]:
                    key = tuple(outside if n == place else 7 for n in range(len(ranges)))
                    with pytest.raises(InvalidCursor):
                        read(after=encode_cursor(name, key))


def test_activities_of_a_type_in_a_range_of_time(data: Any, user_id: int) -> None:
    for n in range(1, 6):
        data.activities.add(_made(user_id, n, timestamp=NOW - timedelta(minutes=n), type="AB"[n % 2]))
    since, until = NOW - timedelta(minutes=4), NOW - timedelta(minutes=2)
    found = list(_pages(data.activities.list_by_type, "A", since=since, until=until))
    assert [activity.github_event_id for activity in found] == [2, 4]
    assert len(list(_pages(data.activities.list_by_type, "B"))) == 3


@promise("a deep page of a feed costs no more than the first")
def test_a_page_of_a_feed_reads_no_partition_that_is_newer(
    data: Any, user_id: int, database: Database
) -> None:
    """The query plan of a page prunes the partitions that are newer than its position."""
    database.psql("SELECT groundwork.make_activity_partitions(now() - interval '6 months', now())")
    plan = database.psql(
        "SET search_path = groundwork; SET plan_cache_mode = force_generic_plan;"
        f" PREPARE page(bigint, timestamptz, bigint, bigint) AS {_positional('list_user_feed')};"
        f" EXPLAIN EXECUTE page(1, now() - interval '5 months', 1, 10)"
    )
    assert "Subplans Removed" in plan, plan
    scans = [line for line in plan.splitlines() if "Scan using" in line or "Seq Scan" in line]
    assert len(scans) <= 2, plan


def test_a_month_without_a_partition_is_refused_until_it_is_made(data: Any, user_id: int) -> None:
    long_ago = datetime(2015, 1, 1, tzinfo=UTC)
    with pytest.raises(QueryFailed, match="no partition of relation") as caught:
        data.activities.add(_made(user_id, timestamp=long_ago))
    assert caught.value.sqlstate == "23514"
    assert data.activities.make_partitions(long_ago, long_ago) == ["activities_2015_01"]
    assert data.activities.add(_made(user_id, timestamp=long_ago)).timestamp == long_ago


def test_a_bulk_load_stores_what_single_writes_would(data: Any, user_id: int, repo_id: int) -> None:
    texts = ["plain", 'quote " and \\ and \\n', "tab\tnewline\nreturn\r", "\u2028 ümläut 🜚", "\\N", "\\."]
    made = [
        _made(user_id, n, repo_id=repo_id if n % 2 else None, type=each, data={"text": each, "deep": [{"n": n}]},
              timestamp=NOW - timedelta(days=40 * n))
        for n, each in enumerate(texts, start=1)
    ]  # fmt: skip
    assert data.activities.copy_in(iter(made)) == len(made)
    stored = {each.github_event_id: each for each in _pages(data.activities.feed, user_id)}
    for each in made:
        row = stored[each.github_event_id]
        assert (row.type, row.data, row.timestamp, row.repo_id) == (
            each.type, each.data, each.timestamp, each.repo_id
        )  # fmt: skip


class Text(str):
    def __str__(self) -> str:
        return "another text"


class Number(int):
    def __str__(self) -> str:
        return "another number"


class Measure(float):
    def __str__(self) -> str:
        return "another measure"


class Level(int, Enum):
    HIGH = 3


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        (Text("a"), "a"),
        (Number(7), 7),
        (Measure(1.5), 1.5),
        (Level.HIGH, 3),
        ({Text("k"): [Measure(0.1), (Text("é"),), None]}, {"k": [0.1, ["é"], None]}),
    ],
)
def test_a_bulk_load_stores_subclasses_as_single_writes_do(
    data: Any, user_id: int, value: object, stored: object
) -> None:
    made = [_made(user_id, n, type=Text("PushEvent"), data={"value": value}) for n in (1, 2)]
    data.activities.add(made[0])
    assert data.activities.copy_in(made[1:]) == 1
    found = data.activities.feed(user_id).items
    assert [(each.type, each.data) for each in found] == [("PushEvent", {"value": stored})] * 2


def test_a_bulk_load_stores_nulls_and_the_first_and_last_times(data: Any, user_id: int, repo_id: int) -> None:
    last = NOW.replace(year=NOW.year + 9, day=1, hour=0, minute=0, second=0, microsecond=999_999)
    made = [
        _made(user_id, github_event_id=event, repo_id=repo, timestamp=at, type=str(n), data={})
        for n, (event, repo, at) in enumerate(
            [
                (None, None, datetime(1970, 1, 1, tzinfo=UTC)),
                (None, repo_id, datetime(1999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)),
                (2**63 - 1, None, NOW.astimezone(timezone(timedelta(hours=-9, minutes=-30)))),
                (1, repo_id, last),
            ]
        )
    ]
    assert data.activities.copy_in(made) == len(made)
    stored = {each.type: each for each in data.activities.feed(user_id).items}
    for each in made:
        row = stored[each.type]
        assert (row.github_event_id, row.repo_id, row.timestamp, row.data) == (
            each.github_event_id, each.repo_id, each.timestamp, {}
        )  # fmt: skip


@promise("`copy_in` encodes the next activities while the server stores the previous ones")
@pytest.mark.usefixtures("tiny_blocks")
def test_a_bulk_load_takes_the_next_activity_before_the_server_has_stored_the_last(
    data: Any, user_id: int, database: Database
) -> None:
    """The server stores the first activity only after the second was taken, which ends the lock."""
    data.activities.make_partitions(NOW, NOW)
    with psycopg.connect(database.url("app")) as other:
        other.execute("SELECT 1 FROM users WHERE id = %s FOR UPDATE", [user_id])

        def rows() -> Iterator[NewActivity]:
            yield _made(user_id, 1)
            other.rollback()
            yield _made(user_id, 2)

        assert data.activities.copy_in(rows()) == 2
    assert _count(database) == 2


@pytest.mark.usefixtures("tiny_blocks")
@pytest.mark.parametrize("flavour", ["sync"], indirect=True)
def test_activities_may_come_from_queries_of_the_transaction_that_loads_them(
    data: Any, user_id: int, database: Database
) -> None:
    def rows() -> Iterator[NewActivity]:
        for n in range(1, 4):
            with data.transaction():
                found = data.users.get_by_github_id(1).id
            yield _made(found, n)

    with data.transaction():
        assert data.activities.copy_in(rows()) == 3
    assert _count(database) == 3


@pytest.mark.usefixtures("tiny_blocks")
@pytest.mark.parametrize("flavour", ["sync"], indirect=True)
def test_a_failed_block_is_reported_as_its_own_error_if_the_activities_come_from_queries(
    data: Any, user_id: int, database: Database
) -> None:
    """After a failed block, the queries fail too: the transaction is aborted."""

    def rows() -> Iterator[NewActivity]:
        for n in (1, 1, 2):
            yield _made(data.users.get_by_github_id(1).id, n)

    with pytest.raises(ConstraintViolated):
        with data.transaction():
            data.activities.copy_in(rows())
    assert _count(database) == 0


@promise("`copy_in` stores all or nothing, in constant memory")
def test_a_bulk_load_of_several_blocks_is_all_or_nothing(data: Any, user_id: int, database: Database) -> None:
    filler = "x" * 10_000
    rows = (_made(user_id, n, data={"filler": filler}) for n in range(1, 400))
    assert data.activities.copy_in(rows) == 399
    # The last one exists already, so none of the 300 before it is stored.
    again = (_made(user_id, n, data={"filler": filler}) for n in [*range(1000, 1300), 399])
    with pytest.raises(ConstraintViolated):
        data.activities.copy_in(again)
    assert _count(database) == 399


@promise("`copy_in` stores all or nothing, in constant memory")
@pytest.mark.parametrize("flavour", ["sync"], indirect=True)
def test_memory_does_not_grow_with_a_bulk_load(data: Any, database: Database) -> None:
    """Nor does it grow with the number of users: every block has thousands of them."""
    database.psql(
        "INSERT INTO groundwork.users (github_id, username) SELECT n, 'x' FROM generate_series(1, 5000) n"
    )
    first = data.users.get_by_github_id(1).id

    def peak(rows: int) -> int:
        filler = {"filler": "x" * 150}
        made = (_made(first + n % 5000, github_event_id=None, data=filler) for n in range(rows))
        tracemalloc.start()
        try:
            assert data.activities.copy_in(made) == rows
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    small = peak(10_000)
    assert peak(40_000) < small + 1.5 * 1024 * 1024


BAD = {
    "NUL": {"data": {"text": "a\0b"}},
    "surrogate": {"data": {"text": "\ud800"}},
    "naive": {"timestamp": datetime(2024, 1, 1)},
    "deep": {"data": {"a": None}},
    "number": {"data": {"n": 2**64}},
    "nan": {"data": {"n": float("nan")}},
    "user": {"user_id": 2**63},
    "type": {"type": ""},
    "event": {"github_event_id": 0},
    "before any partition": {"timestamp": datetime(1969, 12, 31, 23, 59, 59, tzinfo=UTC)},
    "after any partition": {"timestamp": NOW.replace(year=NOW.year + 10, day=1)},
}
for _ in range(10_000):
    BAD["deep"]["data"] = {"a": BAD["deep"]["data"]}


@promise("`copy_in` passes each row that cannot be stored to `on_reject`, with the reason")
@pytest.mark.parametrize("bad", BAD)
def test_what_cannot_be_stored_is_a_reject_with_its_reason(
    data: Any, user_id: int, database: Database, bad: str
) -> None:
    rows = [_made(user_id, 1), replace(_made(user_id, 2), **BAD[bad]), _made(user_id, 3)]
    for write in (data.activities.add, data.activities.upsert):
        with pytest.raises(InvalidInput):
            write(rows[1])
    with pytest.raises(InvalidInput):
        data.activities.copy_in(rows)
    assert _count(database) == 0
    rejects: list[tuple[NewActivity, InvalidInput]] = []
    assert data.activities.copy_in(rows, on_reject=lambda row, error: rejects.append((row, error))) == 2
    ((row, error),) = rejects
    assert row is rows[1]
    assert str(error)
    assert _count(database) == 2


def test_a_bulk_load_creates_only_the_partitions_it_needs(
    data: Any, user_id: int, database: Database
) -> None:
    before = _partitions(database)
    times = [
        datetime(1971, 2, 1, tzinfo=UTC),
        NOW,
        datetime(2015, 1, 1, 0, 30, tzinfo=timezone(timedelta(hours=1))),
    ]
    assert (
        data.activities.copy_in(_made(user_id, n, timestamp=at) for n, at in enumerate(times, start=1)) == 3
    )
    assert _partitions(database) - before == {"activities_1971_02", "activities_2014_12"}


def test_the_latest_month_that_can_be_stored_gets_its_partition(
    data: Any, user_id: int, database: Database
) -> None:
    ahead = NOW.replace(year=NOW.year + 9, day=28)
    assert data.activities.copy_in([_made(user_id, timestamp=ahead)]) == 1
    assert f"activities_{ahead:%Y_%m}" in _partitions(database)


MONTHS = [datetime(2015, month, 1, tzinfo=UTC) for month in (1, 2, 3)]
_WRITE_A_USER = (
    "SET lock_timeout = '1s'; INSERT INTO groundwork.users (github_id, username) VALUES (77, 'x')"
    " ON CONFLICT (github_id) DO UPDATE SET username = 'y'"
)


@pytest.fixture
def tiny_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every row a block, so that all months except the first are found during the load."""
    monkeypatch.setattr(copy_binary, "BLOCK_BYTES", 1)


@promise("`copy_in` does not block writers of users when it creates partitions")
@pytest.mark.usefixtures("tiny_blocks")
def test_a_load_that_creates_partitions_does_not_block_writers_of_users(
    data: Any, user_id: int, database: Database
) -> None:
    def rows() -> Iterator[NewActivity]:
        for n, at in enumerate(MONTHS, start=1):
            yield _made(user_id, n, timestamp=at)
            # Here the load waits: its transaction is open, and the partition exists.
            assert f"activities_{at:%Y_%m}" in _partitions(database)
            database.psql(_WRITE_A_USER)

    assert data.activities.copy_in(rows()) == len(MONTHS)
    assert _count(database) == len(MONTHS)


@promise("`copy_in` does not block writers of users when it creates partitions", control=True)
def test_a_partition_in_an_open_transaction_blocks_writers_of_users(database: Database) -> None:
    """The control of the test above."""
    with psycopg.connect(database.url("app")) as connection:
        connection.execute("SELECT make_activity_partitions(%(at)s, %(at)s)", {"at": MONTHS[0]})
        with pytest.raises(DockerError, match="lock timeout"):
            database.psql(_WRITE_A_USER)
    database.psql(_WRITE_A_USER)


@pytest.mark.usefixtures("tiny_blocks")
def test_a_pool_of_one_loads_into_existing_partitions_and_raises_for_a_missing_one(
    open_data: Any, database: Database
) -> None:
    data = open_data(pool_size=1, deadline_seconds=300.0)
    user_id = data.users.add(NewUser(github_id=1, username="ada")).id
    rows = [_made(user_id, n, timestamp=at) for n, at in enumerate(MONTHS, start=1)]
    started = time.monotonic()
    with pytest.raises(Unavailable, match="partition of 2015-02 takes a second connection"):
        data.activities.copy_in(rows)
    # It does not wait for a second connection.
    assert time.monotonic() - started < limit(1)
    assert _count(database) == 0
    data.activities.make_partitions(MONTHS[0], MONTHS[-1])
    assert data.activities.copy_in(rows) == len(MONTHS)


@pytest.mark.usefixtures("tiny_blocks")
@pytest.mark.parametrize("flavour", ["sync"], indirect=True)
def test_in_a_transaction_that_has_written_users_a_load_makes_its_partitions_there(
    data: Any, user_id: int, database: Database
) -> None:
    """On another connection, creating them would wait for this transaction's lock on users: a deadlock."""
    rows = [_made(user_id, n, timestamp=at) for n, at in enumerate(MONTHS, start=1)]
    with data.transaction():
        data.users.upsert(NewUser(github_id=1, username="countess"))
        assert data.activities.copy_in(rows) == len(MONTHS)
    assert _count(database) == len(MONTHS)


def test_nothing_to_load_is_nothing(data: Any) -> None:
    assert data.activities.copy_in([]) == 0


def _partitions(database: Database) -> set[str]:
    sql = (
        "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'groundwork.activities'::regclass"
    )
    return {name.removeprefix("groundwork.") for name in database.psql(sql).split()}


def _pages(list_page: Any, *arguments: Any, **options: Any) -> Iterator[Any]:
    after = None
    while True:
        page = list_page(*arguments, limit=3, after=after, **options)
        yield from page.items
        after = page.next
        if after is None:
            return


def _positional(query: str) -> str:
    from db.named_query import queries

    sql = queries("activities")[query].sql.decode()
    for n, name in enumerate(("user_id", "before", "before_id", "limit"), start=1):
        sql = sql.replace(f"%({name})s", f"${n}")
    return sql
