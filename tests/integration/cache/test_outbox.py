"""Writes that bypass the data access: triggers record them in the outbox, and draining it corrects reads."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
from msgspec.structs import replace

from cache.keys import EntityKeys
from db.errors import Unavailable
from db.models import USER_SCHEMA, NewOrganization, NewUser
from tests.conftest import Database
from tests.integration.data_access import cache_settings, data_access, database_settings
from tests.promises import promise

ADA = NewUser(github_id=7, username="ada")
LAB = NewOrganization(github_id=1, name="lab")


def waiting(database: Database) -> int:
    return int(database.psql("SELECT count(*) FROM groundwork.cache_outbox"))


@promise("a row changed by plain SQL is read correctly within 2 s")
@pytest.mark.parametrize(
    "sql", ["UPDATE groundwork.users SET username = 'elsewhere'", "DELETE FROM groundwork.users"]
)
def test_a_row_changed_by_plain_sql_is_stale_until_the_outbox_is_drained(
    data: Any, database: Database, sql: str
) -> None:
    user = data.users.get(data.users.add(ADA).id)
    database.psql(sql)
    # Without a drainer the stale entry is served. The next line ends that.
    assert data.users.find(user.id) == user
    data.outbox.drain()
    assert data.users.find(user.id) != user
    assert waiting(database) == 0


def test_an_absence_is_ended_by_an_insert_from_elsewhere(data: Any, database: Database) -> None:
    first = data.users.add(ADA)
    assert data.users.find(first.id + 1) is None
    database.psql("INSERT INTO groundwork.users (github_id, username) VALUES (8, 'grace')")
    data.outbox.drain()
    assert data.users.get(first.id + 1).username == "grace"


def test_what_the_write_itself_updated_stays_cached(data: Any, redis_as_ops: Any, namespace: str) -> None:
    user = data.users.get(data.users.add(ADA).id)
    updated = data.users.update(replace(user, username="countess"))
    assert data.outbox.drain() == 2
    cached = redis_as_ops.get(EntityKeys(namespace, "user", USER_SCHEMA).value(user.id))
    assert int(cached.split(b":")[1]) == updated.row_version


def test_entries_of_the_next_release_are_invalidated_too(
    data: Any, redis_as_ops: Any, namespace: str
) -> None:
    user = data.users.add(ADA)
    key = EntityKeys(namespace, "user", USER_SCHEMA + 1).value(user.id)
    redis_as_ops.set(key, b"0:of another release", ex=60)
    data.outbox.drain()
    assert redis_as_ops.exists(key) == 0


def test_more_than_a_batch_is_drained_at_once(data: Any, database: Database) -> None:
    database.psql(
        "INSERT INTO groundwork.users (github_id, username)"
        " SELECT n, 'user' || n FROM generate_series(1, 1200) n"
    )
    assert data.outbox.measure()[0] == 1200
    assert data.outbox.drain() == 1200
    assert data.outbox.measure() == (0, 0.0)


def test_a_batch_is_of_a_bounded_number_and_the_last_one_is_smaller(data: Any, database: Database) -> None:
    database.psql(
        "INSERT INTO groundwork.users (github_id, username)"
        " SELECT n, 'user' || n FROM generate_series(1, 600) n"
    )
    assert [data.outbox.drain_batch() for _ in range(3)] == [500, 100, 0]
    assert waiting(database) == 0


def test_entries_that_are_not_cached_are_drained_too(data: Any, database: Database) -> None:
    database.psql("INSERT INTO groundwork.organizations (github_id, name) VALUES (1, 'acme')")
    assert data.outbox.drain() == 1
    assert waiting(database) == 0


@promise("a row changed by plain SQL is read correctly within 2 s")
def test_a_locked_table_does_not_delay_other_entities(data: Any, database: Database) -> None:
    user = data.users.get(data.users.add(ADA).id)
    lab = data.organizations.get(data.organizations.add(LAB).id)
    database.psql("UPDATE groundwork.users SET username = 'elsewhere'")
    database.psql("UPDATE groundwork.organizations SET name = 'elsewhere'")
    with psycopg.connect(database.url("app")) as connection:
        connection.execute("LOCK TABLE users IN ACCESS EXCLUSIVE MODE")
        assert data.outbox.drain() == 4
        assert data.organizations.get(lab.id).name == "elsewhere"
        # The next sweeps do not wait for the table again.
        database.psql("UPDATE groundwork.organizations SET name = 'renamed again'")
        database.psql(f"INSERT INTO groundwork.cache_outbox (entity, entity_id) VALUES ('user', {user.id})")
        for _ in range(3):
            data.outbox.drain()
        assert data.organizations.get(lab.id).name == "renamed again"
        waiting_for_lock = "wait_event_type = 'Lock' AND datname = current_database()"
        assert int(database.psql(f"SELECT count(*) FROM pg_stat_activity WHERE {waiting_for_lock}")) <= 1
    assert data.users.get(user.id).username == "elsewhere"
    assert waiting(database) == 0


@promise("a row changed by plain SQL is read correctly within 2 s")
def test_a_table_that_was_dropped_does_not_block_other_entities(data: Any, database: Database) -> None:
    lab = data.organizations.get(data.organizations.add(LAB).id)
    user = data.users.get(data.users.add(ADA).id)
    database.psql("UPDATE groundwork.organizations SET name = 'elsewhere'")
    database.psql("UPDATE groundwork.users SET username = 'elsewhere'")
    database.psql("ALTER TABLE groundwork.organizations RENAME TO dropped")
    assert data.outbox.drain() == 4
    assert waiting(database) == 0
    assert data.users.get(user.id).username == "elsewhere"
    database.psql("ALTER TABLE groundwork.dropped RENAME TO organizations")
    assert data.organizations.get(lab.id).name == "elsewhere"


@promise("the outbox keeps its entries while Redis is unavailable")
def test_while_redis_is_down_the_entries_stay(flavour: str, database: Database, namespace: str) -> None:
    nobody = cache_settings("redis://app:x@localhost:1/0", namespace)
    with data_access(flavour, database_settings(database.url("app")), nobody) as data:
        data.users.add(ADA)
        with pytest.raises(Unavailable, match="stay in the outbox"):
            data.outbox.drain()
    assert waiting(database) == 1
