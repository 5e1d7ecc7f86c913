"""The methods that all kinds of records share, with real servers: one suite for all kinds."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest
import redis
from msgspec.structs import replace

from db import validation
from db.errors import (
    ConstraintViolated,
    IdempotencyKeyReused,
    InvalidCursor,
    InvalidInput,
    NotFound,
    VersionConflict,
)
from db.models import NewActivity, NewOrganization, NewRepository, NewUser
from db.validation import JSON_BYTES, JSON_VALUES, TEXT_BYTES
from tests.cases import in_case
from tests.conftest import Database
from tests.containers import wait_until
from tests.integration.data_access import Blocking
from tests.promises import promise


@dataclass(frozen=True)
class Kind:
    """How the tests create a record of one kind, and how they change one of its fields."""

    plural: str
    make: Callable[..., Any]
    field: str
    before: object
    after: object
    text_field: str


class Roman(int):
    """An integer whose text is not its number, as of a member of an Enum."""

    def __str__(self) -> str:
        return "VII"


KINDS = {
    "users": Kind("users", lambda n, **known: NewUser(github_id=n, username=f"u{n}", **known),
                  "email", "a@example.org", "b@example.org", "username"),
    "organizations": Kind("organizations", lambda n, **known: NewOrganization(github_id=n, name=f"o{n}", **known),
                          "member_count", 3, 4, "name"),
    "repositories": Kind("repositories", lambda n, **known: NewRepository(github_id=n, name=f"o/r{n}", **known),
                         "stars", 10, 11, "name"),
}  # fmt: skip


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    return KINDS[request.param]


@pytest.fixture
def records(kind: Kind, data: Any) -> Any:
    return getattr(data, kind.plural)


@promise("a record is the same whether Postgres or Redis returns it")
def test_a_record_comes_back_equal_from_postgres_and_from_redis(kind: Kind, records: Any) -> None:
    added = records.add(kind.make(7, **{kind.field: kind.before}))
    assert getattr(added, kind.field) == kind.before
    assert added == records.get(added.id) == records.get(added.id) == records.find(added.id)
    assert added == records.get_by_github_id(7) == records.find_by_github_id(7)


def test_a_taken_github_id_is_refused(kind: Kind, records: Any) -> None:
    records.add(kind.make(7))
    with pytest.raises(ConstraintViolated, match=f"{kind.plural}_github_id_key"):
        records.add(kind.make(7))


def test_what_is_not_there_is_not_found(kind: Kind, records: Any) -> None:
    assert records.find(4711) is None
    assert records.find_by_github_id(4711) is None
    for call in (records.get, records.get_by_github_id, records.delete):
        with pytest.raises(NotFound, match="4711"):
            call(4711)


def _iterated(records: Any, **options: Any) -> list[Any]:
    """Return what `iterate` yields."""
    if not isinstance(records, Blocking):
        return [*records.iterate(**options)]

    async def collect() -> list[Any]:
        return [record async for record in records._target.iterate(**options)]

    return list(records._wait(collect()))


@promise("`iterate` yields every record exactly once, and reads page by page")
def test_iterate_yields_every_record_once(kind: Kind, records: Any) -> None:
    assert _iterated(records) == []
    added = [records.add(kind.make(n)) for n in range(1, 6)]
    for page_size in (1, 2, 5, 500):
        assert _iterated(records, page_size=page_size) == added
    with pytest.raises(InvalidInput, match="limit"):
        _iterated(records, page_size=0)


@promise("`iterate` yields every record exactly once, and reads page by page")
def test_iterate_yields_every_activity_once(data: Any) -> None:
    user = data.users.add(NewUser(github_id=1, username="x"))
    new = NewActivity(user_id=user.id, type="x", timestamp=datetime.now(UTC))
    added = [data.activities.add(new) for _ in range(5)]
    for page_size in (2, 5, 500):
        assert _iterated(data.activities, page_size=page_size) == added[::-1]


@promise("`iterate` yields every record exactly once, and reads page by page")
def test_iterate_reads_no_page_before_it_is_needed(data: Any, database: Database) -> None:
    database.psql(
        "INSERT INTO groundwork.users (github_id, username) SELECT n, 'x' FROM generate_series(1, 100) AS n"
    )
    is_async = isinstance(data.users, Blocking)
    target = data.users._target if is_async else data.users
    users = target.iterate(page_size=10)
    first = data.users._wait(anext(users)) if is_async else next(users)
    assert first.id == 1
    database.psql("DELETE FROM groundwork.users WHERE id > 10")

    async def rest() -> list[Any]:
        return [user async for user in users]

    left = data.users._wait(rest()) if is_async else [*users]
    assert [user.id for user in left] == [*range(2, 11)]


def test_count_and_exists_follow_the_table(kind: Kind, records: Any, database: Database) -> None:
    assert records.count() == 0
    first = records.add(kind.make(1))
    assert (records.count(), records.exists(first.id), records.exists(first.id + 1)) == (1, True, False)
    second = records.add(kind.make(2))
    assert (records.count(), records.exists(second.id)) == (2, True)
    records.delete(first.id)
    assert (records.count(), records.exists(first.id)) == (1, False)
    with pytest.raises(InvalidInput):
        records.exists("1")


@promise("a write is visible to its own process at once")
def test_delete_many_deletes_and_invalidates_only_these(kind: Kind, records: Any) -> None:
    one, two, three = (records.get(records.add(kind.make(n)).id) for n in (1, 2, 3))
    assert records.delete_many([]) == 0
    assert records.delete_many([three.id, one.id, 4711, one.id]) == 2
    assert records.get_many([one.id, two.id, three.id]) == [None, two, None]
    assert records.delete_many([one.id]) == 0
    with pytest.raises(InvalidInput):
        records.delete_many([two.id, None])
    assert records.get(two.id) == two


@promise("a write is visible to its own process at once")
def test_upsert_many_inserts_updates_and_invalidates(kind: Kind, records: Any) -> None:
    assert records.upsert_many([]) == []
    old = records.get(records.add(kind.make(2, **{kind.field: kind.before})).id)
    assert records.find(old.id + 1) is None
    written = records.upsert_many(
        [
            kind.make(3, **{kind.field: kind.after}),
            kind.make(2, **{kind.field: kind.after}),
            kind.make(1),
        ]
    )
    assert [record.github_id for record in written] == [3, 2, 1]
    assert (written[1].id, getattr(written[1], kind.field)) == (old.id, kind.after)
    assert written[1].row_version == old.row_version + 1
    assert records.get_many([record.id for record in written]) == written


@promise("`upsert` keeps the fields that are left out")
def test_upsert_many_keeps_the_fields_that_each_record_leaves_out(kind: Kind, records: Any) -> None:
    for n in (1, 2):
        records.add(kind.make(n, **{kind.field: kind.before}))
    kept, changed = records.upsert_many([kind.make(1), kind.make(2, **{kind.field: kind.after})])
    assert (getattr(kept, kind.field), getattr(changed, kind.field)) == (kind.before, kind.after)


def test_upsert_many_stores_all_or_nothing(kind: Kind, records: Any) -> None:
    with pytest.raises(InvalidInput, match="github_id 1 twice"):
        records.upsert_many([kind.make(1), kind.make(2), kind.make(1)])
    with pytest.raises(InvalidInput):
        records.upsert_many([kind.make(1), kind.make(0)])
    assert records.count() == 0


def test_upsert_many_refuses_records_that_are_too_large_together(
    data: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(validation, "JSON_BYTES", 1000)
    small = [NewUser(github_id=n, username="a" * 300) for n in (1, 2)]
    large = [NewUser(github_id=n, username="b", email="x" * 300) for n in (3, 4, 5)]
    with (
        caplog.at_level("DEBUG", "groundwork.db.query"),
        pytest.raises(InvalidInput, match=r"records: .* bytes of JSON are too many; use up to 1000 at once"),
    ):
        data.users.upsert_many(small + large)
    assert not [each for each in caplog.records if each.__dict__.get("query") == "upsert_users"]
    assert len(data.users.upsert_many(small + large[:2])) == 4


def test_json_with_the_most_values_is_stored_and_larger_json_is_refused(data: Any) -> None:
    user = data.users.add(NewUser(github_id=1, username="ada"))
    largest = {str(n): "x" * (TEXT_BYTES - 20) for n in range(JSON_BYTES // TEXT_BYTES)}
    many = {"k": [0] * (JSON_VALUES - 2)}
    assert data.users.patch(user.id, preferences=many).preferences == many
    with pytest.raises(InvalidInput, match=r"preferences: .* bytes of JSON are too many"):
        data.users.patch(user.id, preferences=largest | {"k": "x" * 100})
    with pytest.raises(InvalidInput, match=r"preferences: 200001 values in JSON are too many"):
        data.users.patch(user.id, preferences={"k": [0] * (JSON_VALUES - 1)})


def test_upsert_many_stores_nothing_if_a_later_statement_fails(data: Any) -> None:
    orphan = NewRepository(github_id=2, name="o/orphan", org_id=4711)
    with pytest.raises(ConstraintViolated):
        data.repositories.upsert_many([NewRepository(github_id=1, name="o/r"), orphan])
    assert data.repositories.count() == 0


def test_upsert_many_stores_the_values_that_add_stores(data: Any) -> None:
    preferences = {
        "quote'": 'a"b\\',
        "n": [1, None, 2.5, {"deep": True}],
        "\u00fc": "\U0001f600",
        "big": 2**62,
    }
    one = NewUser(github_id=1, username="\u00fc'\n\t", email=None, preferences=preferences)
    (stored,) = data.users.upsert_many([one])
    assert (stored.username, stored.email, stored.preferences) == (one.username, None, preferences)
    assert data.users.get(stored.id) == stored


@promise("`get_many` returns records in the requested order")
def test_many_are_returned_in_the_requested_order(kind: Kind, records: Any) -> None:
    first, second, third = (records.add(kind.make(n)) for n in (1, 2, 3))
    asked = [third.id, 4711, first.id, second.id, third.id]
    for _ in range(2):
        assert records.get_many(asked) == [third, None, first, second, third]


@promise("the pages of a listing contain every record exactly once")
def test_pages_hold_every_record_once(kind: Kind, records: Any) -> None:
    added = [records.add(kind.make(n)) for n in range(1, 6)]
    first = records.list(limit=3)
    second = records.list(limit=3, after=first.next)
    assert first.items + second.items == added
    assert second.next is None


@promise("`upsert` keeps the fields that are left out")
def test_an_upsert_keeps_what_is_left_out(kind: Kind, records: Any) -> None:
    made = records.upsert(kind.make(7, **{kind.field: kind.before}))
    renamed = records.upsert(replace(kind.make(7), **{kind.text_field: "other"}))
    assert renamed.id == made.id
    assert getattr(renamed, kind.field) == kind.before
    assert getattr(renamed, kind.text_field) == "other"
    changed = records.upsert(kind.make(7, **{kind.field: kind.after}))
    assert getattr(changed, kind.field) == kind.after
    assert records.get(made.id) == changed


@promise("`update` raises VersionConflict if the row has changed, and writes nothing")
def test_an_update_of_what_has_changed_is_refused(kind: Kind, records: Any) -> None:
    read = records.add(kind.make(7))
    records.get(read.id)
    updated = records.update(replace(read, **{kind.field: kind.after}))
    assert updated.row_version == read.row_version + 1
    assert records.get(read.id) == updated
    with pytest.raises(VersionConflict, match=f"{read.id} is no longer at row version 1"):
        records.update(replace(read, **{kind.field: kind.before}))
    assert records.get(read.id) == updated


@promise("`patch` changes the given fields only, without reading the record first")
@promise("a write is visible to its own process at once")
def test_a_patch_changes_only_the_given_fields(kind: Kind, records: Any, caplog: Any) -> None:
    read = records.get(records.add(kind.make(7, **{kind.field: kind.before})).id)
    with caplog.at_level("DEBUG", "groundwork.db.query"):
        patched = records.patch(read.id, **{kind.field: kind.after})
    assert [record.query for record in caplog.records] == ["patch_" + type(read).__name__.lower()]
    expected = {kind.field: kind.after, "row_version": read.row_version + 1, "updated_at": patched.updated_at}
    assert patched == replace(read, **expected)
    assert records.get(read.id) == patched == records.get_by_github_id(7)
    both = records.patch(read.id, **{kind.field: kind.before, kind.text_field: "other"})
    assert (getattr(both, kind.field), getattr(both, kind.text_field)) == (kind.before, "other")
    assert records.patch(read.id, github_id=9).github_id == 9
    assert records.get(read.id) == records.get_by_github_id(9)


@promise("`patch` changes the given fields only, without reading the record first")
def test_patches_of_two_fields_at_once_are_both_kept(kind: Kind, records: Any, database: Database) -> None:
    added = records.add(kind.make(7, **{kind.field: kind.before}))
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    with psycopg.connect(database.url("app")) as other, ThreadPoolExecutor(1) as thread:
        change = f"UPDATE {kind.plural} SET {kind.text_field} = 'first' WHERE id = {added.id}"
        other.execute(change.encode())
        patching = thread.submit(records.patch, added.id, **{kind.field: kind.after})
        wait_until(lambda: database.psql(waiting).strip() == "1")
        other.commit()
        patched = patching.result(30)
    assert (getattr(patched, kind.text_field), getattr(patched, kind.field)) == ("first", kind.after)
    assert records.get(added.id) == patched


@promise("`patch` with a row_version raises VersionConflict if the row has another one")
def test_a_patch_of_what_has_changed_is_refused(kind: Kind, records: Any) -> None:
    read = records.get(records.add(kind.make(7)).id)
    patched = records.patch(read.id, row_version=read.row_version, **{kind.field: kind.after})
    assert patched.row_version == read.row_version + 1
    with pytest.raises(VersionConflict, match=f"{read.id} is no longer at row version 1"):
        records.patch(read.id, row_version=read.row_version, **{kind.field: kind.before})
    assert records.get(read.id) == patched
    for expected in ({}, {"row_version": read.row_version}):
        with pytest.raises(NotFound, match="4711"):
            records.patch(4711, **expected, **{kind.field: kind.after})


def test_a_refused_patch_removes_a_stale_entry(kind: Kind, records: Any, database: Database) -> None:
    for n, expected in enumerate(({}, {"row_version": 1}), start=1):
        read = records.get(records.add(kind.make(n)).id)
        database.psql(f"DELETE FROM groundwork.{kind.plural} WHERE id = {read.id}")
        assert records.find(read.id) == read
        with pytest.raises(NotFound):
            records.patch(read.id, **expected, **{kind.field: kind.after})
        assert records.find(read.id) is None


@pytest.mark.parametrize("is_deleted", [False, True])
def test_a_refused_write_under_a_key_removes_a_stale_entry(
    kind: Kind, records: Any, database: Database, is_deleted: bool
) -> None:
    change = f"DELETE FROM groundwork.{kind.plural}"
    if not is_deleted:
        change = f"UPDATE groundwork.{kind.plural} SET {kind.text_field} = 'changed'"
    ways: tuple[Callable[[Any], Any], ...] = (
        lambda read: records.update(read, idempotency_key=f"u{read.id}"),
        lambda read: records.patch(
            read.id, row_version=read.row_version, idempotency_key=f"p{read.id}", **{kind.field: kind.after}
        ),
    )
    for n, write in enumerate(ways, start=1):
        read = records.get(records.add(kind.make(n)).id)
        database.psql(f"{change} WHERE id = {read.id}")
        assert records.find(read.id) == read
        with in_case(n), pytest.raises((NotFound, VersionConflict)):
            write(read)
        assert records.find(read.id) != read


def test_a_patch_without_a_field_or_with_a_bad_value_changes_nothing(
    kind: Kind, records: Any, database: Database
) -> None:
    added = records.add(kind.make(7))
    text = kind.text_field
    bad: list[dict[str, Any]] = [
        {},
        {"row_version": added.row_version},
        *({"github_id": number} for number in (0, 2**63, True, None)),
        *({text: value} for value in ("a\0b", "\ud800", "", None, 7)),
        {kind.field: kind.after, text: ""},
        {kind.field: kind.after, "row_version": "1"},
        {kind.field: object()},
    ]
    for changes in bad:
        with pytest.raises(InvalidInput):
            records.patch(added.id, **changes)
    with pytest.raises(InvalidInput):
        records.patch("7", **{kind.field: kind.after})
    with pytest.raises(TypeError):
        records.patch(added.id, id=8)
    assert records.get(added.id) == added


def test_a_patch_that_would_violate_a_constraint_is_refused(kind: Kind, records: Any) -> None:
    records.add(kind.make(7))
    other = records.add(kind.make(8))
    with pytest.raises(ConstraintViolated, match=f"{kind.plural}_github_id_key"):
        records.patch(other.id, github_id=7)
    assert records.get(other.id) == other


@promise("a write with an idempotency key is applied once, however often it is sent")
def test_a_patch_under_a_key_is_done_once(kind: Kind, records: Any) -> None:
    added = records.add(kind.make(7))
    first = records.patch(added.id, idempotency_key="k", **{kind.field: kind.before})
    later = records.patch(added.id, **{kind.field: kind.after})
    assert records.patch(added.id, idempotency_key="k", **{kind.field: kind.before}) == later
    assert (first.row_version, later.row_version) == (added.row_version + 1, added.row_version + 2)
    with pytest.raises(IdempotencyKeyReused, match=f"with id {added.id}'"):
        records.patch(records.add(kind.make(8)).id, idempotency_key="k", **{kind.field: kind.before})


def test_a_patch_sets_fields_to_none(data: Any) -> None:
    user = data.users.add(NewUser(github_id=1, username="x", email="e", preferences={"n": [1, None]}))
    assert data.users.patch(user.id, email=None).email is None
    assert data.users.get(user.id).preferences == {"n": [1, None]}
    preferences = {"quote'": 'a"b\\', "n": [None, 2.5, {"deep": True}], "\u00fc": "\U0001f600", "big": 2**62}
    assert data.users.patch(user.id, preferences=preferences).preferences == preferences
    assert data.users.get(user.id).preferences == preferences
    organization = data.organizations.add(NewOrganization(github_id=1, name="o", description="d"))
    assert data.organizations.patch(organization.id, description=None).description is None
    new = NewRepository(github_id=1, name="o/r", org_id=organization.id, language="Go", description="d")
    repository = data.repositories.add(new)
    patched = data.repositories.patch(repository.id, org_id=None, language=None)
    assert (patched.org_id, patched.language, patched.description) == (None, None, "d")


def test_a_deleted_record_is_gone_from_the_cache_too(kind: Kind, records: Any) -> None:
    added = records.get(records.add(kind.make(7)).id)
    records.delete(added.id)
    assert records.find(added.id) is None
    with pytest.raises(NotFound):
        records.update(added)


def test_a_row_changed_by_psql_is_seen_once_the_outbox_is_emptied(
    kind: Kind, records: Any, data: Any, database: Database
) -> None:
    added = records.get(records.add(kind.make(7)).id)
    data.outbox.drain()
    database.psql(f"UPDATE groundwork.{kind.plural} SET {kind.text_field} = 'psql' WHERE id = {added.id}")
    assert records.get(added.id) == added
    data.outbox.drain()
    assert getattr(records.get(added.id), kind.text_field) == "psql"


def test_bad_input_is_refused_and_nothing_is_written(kind: Kind, records: Any, database: Database) -> None:
    text = kind.text_field
    for field, value in [
        *(("github_id", number) for number in (0, 2**63, True)),
        *((text, characters) for characters in ("a\0b", "\ud800", "")),
    ]:
        for write in (records.add, records.upsert):
            with pytest.raises(InvalidInput):
                write(replace(kind.make(7), **{field: value}))
    assert database.psql(f"SELECT count(*) FROM groundwork.{kind.plural}").strip() == "0"


def test_an_id_that_is_not_a_bigint_is_refused(kind: Kind, records: Any) -> None:
    for bad in ("7", 7.0, None, True, 2**63):
        for call in (records.find, records.get, records.delete, lambda value: records.get_many([value])):
            with pytest.raises(InvalidInput, match=f"{kind.plural[:4]}"):
                call(bad)


@pytest.mark.parametrize("many", [False, True], ids=["one", "many"])
def test_an_id_of_an_int_subclass_shares_the_entry_of_its_number(
    kind: Kind, records: Any, redis_as_ops: redis.Redis, namespace: str, many: bool
) -> None:
    added = records.add(kind.make(7, **{kind.field: kind.before}))
    same = Roman(added.id)

    def is_in_one_entry() -> bool:
        assert (records.get_many([same])[0] if many else records.get(same)) == added
        keys = redis_as_ops.scan_iter(f"gw:{namespace}:*")
        return [key.partition(b"{")[2] for key in keys] == [b"%d}" % added.id]

    # A read that takes longer than its lease, 3 s, stores nothing.
    wait_until(is_in_one_entry)
    updated = records.update(replace(added, **{kind.field: kind.after}))
    assert records.get(same) == records.get(added.id) == updated
    records.delete(same)
    assert records.find(added.id) is records.find(same) is None


def test_an_id_of_an_int_subclass_is_the_same_write_under_an_idempotency_key(data: Any) -> None:
    added = data.users.add(NewUser(github_id=7, username="ada"))
    patched = data.users.patch(Roman(added.id), username="countess", idempotency_key="k")
    assert data.users.patch(added.id, username="countess", idempotency_key="k") == patched


def test_ids_may_come_from_an_iterator(kind: Kind, records: Any) -> None:
    first, second = (records.get(records.add(kind.make(n)).id) for n in (7, 8))
    assert records.get_many(iter([second.id, first.id])) == [second, first]
    assert records.get_many(each.id for each in (first, second)) == [first, second]
    assert records.get_many(iter([])) == []
    assert records.delete_many(iter([first.id, second.id])) == 2


def test_a_count_out_of_range_is_refused(data: Any) -> None:
    for field in ("stars", "forks", "issues"):
        for number in (-1, 2**31):
            with pytest.raises(InvalidInput, match=field):
                data.repositories.add(NewRepository(github_id=1, name="o/r", **{field: number}))


@promise("a write with an idempotency key is applied once, however often it is sent")
def test_a_write_under_a_key_is_done_once(kind: Kind, records: Any, database: Database) -> None:
    first = records.add(kind.make(7), idempotency_key="k1")
    assert records.add(kind.make(7), idempotency_key="k1") == first
    updated = records.update(replace(first, **{kind.field: kind.after}), idempotency_key="k2")
    # Without the key this would be a VersionConflict, which does not say whose write it was.
    assert records.update(replace(first, **{kind.field: kind.after}), idempotency_key="k2") == updated
    assert records.upsert(kind.make(7), idempotency_key="k3").row_version == first.row_version + 2
    assert records.upsert(kind.make(7), idempotency_key="k3").row_version == first.row_version + 2
    with pytest.raises(IdempotencyKeyReused, match=f"was used for 'add {kind.plural[:3]}"):
        records.upsert(kind.make(7), idempotency_key="k1")
    # Nor may the key be used for another record, because the first one would be returned for it.
    other = records.add(kind.make(8))
    with pytest.raises(IdempotencyKeyReused, match="with github_id 7'"):
        records.add(kind.make(9), idempotency_key="k1")
    with pytest.raises(IdempotencyKeyReused, match=f"with id {first.id}'"):
        records.update(other, idempotency_key="k2")
    for bad in ("", "x" * 201, 7):
        with pytest.raises(InvalidInput, match="idempotency_key"):
            records.add(kind.make(9), idempotency_key=bad)
    assert database.psql(f"SELECT count(*) FROM groundwork.{kind.plural}").strip() == "2"


@promise("a rejected write does not use up its idempotency key")
def test_a_refused_write_leaves_its_key_free(kind: Kind, records: Any) -> None:
    records.add(kind.make(7))
    with pytest.raises(ConstraintViolated):
        records.add(kind.make(7), idempotency_key="k")
    assert records.add(kind.make(8), idempotency_key="k").github_id == 8


def test_repositories_are_listed_by_organization(data: Any) -> None:
    organization = data.organizations.add(NewOrganization(github_id=1, name="o"))
    mine = [
        data.repositories.add(NewRepository(github_id=n, name=f"o/r{n}", org_id=organization.id))
        for n in range(1, 4)
    ]
    data.repositories.add(NewRepository(github_id=9, name="p/r"))
    first = data.repositories.list_by_organization(organization.id, limit=2)
    second = data.repositories.list_by_organization(organization.id, limit=2, after=first.next)
    assert first.items + second.items == mine
    with pytest.raises(InvalidCursor):
        data.repositories.list_by_organization(organization.id + 1, after=first.next)


def test_repositories_are_listed_by_stars_also_where_stars_tie(data: Any) -> None:
    for n, (stars, language) in enumerate([(5, "Go"), (9, "C"), (5, "C"), (0, "C"), (5, "C")], start=1):
        data.repositories.add(NewRepository(github_id=n, name=f"o/r{n}", stars=stars, language=language))
    assert _all_pages(data.repositories.list_by_stars) == [2, 5, 3, 1, 4]
    assert _all_pages(lambda **page: data.repositories.list_by_language("C", **page)) == [2, 5, 3, 4]


def test_users_are_listed_by_name(data: Any) -> None:
    for n in (1, 2, 3):
        data.users.add(NewUser(github_id=n, username="same"))
    data.users.add(NewUser(github_id=4, username="other"))
    assert _all_pages(lambda **page: data.users.list_by_username("same", **page)) == [1, 2, 3]


@promise("users are listed by name without regard to the case of ASCII letters")
@pytest.mark.parametrize("asked", ["octo-cat", "Octo-Cat", "OCTO-CAT"])
def test_users_are_listed_by_name_in_any_case(data: Any, asked: str) -> None:
    for n, name in enumerate(("octo-cat", "Octo-Cat", "octocat", "OCTO-CAT", "octo-cat "), start=1):
        data.users.add(NewUser(github_id=n, username=name))
    assert _all_pages(lambda **page: data.users.list_by_username(asked, **page)) == [1, 2, 4]
    first = data.users.list_by_username(asked, limit=1)
    rest = data.users.list_by_username("oCTO-cat", after=first.next)
    assert [user.id for user in rest.items] == [2, 4]


@promise("users are listed by name without regard to the case of ASCII letters")
def test_other_letters_are_compared_as_they_are(data: Any) -> None:
    # str.lower() and some locales change these to ASCII letters, or to several characters.
    names = (
        "Kelvin",
        "\u212aelvin",
        "Ilker",
        "\u0130lker",
        "\u0131lker",
        "\u00c4da",
        "\u00e4da",
        "Stra\u00dfe",
        "STRASSE",
    )
    for n, name in enumerate(names, start=1):
        data.users.add(NewUser(github_id=n, username=name))
    for n, name in enumerate(names, start=1):
        assert [user.id for user in data.users.list_by_username(name).items] == [n], name


def test_a_deleted_organization_leaves_its_repositories(data: Any) -> None:
    organization = data.organizations.add(NewOrganization(github_id=1, name="o"))
    added = data.repositories.add(NewRepository(github_id=1, name="o/r", org_id=organization.id))
    data.repositories.get(added.id)
    data.organizations.delete(organization.id)
    data.outbox.drain()
    assert data.repositories.get(added.id).org_id is None


def test_an_unknown_organization_is_refused(data: Any) -> None:
    with pytest.raises(ConstraintViolated, match="org_id"):
        data.repositories.add(NewRepository(github_id=1, name="o/r", org_id=4711))


def _all_pages(list_page: Callable[..., Any]) -> list[int]:
    github_ids: list[int] = []
    after = None
    while True:
        page = list_page(limit=2, after=after)
        github_ids += [record.github_id for record in page.items]
        after = page.next
        if after is None:
            return github_ids
