"""Apply and revert migrations, and check the ledger afterwards."""

from __future__ import annotations

import hashlib
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest

from db.migrator import (
    SCHEMA_CHANGED_CHANNEL,
    Event,
    NotRevertible,
    RevertOutdated,
    ScriptFailed,
    UnknownMigration,
    apply_pending,
    read_source,
    revert,
    status,
)
from db.migrator.lock import lock_key
from tests.cases import in_case
from tests.conftest import Connection, Database
from tests.integration.migrator.conftest import Write, applied_versions, tables

LEDGER_COLUMNS = [
    ("version", "bigint", "NO", None),
    ("description", "text", "NO", None),
    ("installed_on", "timestamp with time zone", "NO", "now()"),
    ("success", "boolean", "NO", None),
    ("checksum", "bytea", "NO", None),
    ("execution_time", "bigint", "NO", None),
]


@pytest.fixture
def three(write: Write) -> None:
    for version, name in enumerate(("a", "b", "c"), start=1):
        write(f"{version}_make_{name}.up.sql", f"CREATE TABLE {name} (id int);\n")
        write(f"{version}_make_{name}.down.sql", f"DROP TABLE {name};\n")


@pytest.mark.usefixtures("three")
def test_what_is_pending_is_applied_in_order_and_once(
    empty_database: Database, folder: Path, owner: Connection
) -> None:
    url, migrations = empty_database.url("migrator"), read_source(folder)
    assert [a.migration.version for a in apply_pending(url, migrations)] == [1, 2, 3]
    assert apply_pending(url, migrations) == ()
    assert applied_versions(owner) == [1, 2, 3]
    assert tables(owner) == {"a", "b", "c"}


@pytest.mark.usefixtures("three")
def test_a_row_of_the_ledger_is_what_sqlx_would_write(
    empty_database: Database, folder: Path, owner: Connection
) -> None:
    apply_pending(empty_database.url("migrator"), read_source(folder))
    row = owner.execute(
        "SELECT description, success, checksum, execution_time > 0, installed_on <= now()"
        " FROM _sqlx_migrations WHERE version = 2"
    ).fetchone()
    checksum = hashlib.sha384((folder / "2_make_b.up.sql").read_bytes()).digest()
    assert row == ("make b", True, checksum, True, True)


def test_the_ledger_is_the_table_that_sqlx_makes(empty_database: Database, owner: Connection) -> None:
    apply_pending(empty_database.url("migrator"), ())
    columns = owner.execute(
        "SELECT column_name, data_type, is_nullable, column_default FROM information_schema.columns"
        " WHERE table_name = '_sqlx_migrations' ORDER BY ordinal_position"
    ).fetchall()
    key = owner.execute(
        "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = '_sqlx_migrations'::regclass"
    ).fetchall()
    assert columns == LEDGER_COLUMNS
    assert key == [("PRIMARY KEY (version)",)]


@pytest.mark.usefixtures("three")
def test_a_ledger_written_by_sqlx_is_continued(
    empty_database: Database, folder: Path, owner: Connection
) -> None:
    # The statements of sqlx-postgres 0.8, for a migration whose duration is not known yet.
    owner.execute(
        """
CREATE TABLE IF NOT EXISTS _sqlx_migrations (
    version BIGINT PRIMARY KEY,
    description TEXT NOT NULL,
    installed_on TIMESTAMPTZ NOT NULL DEFAULT now(),
    success BOOLEAN NOT NULL,
    checksum BYTEA NOT NULL,
    execution_time BIGINT NOT NULL
);
"""
    )
    owner.execute("CREATE TABLE a (id int)")
    owner.execute(
        "INSERT INTO _sqlx_migrations ( version, description, success, checksum, execution_time )"
        " VALUES ( %s, %s, TRUE, %s, -1 )",
        [1, "make a", hashlib.sha384(b"CREATE TABLE a (id int);\n").digest()],
    )
    done = apply_pending(empty_database.url("migrator"), read_source(folder))
    assert [a.migration.version for a in done] == [2, 3]


@pytest.mark.usefixtures("three")
def test_a_target_is_the_last_version_applied(empty_database: Database, folder: Path) -> None:
    url, migrations = empty_database.url("migrator"), read_source(folder)
    apply_pending(url, migrations, target=2)
    assert [m.version for m in status(url, migrations).pending] == [3]


@pytest.mark.usefixtures("three")
def test_a_target_that_does_not_exist_is_refused(empty_database: Database, folder: Path) -> None:
    with pytest.raises(UnknownMigration, match="no migration of version 7; the newest is 3"):
        apply_pending(empty_database.url("migrator"), read_source(folder), target=7)


@pytest.mark.usefixtures("three")
def test_a_migration_older_than_the_newest_applied_one_is_applied(
    empty_database: Database, folder: Path
) -> None:
    url, migrations = empty_database.url("migrator"), read_source(folder)
    apply_pending(url, [m for m in migrations if m.version != 2])
    assert [m.version for m in status(url, migrations).out_of_order] == [2]
    assert [a.migration.version for a in apply_pending(url, migrations)] == [2]


def test_a_setting_of_one_migration_does_not_reach_the_next(
    empty_database: Database, folder: Path, write: Write, owner: Connection
) -> None:
    write("1_a.sql", "SET search_path = pg_catalog; SET work_mem = '77kB'")
    write("2_b.sql", "CREATE TABLE seen AS SELECT current_setting('work_mem') AS work_mem")
    apply_pending(empty_database.url("migrator"), read_source(folder))
    assert owner.execute("SELECT work_mem <> '77kB' FROM groundwork.seen").fetchone() == (True,)


def test_a_percent_sign_and_a_dollar_reach_the_server_as_they_are(
    empty_database: Database, folder: Path, write: Write, owner: Connection
) -> None:
    write("1_a.sql", "CREATE TABLE t AS SELECT '100 %s %% $1 ü' AS text;")
    apply_pending(empty_database.url("migrator"), read_source(folder))
    assert owner.execute("SELECT text FROM t").fetchone() == ("100 %s %% $1 ü",)


@pytest.mark.parametrize("end", ["", "; COMMIT"])
def test_a_setting_does_not_change_how_the_rest_of_the_file_is_read(
    empty_database: Database, folder: Path, write: Write, owner: Connection, end: str
) -> None:
    settings = (
        "SET client_encoding = 'LATIN1'",
        "SET LOCAL client_encoding TO sjis",
        "SET NAMES 'SQL_ASCII'",
        "SET NAMES 'EUC_TW'",
        "SELECT set_config('client_encoding', 'WIN1252', false)",
        "DO $$BEGIN SET client_encoding = 'EUC_JP'; END$$",
        "SET standard_conforming_strings = off",
        "SET client_encoding = 'GB18030'; SET standard_conforming_strings = off",
    )
    for version, setting in enumerate(settings):
        with in_case(setting):
            owner.execute("DROP TABLE IF EXISTS t")
            write(
                f"{version}_a.sql",
                f"CREATE TABLE t (text text); {setting}{end}; INSERT INTO t VALUES ('ü \\n')",
            )
            apply_pending(empty_database.url("migrator"), read_source(folder))
            assert owner.execute("SELECT text FROM t").fetchone() == ("ü \\n",)


@pytest.mark.parametrize(
    ("how_far", "left"), [((1, None), [1, 2]), ((2, None), [1]), ((1, 1), [1]), ((1, 0), [])]
)
@pytest.mark.usefixtures("three")
def test_the_newest_migrations_are_reverted(
    empty_database: Database,
    folder: Path,
    owner: Connection,
    how_far: tuple[int, int | None],
    left: list[int],
) -> None:
    url, migrations = empty_database.url("migrator"), read_source(folder)
    apply_pending(url, migrations)
    done = revert(url, migrations, count=how_far[0], target=how_far[1])
    assert [a.migration.version for a in done] == [v for v in (3, 2, 1) if v not in left]
    assert applied_versions(owner) == left
    assert tables(owner) == {"abc"[v - 1] for v in left}


@pytest.mark.usefixtures("three")
def test_nothing_is_reverted_if_one_of_the_migrations_cannot_be(
    empty_database: Database, folder: Path, owner: Connection
) -> None:
    (folder / "2_make_b.down.sql").unlink()
    url, migrations = empty_database.url("migrator"), read_source(folder)
    apply_pending(url, migrations)
    with pytest.raises(NotRevertible, match=r"2_make_b\.up\.sql has no down file"):
        revert(url, migrations, target=0)
    assert applied_versions(owner) == [1, 2, 3]


@pytest.mark.usefixtures("three")
@pytest.mark.parametrize(("count", "target"), [(1, None), (2, None), (1, 1)])
def test_two_reverts_at_once_revert_each_migration_once_and_no_other(
    empty_database: Database, folder: Path, owner: Connection, count: int, target: int | None
) -> None:
    url, migrations = empty_database.url("migrator"), read_source(folder)
    apply_pending(url, migrations)
    owner.execute("SELECT pg_advisory_lock(%s)", [lock_key(empty_database.name)])
    waiting = threading.Barrier(3)

    def revert_one() -> int:
        def on_event(event: Event) -> None:
            if event.kind == "waiting":
                waiting.wait(60)

        return len(revert(url, migrations, count=count, target=target, on_event=on_event))

    with ThreadPoolExecutor(2) as pool:
        runs = [pool.submit(revert_one) for _ in range(2)]
        waiting.wait(60)
        owner.execute("SELECT pg_advisory_unlock_all()")
        assert sum(run.result(timeout=60) for run in runs) == (1 if (count, target) == (1, None) else 2)
    assert applied_versions(owner) == ([1, 2] if (count, target) == (1, None) else [1])


@pytest.mark.usefixtures("three")
@pytest.mark.parametrize(("before", "target"), [(2, None), (2, 1), (1, 1), (0, None)])
def test_a_revert_is_refused_if_a_newer_migration_was_applied_while_it_waited(
    empty_database: Database, folder: Path, owner: Connection, before: int, target: int | None
) -> None:
    url, migrations = empty_database.url("migrator"), read_source(folder)
    apply_pending(url, migrations[:before])
    owner.execute("SELECT pg_advisory_lock(%s)", [lock_key(empty_database.name)])

    def apply_the_rest(event: Event) -> None:
        if event.kind == "waiting":
            owner.execute("SELECT pg_advisory_unlock_all()")
            apply_pending(url, migrations)

    with pytest.raises(RevertOutdated, match=r"has applied versions? .*3.*nothing was reverted"):
        revert(url, migrations, target=target, on_event=apply_the_rest)
    assert applied_versions(owner) == [1, 2, 3]


def test_reverting_an_empty_database_does_nothing_and_says_so(
    empty_database: Database, owner: Connection
) -> None:
    events: list[tuple[str, bool]] = []
    revert(
        empty_database.url("migrator"),
        (),
        on_event=lambda event: events.append((event.kind, "no migration has been applied" in event.detail)),
    )
    assert events == [("absent", True)]
    assert revert(empty_database.url("migrator"), ()) == ()
    assert owner.execute("SELECT to_regclass('_sqlx_migrations')").fetchone() == (None,)


def test_status_changes_nothing(empty_database: Database, owner: Connection) -> None:
    status(empty_database.url("migrator"), read_source())
    assert owner.execute("SELECT to_regclass('_sqlx_migrations')").fetchone() == (None,)


def test_the_application_may_ask_for_the_status(database: Database) -> None:
    state = status(database.url("app"), read_source())
    assert state.pending == ()
    assert state.problems == ()
    assert state.version == read_source()[-1].version


@pytest.mark.usefixtures("three")
def test_listeners_hear_of_each_migration_applied_and_reverted(
    empty_database: Database, folder: Path
) -> None:
    url, migrations = empty_database.url("migrator"), read_source(folder)
    with psycopg.connect(empty_database.url("app"), autocommit=True) as listener:
        listener.execute(f"LISTEN {SCHEMA_CHANGED_CHANNEL}")
        apply_pending(url, migrations)
        assert len(list(listener.notifies(timeout=5, stop_after=3))) == 3
        revert(url, migrations)
        assert len(list(listener.notifies(timeout=5, stop_after=1))) == 1


@pytest.mark.usefixtures("three")
def test_progress_is_reported_as_it_happens(empty_database: Database, folder: Path) -> None:
    told: list[tuple[str, str]] = []
    apply_pending(
        empty_database.url("migrator"),
        read_source(folder),
        target=1,
        on_event=lambda event: told.append((event.kind, event.migration.name if event.migration else "")),
    )
    assert told == [("begin", "1_make_a"), ("statement", "1_make_a"), ("done", "1_make_a")]


@pytest.mark.usefixtures("three")
def test_the_events_of_a_failed_call_have_what_it_applied_before(
    empty_database: Database, folder: Path, write: Write
) -> None:
    write("4_wrong.sql", "CREATE TABEL d ()")
    events: list[Event] = []
    with pytest.raises(ScriptFailed):
        apply_pending(empty_database.url("migrator"), read_source(folder), on_event=events.append)
    applied = [event.applied for event in events if event.applied is not None]
    assert [(each.migration.version, each.seconds > 0) for each in applied] == [
        (1, True),
        (2, True),
        (3, True),
    ]
    assert str(events[-2]) == "4_wrong: applying"


def test_a_failed_connection_to_another_server_is_not_a_lost_connection_to_the_database(
    empty_database: Database, folder: Path, write: Write
) -> None:
    """Both have SQLSTATE 08001 or 08006."""
    empty_database.psql("CREATE EXTENSION dblink SCHEMA groundwork")
    other = "host=127.0.0.1 port=1 user=a password=b dbname=c"
    write("1_a.sql", f"SELECT groundwork.dblink_connect('{other}')")
    with pytest.raises(
        ScriptFailed, match=r"1_a\.sql:1: could not establish connection.*rolled back"
    ) as caught:
        apply_pending(empty_database.url("migrator"), read_source(folder))
    assert caught.value.sqlstate == "08001"
