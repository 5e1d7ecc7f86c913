"""Values that Postgres, msgpack or Python's parsers reject: either a typed error and no write, or stored unchanged."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import psycopg
import pytest
from msgspec.structs import replace
from psycopg.types.json import Jsonb

from db.errors import DbError, InvalidInput
from db.models import NewActivity, NewOrganization, NewRepository, NewUser
from tests.conftest import Database
from tests.promises import promise

NOW = datetime.now(UTC)
MEGABYTE = "a'\"\\;--\U0001f600é\n" * (1024 * 1024 // 15)


def nested(levels: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(levels - 1):
        value = {"a": value}
    return value


TEXTS = {"a NUL": "a\0b", "a lone surrogate": "a\ud800", "bytes": b"a", "a number": 1}
NUMBERS = {
    "one too many": 2**63,
    "one too few": -(2**63) - 1,
    "huge": 10**400,
    "true": True,
    "text": "1",
    "1.0": 1.0,
}
OBJECTS = {
    "a NUL": {"a": "\0"},
    "a NUL in a key": {"\0": 1},
    "a surrogate": {"a": ["\udfff"]},
    "too large a number": {"a": 2**64},
    "not a number": {"a": float("nan")},
    "infinite": {"a": float("inf")},
    "a float that jsonb would round": {"a": [1.2345678901234567e18]},
    "10,000 levels": nested(10_000),
    "a set": {"a": {1}},
    "a list": [1],
}
TIMES = {"naive": datetime(2026, 11, 24, 12), "text": "2026-11-24T12:00:00Z", "none": None}
USER = NewUser(github_id=1, username="x")
ORGANIZATION = NewOrganization(github_id=1, name="x")
REPOSITORY = NewRepository(github_id=1, name="x/y")
ACTIVITY = NewActivity(user_id=1, type="PushEvent", timestamp=NOW)
# A repository, a record, and the bad values for each of its fields.
FIELDS: tuple[tuple[str, Any, dict[str, dict[str, Any]]], ...] = (
    ("users", USER, {"username": TEXTS, "email": TEXTS, "github_id": NUMBERS, "preferences": OBJECTS}),
    (
        "organizations",
        ORGANIZATION,
        {"name": TEXTS, "description": TEXTS, "github_id": NUMBERS, "member_count": NUMBERS},
    ),
    ("repositories", REPOSITORY, {"name": TEXTS, "language": TEXTS, "org_id": NUMBERS, "stars": NUMBERS}),
    (
        "activities",
        ACTIVITY,
        {"type": TEXTS, "user_id": NUMBERS, "repo_id": NUMBERS, "timestamp": TIMES, "data": OBJECTS},
    ),
)
CASES = [
    pytest.param(plural, replace(record, **{field: value}), id=f"{plural}.{field}: {name}")
    for plural, record, fields in FIELDS
    for field, values in fields.items()
    for name, value in values.items()
]
TABLES = ("users", "organizations", "repositories", "activities", "cache_outbox")


@pytest.fixture
def written(data: Any, database: Database) -> Callable[[], dict[str, int]]:
    """Return the number of rows in each table, and the number of write statements sent."""

    def count() -> dict[str, int]:
        counts = " UNION ALL ".join(f"SELECT '{t}', count(*) FROM groundwork.{t}" for t in TABLES)
        return {name: int(n) for name, n in (line.split("|") for line in database.psql(counts).split())}

    return count


@promise("bad values raise typed errors, and nothing is written")
@pytest.mark.parametrize("flavour", ["sync"], indirect=True)
def test_bad_values_are_typed_errors_and_nothing_is_written(
    data: Any, written: Callable[[], dict[str, int]]
) -> None:
    """All cases share a test, because a database and a pool for each would take minutes."""
    before = written()
    accepted = []
    for case in CASES:
        plural, record = case.values
        repository = getattr(data, plural)
        for verb in ("add", "upsert"):
            try:
                getattr(repository, verb)(record)
            except InvalidInput:
                continue
            except DbError as error:
                accepted.append(f"{case.id} by {verb}: {type(error).__name__}")
            else:
                accepted.append(f"{case.id} by {verb}")
    assert accepted == []
    assert written() == before


def test_a_bad_id_is_a_typed_error(data: Any) -> None:
    for value in NUMBERS.values():
        for records in (data.users, data.organizations, data.repositories):
            for call in (records.find, records.get, records.delete):
                with pytest.raises(InvalidInput):
                    call(value)
            with pytest.raises(InvalidInput):
                records.get_many([value])


def test_an_update_with_a_bad_value_changes_nothing(data: Any) -> None:
    user = data.users.add(USER)
    for name, value in OBJECTS.items():
        with pytest.raises(InvalidInput):
            data.users.update(replace(user, preferences=value))
        assert data.users.get(user.id) == user, name
    assert data.users.get_by_github_id(1) == user


def test_long_and_quoted_text_is_returned_unchanged(data: Any, database: Database) -> None:
    user = data.users.add(replace(USER, email=MEGABYTE, preferences={"'\"\\": MEGABYTE}))
    for _ in range(2):
        read = data.users.get(user.id)
        assert (read.email, read.preferences) == (MEGABYTE, {"'\"\\": MEGABYTE})
    stored = "SELECT octet_length(email) FROM groundwork.users"
    assert int(database.psql(stored)) == len(MEGABYTE.encode())


def test_text_too_long_for_an_index_is_a_typed_error_and_writes_nothing(
    data: Any, written: Callable[[], dict[str, int]]
) -> None:
    # Random digits, because Postgres compresses others.
    noise = json.dumps([(n * 2654435761) % 2**32 for n in range(1000)])
    data.users.add(USER)
    before = written()
    for records, record in (
        (data.users, replace(USER, github_id=2, username=noise)),
        (data.repositories, replace(REPOSITORY, language=noise)),
        (data.activities, replace(ACTIVITY, type=noise)),
    ):
        with pytest.raises(InvalidInput, match=f"has {len(noise)} bytes; at most 2000 can be stored"):
            records.add(record)
    assert written() == before


def test_text_at_the_limit_of_an_index_is_stored(data: Any) -> None:
    # Four bytes each. Random, because Postgres compresses others.
    longest = "".join(chr(0x10000 + (n * 2654435761) % 2**32 % 0xFFFF) for n in range(500))
    user = data.users.add(replace(USER, username=longest))
    repository = data.repositories.add(replace(REPOSITORY, language=longest))
    activity = data.activities.add(replace(ACTIVITY, user_id=user.id, type=longest))
    assert data.users.list_by_username(longest).items == [user]
    assert data.repositories.list_by_language(longest).items == [repository]
    assert data.activities.list_by_type(longest).items == [activity]


def test_a_type_too_long_for_an_index_is_one_reject_of_a_bulk_load(data: Any) -> None:
    user_id = data.users.add(USER).id
    noise = json.dumps([(n * 2654435761) % 2**32 for n in range(1000)])
    rejects: list[str] = []
    rows = [replace(ACTIVITY, user_id=user_id, type=kind) for kind in ("a", noise, "b")]
    assert data.activities.copy_in(rows, on_reject=lambda _, error: rejects.append(error.field)) == 2
    assert rejects == ["type"]


def test_integers_at_the_limits_are_returned_unchanged(data: Any) -> None:
    edges = {"edges": [-(2**63), -1, 0, 1, 2**53 + 1, 2**63 - 1]}
    user = data.users.add(replace(USER, preferences=edges))
    for _ in range(2):
        assert data.users.get(user.id).preferences == edges


def test_floats_are_returned_unchanged_and_can_be_written_again(data: Any) -> None:
    floats = {"floats": [0.1, -1.0, 1e15, 9999999999999998.0, 5e-324, -1.2345678901234567e-300]}
    user = data.users.add(replace(USER, preferences=floats))
    for _ in range(2):
        read = data.users.get(user.id)
        assert [(type(each), each) for each in read.preferences["floats"]] == [
            (float, each) for each in floats["floats"]
        ]
    assert data.users.update(read).preferences == floats


def test_jsonb_makes_another_number_of_a_large_float(data: Any, database: Database) -> None:
    """The negative control of the rejection above."""
    value = 1.2345678901234567e18
    user = data.users.add(USER)
    database.psql(f"UPDATE groundwork.users SET preferences = '{json.dumps({'a': value})}'")
    assert data.users.get(user.id).preferences["a"] != value


def test_a_time_in_another_zone_is_the_same_instant(data: Any) -> None:
    user = data.users.add(USER)
    at = NOW.astimezone(timezone(timedelta(hours=13, minutes=45)))
    activity = data.activities.add(replace(ACTIVITY, user_id=user.id, timestamp=at))
    assert activity.timestamp == at
    assert data.activities.get(activity.id, at) == activity


@promise("bad values raise typed errors, and nothing is written", control=True)
def test_the_plain_driver_raises_many_different_errors(database: Database) -> None:
    """The negative control: the driver has no single error for these that a caller could catch."""
    met = set()
    with psycopg.connect(database.url("app"), autocommit=True) as connection:
        for value in (
            "a\0b",
            "a\ud800",
            Jsonb({"a": "\0"}),
            Jsonb({"a": float("nan")}),
        ):
            column = "preferences" if isinstance(value, Jsonb) else "username"
            with pytest.raises(Exception) as caught:  # noqa: PT011 - which one is what is asked
                connection.execute(f"INSERT INTO users (github_id, {column}) VALUES (1, %s)", [value])
            met.add(caught.type)
    assert len(met) >= 2
