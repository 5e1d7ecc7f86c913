"""`groundwork migrate rehearse`: the copy, the queries that run on it, and the budget with its negative control."""

from __future__ import annotations

import json
import random
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest

from db.migrator import MIGRATIONS_FOLDER, read_source
from db.migrator.catalog import find_drift, read_catalog
from db.migrator.connection import open_connection
from db.seed import USERS, load_sample_data
from infra.docker.engine import DockerError, docker
from ops.errors import Exit
from ops.migrations.rehearsal import rehearsal
from ops.migrations.rehearsal.database_copy import DatabaseCopy
from ops.migrations.rehearsal.parameters import Parameters
from ops.migrations.rehearsal.traffic import Caller, all_blockers, send, unreplayable
from ops.servers.scratch_server import ScratchServer
from ops.sql_check.declared import all_queries
from tests.conftest import Database, cloned_database
from tests.containers import Server, wait_until
from tests.integration.migrations.conftest import Run
from tests.integration.migrator.conftest import Outcome, SharedScratch, Write
from tests.promises import promise
from tests.scale import IS_FULL

QUERIES = all_queries()
CONTROL = {key for key in QUERIES if key.startswith("transaction.")}
# Far above the waits between callers on a busy machine, and far below those for the blocking migration.
BUDGET_MS, GUILTY_SECONDS = 1500, 4


@pytest.fixture(scope="module")
def seeded(postgres_server: Server, migrated_template: str) -> Iterator[Database]:
    """A migrated database with the sample data. The tests do not change it."""
    with cloned_database(postgres_server, migrated_template) as database:
        load_sample_data(database.url("app"))
        database.psql("ANALYZE")
        yield database


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the project's migrations, to which a test adds one."""
    return Path(shutil.copytree(MIGRATIONS_FOLDER, tmp_path / "migrations"))


@pytest.fixture
def rehearse(
    run: Run, shared_scratch: SharedScratch, monkeypatch: pytest.MonkeyPatch, folder: Path, seeded: Database
) -> Callable[..., Outcome]:
    @contextmanager
    def shared(**options: object) -> Iterator[ScratchServer]:
        try:
            yield shared_scratch
        finally:
            shared_scratch.psql("DROP DATABASE IF EXISTS groundwork WITH (FORCE)")

    monkeypatch.setattr(rehearsal, "scratch_server", shared)
    # It waits for each query all the same.
    monkeypatch.setattr(rehearsal, "_AFTER_SECONDS", 0.0)
    url = seeded.url("migrator")
    return lambda *options: run("rehearse", "--url", url, "--folder", folder, "--before", "0.5", *options)


@pytest.fixture
def queries(tmp_path: Path) -> Path:
    """An empty folder for a test's own queries."""
    folder = tmp_path / "queries"
    folder.mkdir()
    return folder


@pytest.fixture
def one_query(queries: Path) -> tuple[str | Path, ...]:
    """Options that send one query only, which costs less CPU time than the project's hundred."""
    (queries / "email.sql").write_text("SELECT email FROM users")
    return ("--queries", queries, "--callers", "2")


def test_each_query_can_be_sent_with_parameters_from_the_rows(seeded: Database) -> None:
    with open_connection(seeded.url("migrator")) as owner:
        parameters = Parameters(owner)
    with psycopg.connect(seeded.url("app"), autocommit=True) as connection:
        for key in sorted(QUERIES.keys() - CONTROL):
            for seed in range(3):
                send(connection, QUERIES[key], parameters, random.Random(seed))


def test_rows_of_a_binary_copy_have_the_types_of_the_columns(seeded: Database) -> None:
    sql = b"COPY repositories (github_id, name, language, stars) FROM STDIN WITH (FORMAT binary)"
    query = replace(QUERIES["activities.copy_activities"], sql=sql)
    with open_connection(seeded.url("migrator")) as owner:
        parameters = Parameters(owner)
    with psycopg.connect(seeded.url("app"), autocommit=True) as connection:
        send(connection, query, parameters, random.Random(1))


def test_parameters_name_rows_that_are_there(seeded: Database) -> None:
    with open_connection(seeded.url("migrator")) as owner:
        parameters = Parameters(owner)
    with psycopg.connect(seeded.url("app"), autocommit=True) as connection:
        for key in ("users.find_user", "activities.find_activity", "repositories.update_repository"):
            values = parameters.for_query(QUERIES[key], random.Random(1))
            assert connection.execute(QUERIES[key].sql, values).rowcount == 1, key
            connection.rollback()


@promise("a rehearsal leaves only the migrations' writes in the copy")
def test_writes_leave_nothing(seeded: Database) -> None:
    with open_connection(seeded.url("migrator")) as owner:
        parameters = Parameters(owner)
        before = owner.execute("SELECT sum(row_version), count(*) FROM users").fetchall()
        with psycopg.connect(seeded.url("app"), autocommit=True) as connection:
            for key in (
                "users.delete_user",
                "users.add_user",
                "users.upsert_user",
                "activities.copy_activities",
            ):
                send(connection, QUERIES[key], parameters, random.Random(1))
        assert owner.execute("SELECT sum(row_version), count(*) FROM users").fetchall() == before


def test_only_transaction_control_is_not_sent_and_a_reason_is_given(
    seeded: Database, database: Database
) -> None:
    with open_connection(seeded.url("migrator")) as owner:
        assert unreplayable(QUERIES, Parameters(owner)).keys() == CONTROL
    with open_connection(database.url("migrator")) as owner:
        skipped = unreplayable(QUERIES, Parameters(owner))
    assert skipped.keys() == CONTROL | {"activities.copy_activities"}
    assert skipped["activities.copy_activities"] == "activities has no row to copy values from"


@promise("a migration that blocks queries for longer than the budget is exit code 4")
def test_an_exclusive_lock_that_is_kept_misses_the_budget_and_names_the_blocked(
    rehearse: Callable[..., Outcome], write: Write
) -> None:
    write("9001_slow.sql", f"ALTER TABLE users ADD COLUMN more int;\nSELECT pg_sleep({GUILTY_SECONDS})")
    outcome = rehearse("--budget-ms", str(BUDGET_MS), "--json")
    assert outcome.code == Exit.MISMATCH
    told = json.loads(outcome.out)
    assert [each["name"] for each in told["migrations"]] == ["9001_slow"]
    assert told["migrations"][0]["seconds"] >= GUILTY_SECONDS
    (worst, *_) = told["queries"]
    assert worst["query"] in told["missed"]
    assert worst["blocked"]["during"]["max"] > BUDGET_MS
    assert worst["took"]["during"]["max"] > BUDGET_MS
    # Each caller waited for the table, or for another caller that did.
    assert any("users" in QUERIES[key].sql.decode() for key in told["missed"])


@promise("a migration that blocks queries for longer than the budget is exit code 4", control=True)
def test_an_index_made_concurrently_keeps_the_budget(rehearse: Callable[..., Outcome], write: Write) -> None:
    write("9001_index.sql", "-- no-transaction\nCREATE INDEX CONCURRENTLY users_email_idx ON users (email)")
    outcome = rehearse("--budget-ms", str(BUDGET_MS))
    assert (outcome.code, f"no query exceeds the budget of {BUDGET_MS} ms" in outcome.out) == (
        Exit.FINE,
        True,
    )
    assert "9001_index  " in outcome.out


_KEEPS_A_ROW = """
WITH one AS (UPDATE users SET email = email WHERE id = (SELECT min(id) FROM users) RETURNING 1)
SELECT pg_sleep(0.5) FROM one
"""


@promise("a migration that blocks queries for longer than the budget is exit code 4", control=True)
def test_callers_that_wait_for_each_other_keep_the_budget(
    rehearse: Callable[..., Outcome], write: Write, queries: Path
) -> None:
    (queries / "keep.sql").write_text(_KEEPS_A_ROW)
    write("9001_nothing.sql", "SELECT pg_sleep(2)")
    outcome = rehearse("--budget-ms", "100", "--callers", "3", "--queries", queries, "--json")
    (kept,) = json.loads(outcome.out)["queries"]
    assert kept["took"]["during"]["max"] > 600
    assert (outcome.code, kept["blocked"]["during"]["max"]) == (Exit.FINE, 0)


# Until there was a deadlock, which Postgres ends after a second, or for a minute.
_UNTIL_DEADLOCK = """
DO $$ BEGIN
    FOR n IN 1..600 LOOP
        PERFORM pg_stat_clear_snapshot(), pg_sleep(0.1);
        EXIT WHEN (SELECT deadlocks > 0 FROM pg_stat_database WHERE datname = current_database());
    END LOOP;
END $$
"""
_IN_BOTH_ORDERS = """
WITH one AS (SELECT id FROM users WHERE id = (SELECT {first}(id) FROM users) FOR UPDATE),
    slept AS MATERIALIZED (SELECT id, pg_sleep(0.3) FROM one),
    other AS (SELECT users.id FROM users, slept WHERE users.id = (SELECT {then}(id) FROM users) FOR UPDATE OF users)
SELECT id FROM other
"""


@promise("a migration that blocks queries for longer than the budget is exit code 4", control=True)
def test_callers_that_deadlock_with_each_other_keep_the_budget(
    rehearse: Callable[..., Outcome], write: Write, queries: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (queries / "up.sql").write_text(_IN_BOTH_ORDERS.format(first="min", then="max"))
    (queries / "down.sql").write_text(_IN_BOTH_ORDERS.format(first="max", then="min"))
    write("9001_nothing.sql", _UNTIL_DEADLOCK)
    is_between_callers, deadlocks = Caller._is_between_callers, []

    def noted(self: Caller, error: psycopg.Error) -> bool:
        deadlocks.append(error.sqlstate)
        return is_between_callers(self, error)

    monkeypatch.setattr(Caller, "_is_between_callers", noted)
    outcome = rehearse("--budget-ms", "60000", "--callers", "4", "--queries", queries)
    assert (outcome.code, "40P01" in outcome.out) == (Exit.FINE, False)
    # The control: there were deadlocks, which are errors of the queries otherwise.
    assert "40P01" in deadlocks


def test_a_caller_that_waits_for_a_blocked_caller_is_blocked_by_the_migration() -> None:
    migrator, blocked, behind, beside, row_owner = 1, 2, 3, 4, 5
    blockers = {blocked: {migrator}, behind: {blocked}, beside: {row_owner}}
    assert all_blockers(behind, blockers) == {blocked, migrator}
    assert all_blockers(beside, blockers) == {row_owner}
    # Two sessions that wait for each other, until Postgres ends the deadlock.
    assert all_blockers(2, {2: {3}, 3: {2}}) == {3}


@promise("a query that fails only with the new schema exceeds any budget")
def test_what_fails_with_the_new_schema_misses_any_budget_and_has_its_sqlstate(
    rehearse: Callable[..., Outcome], write: Write
) -> None:
    write("9001_drop.sql", "ALTER TABLE users DROP COLUMN email")
    outcome = rehearse("--budget-ms", "600000", "--callers", "4")
    assert outcome.code == Exit.MISMATCH
    assert "failed with 42703" in outcome.out


_ONLY_AT_COMMIT = """
CREATE FUNCTION refuse_user() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN RAISE EXCEPTION 'not by old code' USING ERRCODE = 'GW001'; END $$;
CREATE CONSTRAINT TRIGGER users_only_at_commit AFTER INSERT ON users DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION refuse_user()
"""


def test_what_only_a_commit_would_refuse_is_refused(rehearse: Callable[..., Outcome], write: Write) -> None:
    write("9001_deferred.sql", _ONLY_AT_COMMIT)
    outcome = rehearse("--budget-ms", "600000", "--callers", "4", "--json")
    assert outcome.code == Exit.MISMATCH
    errors = {each["query"]: each["errors"]["during"] for each in json.loads(outcome.out)["queries"]}
    assert "GW001" in errors["users.add_user"]
    assert errors["users.find_user"] == {}


def test_a_rollback_alone_refuses_nothing_that_waits_for_a_commit(
    database: Database,
) -> None:
    """The control: without making the constraints immediate, a rollback does not check them."""
    database.psql(f"SET search_path = groundwork; {_ONLY_AT_COMMIT}")
    insert = "INSERT INTO users (github_id, username) VALUES (1, 'old code')"
    with psycopg.connect(database.url("app")) as connection:
        connection.execute(insert)
        connection.rollback()
        connection.execute(insert)
        with pytest.raises(psycopg.Error, match="not by old code"):
            connection.commit()


def test_a_query_that_no_caller_sends_after_the_migration_is_named(
    rehearse: Callable[..., Outcome], write: Write, queries: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (queries / "slow.sql").write_text("SELECT pg_sleep(3)")
    write("9001_nothing.sql", "SELECT 1")
    monkeypatch.setattr(rehearsal, "_EACH_LIMIT_SECONDS", 0.5)
    outcome = rehearse("--callers", "1", "--queries", queries)
    assert re.search(r"slow +not sent: no call ended within 0\.5 s after the migrations\n", outcome.out), (
        outcome.out
    )


def test_a_migration_whose_commit_fails_is_named(
    rehearse: Callable[..., Outcome], write: Write, one_query: tuple[str | Path, ...]
) -> None:
    write(
        "9001_twice.sql",
        "CREATE TABLE pair (n int UNIQUE DEFERRABLE INITIALLY DEFERRED); INSERT INTO pair VALUES (1), (1)",
    )
    outcome = rehearse(*one_query)
    assert outcome.code == Exit.ERROR
    assert "9001_twice.sql" in outcome.error
    assert "(SQLSTATE 23505)" in outcome.error


def test_without_a_budget_the_rehearsal_only_reports(
    rehearse: Callable[..., Outcome], write: Write, one_query: tuple[str | Path, ...]
) -> None:
    write("9001_drop.sql", "ALTER TABLE users DROP COLUMN email")
    outcome = rehearse(*one_query, "--json")
    (sent,) = json.loads(outcome.out)["queries"]
    assert (outcome.code, [*sent["errors"]["during"]]) == (Exit.FINE, ["42703"])


def test_nothing_pending_is_reported_before_anything_is_copied(rehearse: Callable[..., Outcome]) -> None:
    assert rehearse() == Outcome(Exit.FINE, "nothing is pending\n", "")


@pytest.mark.parametrize("is_setting", [False, True])
def test_the_lock_limits_of_the_options_and_of_the_settings_apply(
    rehearse: Callable[..., Outcome],
    write: Write,
    one_query: tuple[str | Path, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    is_setting: bool,
) -> None:
    options = ["--lock-timeout", "0.07", "--attempts", "3"]
    if is_setting:
        (tmp_path / "groundwork.toml").write_text("[migrate]\nlock-timeout = 0.07\nattempts = 3\n")
        monkeypatch.chdir(tmp_path)
        options = []
    write("9001_limited.sql", "DO $$ BEGIN RAISE 'a lock' USING ERRCODE = '55P03'; END $$")
    outcome = rehearse(*one_query, *options)
    assert outcome.code == Exit.LOCKED
    assert "gave up after 3 attempts of 0.07 s" in outcome.error


def test_a_migration_that_fails_is_named(
    rehearse: Callable[..., Outcome], write: Write, one_query: tuple[str | Path, ...]
) -> None:
    write("9001_wrong.sql", "CREATE TABLE a (); COMMIT;\nALTER TABLE users ADD CHECK (id < 0)")
    outcome = rehearse(*one_query)
    assert outcome.code == Exit.ERROR
    assert "9001_wrong.sql:2: check constraint" in outcome.error
    assert "(SQLSTATE 23514)" in outcome.error
    # The ledger that would be repaired is that of the copy.
    assert "repair" not in outcome.error


def test_a_larger_database_than_allowed_is_refused(rehearse: Callable[..., Outcome], write: Write) -> None:
    write("9001_a.sql", "SELECT 1")
    outcome = rehearse("--max-size", "1MB")
    assert outcome.code == Exit.REFUSED
    assert "--schema-only" in outcome.error
    assert rehearse("--max-size", "much").code == Exit.USAGE


@pytest.fixture
def look_at_copy(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Record the copy's rows and its catalog, instead of migrating."""
    seen: list[Any] = []

    def look(copy: DatabaseCopy, *_: object) -> None:
        with open_connection(copy.url) as owner:
            seen.extend(owner.execute("SELECT username, github_id FROM users ORDER BY github_id").fetchall())
        seen.append(read_catalog(copy.url))

    monkeypatch.setattr(rehearsal, "_migrate_under_traffic", look)
    return seen


def test_the_copy_has_every_row_and_the_same_catalog(
    rehearse: Callable[..., Outcome],
    seeded: Database,
    write: Write,
    folder: Path,
    look_at_copy: list[Any],
) -> None:
    write("9001_a.sql", "SELECT 1")
    url = seeded.url("migrator")
    rehearsal.rehearse(url, read_source(folder), rehearsal.RehearsalOptions())
    *rows, catalog = look_at_copy
    with open_connection(url) as owner:
        assert rows == owner.execute("SELECT username, github_id FROM users ORDER BY github_id").fetchall()
    assert find_drift(read_catalog(url), catalog) == ()


# Building the index, or analyzing the table, calls the function for each row.
_PLANT = """
CREATE FUNCTION groundwork.planted(bigint) RETURNS bigint LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN
    IF (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = session_user) THEN
        RAISE EXCEPTION 'the planted function runs in a session of a superuser';
    END IF;
    RETURN $1;
END $$;
CREATE INDEX planted ON groundwork.users (groundwork.planted(id));
"""


@promise("no superuser session of a stack reads or executes what another role owns")
def test_what_the_owner_defined_does_not_run_as_superuser_in_the_copy(
    rehearse: Callable[..., Outcome], seeded: Database, write: Write, folder: Path, look_at_copy: list[Any]
) -> None:
    write("9001_a.sql", "SELECT 1")
    url = seeded.url("migrator")
    with open_connection(url) as owner:
        owner.execute(_PLANT)
    rehearsal.rehearse(url, read_source(folder), rehearsal.RehearsalOptions())
    assert look_at_copy
    # The control: a superuser's session is what the function finds.
    with pytest.raises(DockerError, match="runs in a session of a superuser"):
        seeded.psql("SELECT groundwork.planted(1)")


def test_with_schema_only_no_row_is_copied(
    rehearse: Callable[..., Outcome], database: Database, write: Write, folder: Path, look_at_copy: list[Any]
) -> None:
    write("9001_a.sql", "SELECT 1")
    with psycopg.connect(database.url("app")) as connection:
        connection.execute("INSERT INTO users (github_id, username) VALUES (1, 'somebody')")
    url = database.url("migrator")
    rehearsal.rehearse(url, read_source(folder), rehearsal.RehearsalOptions(with_rows=False))
    *rows, catalog = look_at_copy
    assert len(rows) == USERS
    assert all(name.startswith("sample-") for name, _ in rows)
    assert find_drift(read_catalog(url), catalog) == ()


@promise("a rehearsal that was stopped leaves nothing behind")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT] if IS_FULL else [signal.SIGTERM])
def test_a_stopped_rehearsal_leaves_no_copy(
    seeded: Database, write: Write, folder: Path, one_query: tuple[str | Path, ...], number: int
) -> None:
    write("9001_slow.sql", "SELECT pg_sleep(600)")
    command = [sys.executable, "-m", "ops.cli", "migrate", "rehearse", "--before", "0.5"]
    options = ["--url", seeded.url("migrator"), "--folder", str(folder), *map(str, one_query)]
    with subprocess.Popen([*command, *options], stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "migrating under" in line:
                break
        label = f"label=groundwork.scratch={process.pid}"
        assert docker("ps", "--quiet", "--filter", label).split()
        process.send_signal(number)
        assert process.wait(120) == 128 + number
    wait_until(lambda: not docker("ps", "--all", "--quiet", "--filter", label), 60)
