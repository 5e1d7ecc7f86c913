"""Tests that every entity of db/entities.py must pass. The values are those of tests/entities."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
import redis
from msgspec import UNSET
from msgspec.structs import asdict, replace

from db import DataAccess
from db.entities import ENTITIES, Entity
from db.errors import InvalidInput, NotFound, TransactionRequired, VersionConflict
from tests.conftest import Connect, Connection, Database
from tests.containers import Server
from tests.entities import ROWS, Case, case_of
from tests.integration.data_access import cache_settings, database_settings
from tests.promises import promise


@pytest.fixture(params=ENTITIES, ids=lambda entity: entity.name)
def entity(request: pytest.FixtureRequest) -> Entity:
    found: Entity = request.param
    return found


@pytest.fixture
def case(entity: Entity) -> Case:
    return case_of(entity)


@pytest.fixture
def near_entries() -> int:
    """Without a near cache, so that the second read of a record is answered by Redis."""
    return 0


@pytest.fixture
def records(entity: Entity, data: Any, connect: Connect) -> Any:
    """The entity's repository. Each table that it may refer to has a row with id 1."""
    insert_rows_before(entity, connect("app"))
    return getattr(data, entity.plural)


def insert_rows_before(entity: Entity, app: Connection) -> None:
    for each in ENTITIES[: ENTITIES.index(entity)]:
        app.execute(ROWS[each.plural].encode())


def fields(record: Any, case: Case) -> dict[str, Any]:
    return {name: value for name, value in asdict(record).items() if name in case.values}


def required(case: Case) -> set[str]:
    return {field.name for field in msgspec.structs.fields(case.new) if field.required}


def test_the_values_name_every_field(entity: Entity, case: Case) -> None:
    names = {field.name for field in msgspec.structs.fields(case.new)}
    assert set(case.values) == set(case.others) == names


@promise("a record from Redis is equal to the same record from Postgres, whatever the types of its fields")
@pytest.mark.parametrize("which", ["values", "others"])
def test_a_record_from_redis_equals_the_one_from_postgres(
    entity: Entity, case: Case, records: Any, database: Database, which: str
) -> None:
    given = getattr(case, which)
    added = records.add(case.new(**given))
    assert fields(added, case) == dict(given)
    assert records.get(added.id) == added
    # No access service runs here, so the entry stays.
    database.psql(f"SET session_replication_role = replica; DELETE FROM groundwork.{entity.plural}")
    from_redis = records.get(added.id)
    assert from_redis == added
    assert {name: type(value) for name, value in asdict(from_redis).items()} == {
        name: type(value) for name, value in asdict(added).items()
    }
    assert records.get_many([added.id]) == [added]


@promise("a record from Redis is equal to the same record from Postgres, whatever the types of its fields")
def test_an_updated_record_is_the_same_everywhere(
    entity: Entity, case: Case, records: Any, database: Database
) -> None:
    added = records.add(case.new(**case.values))
    records.get(added.id)
    updated = records.update(replace(added, **case.others))
    assert fields(updated, case) == dict(case.others)
    assert updated.row_version == added.row_version + 1
    assert records.get(added.id) == updated == records.list().items[0]
    database.psql(f"SET session_replication_role = replica; DELETE FROM groundwork.{entity.plural}")
    assert records.get(added.id) == updated


def test_an_update_of_an_old_version_is_a_conflict(case: Case, records: Any) -> None:
    added = records.add(case.new(**case.values))
    records.update(replace(added, **case.others))
    with pytest.raises(VersionConflict):
        records.update(added)


@promise("`patch` changes the given fields only, without reading the record first")
def test_each_field_can_be_patched_alone(case: Case, records: Any) -> None:
    expected = records.get(records.add(case.new(**case.values)).id)
    for name, value in case.others.items():
        patched = records.patch(expected.id, **{name: value})
        expected = replace(
            expected, **{name: value}, row_version=expected.row_version + 1, updated_at=patched.updated_at
        )
        assert patched == expected == records.get(expected.id), name
        with pytest.raises(InvalidInput, match=name):
            records.patch(expected.id, **{name: object()})
    with pytest.raises(VersionConflict):
        records.patch(expected.id, row_version=1, **case.values)
    assert fields(records.patch(expected.id, **case.values), case) == dict(case.values)
    with pytest.raises(InvalidInput):
        records.patch(expected.id)


def test_a_record_is_locked_only_in_a_transaction(
    entity: Entity, case: Case, records: Any, database: Database, namespace: str, redis_server: Server
) -> None:
    added = records.add(case.new(**case.values))
    with pytest.raises(TransactionRequired):
        records.lock(added.id)
    settings = (
        database_settings(database.url("app")),
        cache_settings(redis_server.redis_url("app"), namespace),
    )
    with DataAccess(*settings) as sync, sync.transaction():
        assert getattr(sync, entity.plural).lock(added.id) == added


def test_a_deleted_record_is_not_found(case: Case, records: Any) -> None:
    added = records.add(case.new(**case.values))
    assert records.get(added.id) == added
    assert (records.count(), records.exists(added.id)) == (1, True)
    records.delete(added.id)
    assert (records.count(), records.exists(added.id)) == (0, False)
    with pytest.raises(NotFound):
        records.get(added.id)
    assert records.delete_many([added.id]) == 0


def test_each_field_refuses_a_value_of_another_type(case: Case, records: Any) -> None:
    for name in case.values:
        with pytest.raises(InvalidInput, match=name):
            records.add(case.new(**{**case.values, name: object()}))


def test_fields_left_out_are_added_and_read_back(case: Case, records: Any) -> None:
    added = records.add(case.new(**{name: case.values[name] for name in required(case)}))
    assert records.get(added.id) == records.get(added.id) == added
    assert not any(value is UNSET for value in asdict(added).values())


def test_a_natural_key_identifies_a_record(case: Case, records: Any) -> None:
    if not case.key:
        assert not hasattr(records, "upsert")
        pytest.skip("the entity has no natural key")
    first = records.upsert(case.new(**case.values))
    again = records.upsert(case.new(**{name: case.values[name] for name in required(case)}))
    assert (again.id, fields(again, case)) == (first.id, dict(case.values))
    assert getattr(records, f"get_by_{case.key}")(case.values[case.key]) == again
    assert getattr(records, f"find_by_{case.key}")(case.others[case.key]) is None
    both = records.upsert_many([case.new(**case.others), case.new(**case.values)])
    assert [fields(record, case) for record in both] == [dict(case.others), dict(case.values)]
    assert both[1].id == first.id
    records.delete(both[0].id)
    with pytest.raises(NotFound, match=case.key):
        getattr(records, f"get_by_{case.key}")(case.others[case.key])


def test_listings_return_the_records_of_a_reference(case: Case, records: Any) -> None:
    added = records.add(case.new(**case.values))
    for method, field in case.listings.items():
        list_by = getattr(records, method)
        expected = [] if case.values[field] is None else [added]
        assert (list_by(1).items, list_by(2).items) == (expected, []), method


@promise("every committed write records in the outbox what it made stale, whoever writes")
def test_each_write_records_the_row_in_the_outbox(entity: Entity, connect: Connect) -> None:
    app, table = connect("app"), entity.plural

    def select(statement: str) -> list[tuple[object, ...]]:
        return app.execute(statement.encode()).fetchall()

    insert_rows_before(entity, app)
    for login, statement in (
        ("app", ROWS[table]),
        ("app", f"UPDATE {table} SET row_version = 0"),
        ("migrator", f"TRUNCATE {table} CASCADE"),
        ("app", ROWS[table]),
        ("app", f"DELETE FROM {table}"),
    ):
        stale = set(select(f"SELECT id FROM {table}"))
        app.execute("DELETE FROM cache_outbox")
        connect(login).execute(statement.encode())
        stale |= set(select(f"SELECT id FROM {table}"))
        assert len(stale) == 1
        recorded = select(f"SELECT entity_id FROM cache_outbox WHERE entity = '{entity.name}'")
        assert set(recorded) == stale, statement


@promise("the database maintains version and timestamps, whatever an UPDATE sets")
@promise("a new row never starts at a row_version that an earlier row of its id had")
def test_the_database_maintains_the_row_version(entity: Entity, connect: Connect) -> None:
    app, table = connect("app"), entity.plural
    insert_rows_before(entity, app)
    app.execute(ROWS[table].encode())
    ((version,),) = app.execute(f"SELECT row_version FROM {table}".encode()).fetchall()
    assert isinstance(version, int)
    assert version > 10**15
    app.execute(f"UPDATE {table} SET row_version = 0, created_at = '2000-01-01'".encode())
    assert app.execute(f"SELECT row_version, created_at > '2001-01-01' FROM {table}".encode()).fetchall() == [
        (version + 1, True)
    ]


@pytest.mark.parametrize("is_deleted", [False, True])
def test_the_drainer_invalidates_the_entity(
    entity: Entity, case: Case, data: Any, records: Any, connect: Connect, redis_as_ops: redis.Redis, namespace: str,
    is_deleted: bool,
) -> None:  # fmt: skip
    added = records.add(case.new(**case.values))
    records.get(added.id)
    data.outbox.drain()
    keys = list(redis_as_ops.scan_iter(match=f"gw:{namespace}:v*:{entity.name}:*"))
    assert len(keys) == 1, "the drainer keeps an entry of the current version"
    change = "DELETE FROM {}" if is_deleted else "UPDATE {} SET row_version = 0"
    connect("app").execute(change.format(entity.plural).encode())
    data.outbox.drain()
    assert not redis_as_ops.exists(*keys)
