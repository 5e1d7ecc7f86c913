"""The user repository with real servers. Writes are checked with plain SQL."""

from __future__ import annotations

import json
from typing import Any

import pytest
from msgspec.structs import replace

from db.errors import ConstraintViolated, InvalidCursor, InvalidInput, NotFound, VersionConflict
from db.models import NewUser
from tests.conftest import Database
from tests.promises import promise

ADA = NewUser(
    github_id=7, username="ada", email="ada@example.org", preferences={"theme": "dark", "n": [1, None]}
)


def test_an_added_user_is_in_the_table(data: Any, database: Database) -> None:
    user = data.users.add(ADA)

    row = json.loads(
        database.psql(f"SELECT to_json(u) FROM groundwork.users u WHERE id = {user.id}").splitlines()[0]
    )
    assert {key: row[key] for key in ("github_id", "username", "email", "preferences")} == {
        "github_id": 7,
        "username": "ada",
        "email": "ada@example.org",
        "preferences": {"theme": "dark", "n": [1, None]},
    }
    assert user.row_version == row["row_version"]
    assert row["access_token"] is None


@promise("a record is the same whether Postgres or Redis returns it")
def test_a_user_comes_back_equal_from_postgres_and_from_redis(data: Any) -> None:
    user = data.users.add(ADA)

    from_postgres = data.users.get(user.id)
    from_redis = data.users.get(user.id)

    assert user == from_postgres == from_redis
    assert from_redis.created_at.utcoffset().total_seconds() == 0


def test_a_second_user_with_the_same_github_id_is_refused(data: Any) -> None:
    data.users.add(ADA)
    with pytest.raises(ConstraintViolated) as caught:
        data.users.add(ADA)
    assert caught.value.constraint == "users_github_id_key"
    assert caught.value.sqlstate == "23505"
    # The server's detail quotes the row's values; the message does not.
    assert "ada" not in str(caught.value)


def test_what_is_not_there_is_not_found(data: Any) -> None:
    assert data.users.find(4711) is None
    with pytest.raises(NotFound, match="no user with id 4711"):
        data.users.get(4711)
    with pytest.raises(NotFound):
        data.users.delete(4711)


@promise("`get_many` returns records in the requested order")
def test_many_are_returned_in_the_requested_order(data: Any) -> None:
    users = [data.users.add(NewUser(github_id=n, username=f"user{n}")) for n in range(1, 4)]
    data.users.get(users[1].id)

    asked = [users[2].id, 4711, users[0].id, users[1].id, users[2].id]

    assert data.users.get_many(asked) == [users[2], None, users[0], users[1], users[2]]
    # Now all are cached, including the absence.
    assert data.users.get_many(asked) == [users[2], None, users[0], users[1], users[2]]
    assert data.users.get_many([]) == []


def test_more_than_a_batch_come_at_once(data: Any, database: Database) -> None:
    database.psql(
        "INSERT INTO groundwork.users (github_id, username)"
        " SELECT n, 'user' || n FROM generate_series(1, 450) n"
    )
    ids = [user.id for page in _pages(data, 200) for user in page]
    for _ in range(2):
        found = data.users.get_many(ids)
        assert [user.id for user in found] == ids


@promise("the pages of a listing contain every record exactly once")
def test_pages_hold_every_user_once(data: Any) -> None:
    users = [data.users.add(NewUser(github_id=n, username=f"user{n}")) for n in range(1, 8)]
    pages = _pages(data, 3)
    assert [len(page) for page in pages] == [3, 3, 1]
    assert [user for page in pages for user in page] == users


def test_a_last_page_that_is_full_has_no_next(data: Any) -> None:
    for n in range(1, 5):
        data.users.add(NewUser(github_id=n, username=f"user{n}"))
    first = data.users.list(limit=2)
    assert data.users.list(limit=2, after=first.next).next is None


@pytest.mark.parametrize("spoil", [lambda c: c[:-2] + "xx", lambda c: "", lambda c: "ä", lambda c: c * 2])
def test_a_changed_cursor_is_refused(data: Any, spoil: Any) -> None:
    for n in range(1, 4):
        data.users.add(NewUser(github_id=n, username=f"user{n}"))
    cursor = data.users.list(limit=1).next
    with pytest.raises(InvalidCursor):
        data.users.list(limit=1, after=spoil(cursor))


@pytest.mark.parametrize("limit", [0, -1, 1001])
def test_a_limit_out_of_range_is_refused(data: Any, limit: int) -> None:
    with pytest.raises(InvalidInput, match="limit"):
        data.users.list(limit=limit)


def test_an_upsert_makes_then_updates(data: Any) -> None:
    made = data.users.upsert(ADA)
    renamed = data.users.upsert(NewUser(github_id=7, username="countess"))

    assert renamed.id == made.id
    assert renamed.username == "countess"
    assert (renamed.email, renamed.preferences) == (made.email, made.preferences)
    assert data.users.upsert(NewUser(github_id=7, username="countess", email=None)).email is None
    assert data.users.get(made.id).row_version == made.row_version + 2


@promise("a write is visible to its own process at once")
def test_an_update_is_seen_by_the_next_read(data: Any, open_data: Any) -> None:
    elsewhere = open_data()
    user = data.users.add(ADA)
    assert elsewhere.users.get(user.id) == user

    updated = data.users.update(replace(user, email=None, preferences={}))

    assert updated.row_version == user.row_version + 1
    assert updated.updated_at > user.updated_at
    assert data.users.get(user.id) == updated == elsewhere.users.get(user.id)


@promise("`update` raises VersionConflict if the row has changed, and writes nothing")
def test_an_update_of_what_has_changed_is_refused_and_writes_nothing(data: Any, database: Database) -> None:
    user = data.users.add(ADA)
    data.users.update(replace(user, username="first"))
    with pytest.raises(VersionConflict) as caught:
        data.users.update(replace(user, username="second"))
    assert (caught.value.record_id, caught.value.expected_version) == (user.id, user.row_version)
    assert database.psql("SELECT username FROM groundwork.users").strip() == "first"


def test_after_a_conflict_a_read_returns_the_current_row(data: Any, database: Database) -> None:
    user = data.users.add(ADA)
    data.users.get(user.id)
    # Without updating the cache, and without a drainer.
    database.psql("UPDATE groundwork.users SET username = 'elsewhere'")
    with pytest.raises(VersionConflict):
        data.users.update(replace(data.users.get(user.id), username="mine"))
    assert data.users.get(user.id).username == "elsewhere"


def test_a_deleted_user_is_gone(data: Any, database: Database) -> None:
    user = data.users.add(ADA)
    data.users.get(user.id)
    data.users.delete(user.id)
    assert data.users.find(user.id) is None
    assert database.psql("SELECT count(*) FROM groundwork.users").strip() == "0"
    with pytest.raises(NotFound):
        data.users.update(user)


BAD_USERS = {
    "NUL in text": (NewUser(github_id=1, username="a\0b"), "username"),
    "lone surrogate": (NewUser(github_id=1, username="a", email="\ud800"), "email"),
    "no name": (NewUser(github_id=1, username=""), "username"),
    "number too large": (NewUser(github_id=2**63, username="a"), "github_id"),
    "number not positive": (NewUser(github_id=0, username="a"), "github_id"),
    "NUL deep in JSON": (NewUser(github_id=1, username="a", preferences={"k": [{"x\0": 1}]}), "preferences"),
    "NaN": (NewUser(github_id=1, username="a", preferences={"k": float("nan")}), "preferences"),
    "no JSON": (NewUser(github_id=1, username="a", preferences={"k": object()}), "preferences"),
    "JSON number too large": (NewUser(github_id=1, username="a", preferences={"k": 2**63}), "preferences"),
}


def nested(depth: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(depth - 1):
        value = {"k": value}
    return value


def test_bad_input_is_refused_before_it_is_sent(data: Any, database: Database) -> None:
    deep = NewUser(github_id=1, username="a", preferences=nested(10_000))
    for case, (user, field) in {**BAD_USERS, "JSON nested 10,000 deep": (deep, "preferences")}.items():
        with pytest.raises(InvalidInput) as caught:
            data.users.add(user)
        assert caught.value.field.startswith(field), case
        assert caught.value.sqlstate is None, case
    assert database.psql("SELECT count(*) FROM groundwork.users").strip() == "0"


def test_values_just_within_the_limits_are_returned_unchanged(data: Any) -> None:
    user = data.users.add(
        NewUser(
            github_id=2**63 - 1,
            username="'; DROP TABLE users; --",
            email="é" * 500_000,
            preferences={
                "n": [-(2**63), 2**63 - 1, 9_999_999_999_999_998.0, True, None],
                "deep": nested(63),
                '"': "\\u0000",
            },
        )
    )
    assert data.users.get(user.id) == user == data.users.get(user.id)


def _pages(data: Any, limit: int) -> list[list[Any]]:
    pages, after = [], None
    while True:
        page = data.users.list(limit=limit, after=after)
        pages.append(page.items)
        if page.next is None:
            return pages
        after = page.next
