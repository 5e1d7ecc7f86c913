"""Rows that are deleted and inserted again under the same id: the outbox ends reads of the deleted row."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from db.errors import VersionConflict
from db.migrator import read_source, revert
from db.models import NewOrganization, NewRepository, NewUser, User
from tests.conftest import Database
from tests.promises import promise

AGAIN = (
    "BEGIN; DELETE FROM groundwork.users WHERE id = {id};"
    " INSERT INTO groundwork.users (id, github_id, username{column})"
    " OVERRIDING SYSTEM VALUE VALUES ({id}, 7, 'again'{value}); COMMIT"
)
TRUNCATE = "TRUNCATE groundwork.users CASCADE"


def cached_user(data: Any, updates: int) -> User:
    """Add a user, update it this often, and return it from the cache."""
    user = data.users.get(data.users.add(NewUser(github_id=7, username="ada")).id)
    for number in range(updates):
        user = data.users.update(replace(user, username=f"ada{number}"))
    cached = data.users.get(user.id)
    data.outbox.drain()
    assert cached == user
    return user


@promise("a row deleted and inserted again under the same id is read correctly once the outbox is processed")
@pytest.mark.parametrize("updates", [0, 3])
@pytest.mark.parametrize(("column", "value"), [("", ""), (", row_version", ", 1"), (", row_version", ", 99")])
def test_a_row_inserted_again_is_read_after_the_outbox_is_drained(
    data: Any, database: Database, updates: int, column: str, value: str
) -> None:
    old = cached_user(data, updates)
    database.psql(AGAIN.format(id=old.id, column=column, value=value))
    data.outbox.drain()
    assert data.users.get(old.id).username == "again"


@promise("a row deleted and inserted again under the same id is read correctly once the outbox is processed")
def test_a_row_inserted_again_after_truncate_is_read_after_the_outbox_is_drained(
    data: Any, database: Database
) -> None:
    old = cached_user(data, 3)
    database.psql(f"{TRUNCATE}; ALTER TABLE groundwork.users ALTER id RESTART WITH {old.id}")
    database.psql("INSERT INTO groundwork.users (github_id, username) VALUES (7, 'again')")
    data.outbox.drain()
    assert data.users.get(old.id).username == "again"


@promise("a row deleted and inserted again under the same id is read correctly once the outbox is processed")
def test_truncated_rows_are_absent_after_the_outbox_is_drained(data: Any, database: Database) -> None:
    user = cached_user(data, 0)
    lab = data.organizations.add(NewOrganization(github_id=1, name="lab"))
    tool = data.repositories.add(NewRepository(github_id=1, name="lab/tool", org_id=lab.id))
    assert data.organizations.get(lab.id) == lab
    assert data.repositories.get(tool.id) == tool
    database.psql("TRUNCATE groundwork.users, groundwork.organizations, groundwork.repositories CASCADE")
    data.outbox.drain()
    assert data.users.find(user.id) is None
    assert data.organizations.find(lab.id) is None
    assert data.repositories.find(tool.id) is None


@promise("a row deleted and inserted again under the same id is read correctly once the outbox is processed")
def test_an_update_cannot_move_a_row_away_from_its_id(data: Any, database: Database) -> None:
    old = cached_user(data, 0)
    database.psql("UPDATE groundwork.users SET id = DEFAULT, username = 'moved'")
    data.outbox.drain()
    assert data.users.get(old.id).username == "moved"


@promise("a write is visible to its own process at once")
def test_a_write_to_a_row_inserted_again_is_visible_before_the_outbox_is_drained(
    data: Any, database: Database
) -> None:
    old = cached_user(data, 3)
    database.psql(AGAIN.format(id=old.id, column="", value=""))
    written = data.users.upsert(NewUser(github_id=7, username="written"))
    assert written.id == old.id
    assert data.users.get(old.id) == written


def test_update_with_a_record_of_the_deleted_row_raises_conflict(data: Any, database: Database) -> None:
    old = cached_user(data, 0)
    database.psql(AGAIN.format(id=old.id, column="", value=""))
    with pytest.raises(VersionConflict):
        data.users.update(replace(old, username="lost"))


@promise("a row deleted and inserted again under the same id is read correctly once the outbox is processed")
def test_an_entry_with_a_higher_version_than_the_row_is_dropped(data: Any, database: Database) -> None:
    """The new row of a server whose clock is behind starts below the deleted one."""
    old = cached_user(data, 0)
    database.psql("ALTER TABLE groundwork.users DISABLE TRIGGER users_start_version")
    database.psql(AGAIN.format(id=old.id, column="", value=""))
    data.outbox.drain()
    assert data.users.get(old.id).username == "again"


@promise(
    "a row deleted and inserted again under the same id is read correctly once the outbox is processed",
    control=True,
)
@pytest.mark.parametrize("by_truncate", [False, True])
def test_with_versions_that_start_at_1_the_deleted_row_stays_cached(
    data: Any, database: Database, by_truncate: bool
) -> None:
    """The negative control: the schema before migration 10."""
    revert(database.url("migrator"), read_source(), target=9)
    old = cached_user(data, 0)
    database.psql(TRUNCATE if by_truncate else AGAIN.format(id=old.id, column="", value=""))
    data.outbox.drain()
    assert data.users.get(old.id) == old
