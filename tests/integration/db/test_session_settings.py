"""Settings of the environment and of the role change no result: encoding, dates, intervals, time zone, search_path."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import pq

from db.errors import Unavailable
from db.migrator import Unreachable, apply_pending, read_source, status
from db.migrator.connection import open_connection
from db.models import NewActivity, NewUser
from db.seed import load_sample_data
from db.session import PINS, connect
from tests.conftest import Database
from tests.integration.conftest import OpenData
from tests.promises import promise

MIGRATIONS = Path(__file__).parents[3] / "db/migrations"
NAME = "Ada Łovelace 李"
AT = datetime(2026, 2, 3, 4, 5, 6, 789012, tzinfo=UTC)
# Values that the server accepts, and that change results where they have an effect.
HOSTILE = {option.envvar.decode(): "hostile" for option in pq.Conninfo.get_defaults() if option.envvar} | {
    "PGCLIENTENCODING": "LATIN1",
    "PGOPTIONS": "-c search_path=public -c datestyle=German -c default_transaction_read_only=on",
    "PGTZ": "Asia/Kathmandu",
    "PGDATESTYLE": "SQL, DMY",
    "PGGEQO": "off",
    "PGREQUIRESSL": "1",
    "PGSYSCONFDIR": "/nonexistent",
    "PGLOCALEDIR": "/nonexistent",
}
# A service that does not exist is refused by libpq itself.
del HOSTILE["PGSERVICE"]
ROLE_SETTINGS = {
    "client_encoding": "LATIN1",
    "datestyle": "'German, DMY'",
    "timezone": "'Asia/Kathmandu'",
    "intervalstyle": "sql_standard",
    "standard_conforming_strings": "off",
    "bytea_output": "escape",
    "extra_float_digits": "-15",
    "array_nulls": "off",
    "transform_null_equals": "on",
    "quote_all_identifiers": "on",
}
READ_BACK = "SELECT " + ", ".join(f"current_setting('{name}')" for name in (*PINS, "client_encoding"))
EXPECTED = tuple("ISO, MDY" if value == "ISO,MDY" else value for value in PINS.values()) + ("UTF8",)


@pytest.fixture
def hostile_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in HOSTILE.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def hostile_role(database: Database) -> None:
    settings = {**ROLE_SETTINGS, "search_path": "public"}
    alter = "ALTER ROLE {} IN DATABASE {} SET {} = {};"
    for role, chosen in (("app_a", settings), ("migrator", ROLE_SETTINGS)):
        database.psql("".join(alter.format(role, database.name, *each) for each in chosen.items()))


def _uses_the_data_access(data: Any) -> None:
    user = data.users.add(NewUser(github_id=7, username=NAME, preferences={"a": [0.1, None, "\\x"]}))
    activity = NewActivity(user_id=user.id, type=NAME, timestamp=AT, data={"f": 1.1, "s": "'\\"})
    assert data.activities.copy_in([activity, activity]) == 2
    assert data.users.get_by_github_id(7) == user
    assert data.users.list().items == [user]
    assert (user.username, user.preferences) == (NAME, {"a": [0.1, None, "\\x"]})
    assert user.created_at.utcoffset() == datetime.now(UTC).utcoffset()
    assert abs((datetime.now(UTC) - user.created_at).total_seconds()) < 300
    stored = data.activities.feed(user.id).items
    assert [(each.type, each.timestamp, each.data) for each in stored] == [(NAME, AT, activity.data)] * 2
    assert data.outbox.measure()[0] >= 1


@promise("settings of the environment or the role change no result")
@pytest.mark.usefixtures("hostile_environment")
def test_no_variable_changes_what_is_stored_and_read(open_data: OpenData, database: Database) -> None:
    _uses_the_data_access(open_data())
    assert database.psql("SELECT username FROM groundwork.users").strip() == NAME


@promise("settings of the environment or the role change no result")
@pytest.mark.usefixtures("hostile_role")
def test_no_setting_of_the_role_changes_what_is_stored_and_read(
    open_data: OpenData, database: Database
) -> None:
    _uses_the_data_access(open_data())
    assert database.psql("SELECT username FROM groundwork.users").strip() == NAME


@promise("settings of the environment or the role change no result")
@pytest.mark.usefixtures("hostile_environment", "hostile_role")
def test_every_connection_has_the_same_settings(database: Database) -> None:
    with connect(database.url("app"), search_path="groundwork") as connection:
        assert connection.execute(READ_BACK).fetchone() == EXPECTED
        assert connection.execute("SHOW search_path").fetchone() == ("groundwork",)
    with open_connection(database.url("migrator")) as connection:
        assert connection.execute(READ_BACK.encode()).fetchone() == EXPECTED
        assert connection.execute("SHOW default_transaction_read_only").fetchone() == ("off",)
    options = "options=-c%20datestyle%3DGerman%20-c%20search_path%3Dpublic&client_encoding=LATIN1"
    with connect(f"{database.url('app')}&{options}", search_path="groundwork") as connection:
        assert connection.execute(READ_BACK).fetchone() == EXPECTED
        assert connection.execute("SHOW search_path").fetchone() == ("groundwork",)


@promise("settings of the environment or the role change no result")
@pytest.mark.usefixtures("hostile_environment")
def test_no_variable_hides_applied_migrations(database: Database) -> None:
    migrations = read_source(MIGRATIONS)
    found = status(database.url("migrator"), migrations)
    assert (found.pending, found.problems) == ((), ())
    assert apply_pending(database.url("migrator"), migrations) == ()


@pytest.mark.usefixtures("hostile_environment", "hostile_role")
def test_the_sample_data_is_the_same(database: Database) -> None:
    assert load_sample_data(database.url("app"), until=AT)["users"] > 0
    newest = database.psql("SELECT extract(epoch FROM max(timestamp)) FROM groundwork.activities")
    assert float(newest) <= AT.timestamp()
    assert load_sample_data(database.url("app"), until=AT)["users"] == 0


@pytest.fixture
def plain(database: Database) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(database.url("app"), autocommit=True) as connection:
        yield connection


@promise("settings of the environment or the role change no result", control=True)
@pytest.mark.usefixtures("hostile_role")
def test_the_roles_settings_change_a_plain_connection(plain: psycopg.Connection[Any]) -> None:
    row = plain.execute(READ_BACK).fetchone()
    assert row is not None
    assert all(ours != theirs for ours, theirs in zip(EXPECTED, row, strict=True))


@promise("settings of the environment or the role change no result", control=True)
def test_variables_change_a_plain_connection(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PGCLIENTENCODING", "PGOPTIONS", "PGTZ"):
        monkeypatch.setenv(name, HOSTILE[name])
    with psycopg.connect(database.url("migrator"), autocommit=True) as connection:
        settings = connection.execute(
            "SELECT current_setting('client_encoding'), current_setting('timezone'), to_regclass('_sqlx_migrations')"
        ).fetchone()
    assert settings == ("LATIN1", "Asia/Kathmandu", None)


@pytest.mark.parametrize(
    ("variable", "value"), [("PGTZ", "Mars"), ("PGDATESTYLE", "Mars"), ("PGSERVICE", "mars")]
)
def test_a_variable_that_cannot_be_overridden_is_named(
    open_data: OpenData, database: Database, variable: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    data = open_data(deadline_seconds=60.0)
    with pytest.raises(Unavailable, match=f"unset {variable}$"):
        data.users.list()
    with pytest.raises(Unreachable, match=f"unset {variable}$"):
        status(database.url("migrator"), read_source(MIGRATIONS))
