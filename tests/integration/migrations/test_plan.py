"""`groundwork migrate plan`: measurements of statements, pending migrations, and the output formats."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest

from db.migrator import apply_pending, read_source
from ops.errors import Exit
from ops.migrations import squawk
from ops.migrations.locks import _note
from tests.conftest import Connection, Database
from tests.containers import wait_until
from tests.integration.migrations.conftest import Run
from tests.integration.migrator.conftest import Write
from tests.promises import promise

BASE = """
CREATE TABLE items (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text, size int NOT NULL DEFAULT 0);
CREATE TABLE parts (id int, at date) PARTITION BY RANGE (at);
CREATE TABLE parts_old PARTITION OF parts FOR VALUES FROM ('2001-01-01') TO ('2002-01-01');
CREATE TABLE notes (item_id bigint REFERENCES items (id), text text);
"""
Planned = Callable[[str], list[dict[str, object]]]


@pytest.fixture
def planned(run: Run, write: Write, folder: Path) -> Planned:
    """plan(sql) returns the statements of one migration after BASE, in the format of --json."""

    def plan(sql: str) -> list[dict[str, object]]:
        write("1_base.sql", BASE)
        write("2_next.sql", sql)
        outcome = run("plan", "--above", "1", "--folder", folder, "--json")
        assert (outcome.code, outcome.error) == (Exit.FINE, "")
        (pending,) = json.loads(outcome.out)["pending"]
        statements: list[dict[str, object]] = pending["statements"]
        return statements

    return plan


ALL = "ACCESS EXCLUSIVE"


# SQL, and what its last statement locks, rewrites and scans. Each runs after those before it.
MEASURED: list[tuple[str, dict[str, str], list[str], list[str]]] = [
    ("INSERT INTO items (name) VALUES ('a')", {"items": "ROW EXCLUSIVE", "items_id_seq": "ROW EXCLUSIVE"}, [], []),
    ("ALTER TABLE items ADD COLUMN more text", {"items": ALL}, [], []),
    ("ALTER TABLE items ALTER size TYPE bigint", {"items": ALL}, ["items"], ["items"]),
    ("ALTER TABLE items ALTER name SET NOT NULL", {"items": ALL}, [], ["items"]),
    ("ALTER TABLE items ADD CHECK (size > 0) NOT VALID", {"items": ALL}, [], []),
    ("CREATE INDEX ON items (name)", {"items": "SHARE"}, [], ["items"]),
    ("ALTER TABLE notes ADD FOREIGN KEY (item_id) REFERENCES items (id) NOT VALID",
     {"items": "SHARE ROW EXCLUSIVE", "notes": "SHARE ROW EXCLUSIVE"}, [], []),
    ("CREATE TRIGGER t BEFORE UPDATE ON items FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()",
     {"items": "SHARE ROW EXCLUSIVE"}, [], []),
    ("TRUNCATE notes", {"notes": ALL}, ["notes"], []),
    ("DROP TABLE notes", {"items": ALL, "notes": ALL}, [], []),
    ("ALTER TABLE parts ADD COLUMN more text", {"parts": ALL}, [], []),
    ("CREATE TABLE mine (id int); ALTER TABLE mine ADD COLUMN more text", {}, [], []),
    ("COMMENT ON TABLE items IS 'Items.'", {"items": "SHARE UPDATE EXCLUSIVE"}, [], []),
    ("-- no-transaction\nCREATE INDEX CONCURRENTLY i ON items (name)", {"items": "SHARE UPDATE EXCLUSIVE"}, [], []),
    ("SET work_mem = '8MB'; SET TRANSACTION ISOLATION LEVEL SERIALIZABLE; ALTER TABLE items ADD COLUMN most text",
     {"items": ALL}, [], []),
    ("-- no-transaction\nVACUUM (FULL) items", {"items": ALL}, ["items"], []),
    ("-- no-transaction\nVACUUM items", {"items": "SHARE UPDATE EXCLUSIVE"}, [], []),
    ("-- no-transaction\nCREATE INDEX ON items (name)", {"items": "SHARE"}, [], []),
]  # fmt: skip


@promise("`plan` measures what each statement locks, rewrites and reads")
def test_what_a_statement_locks_rewrites_and_reads_is_measured(run: Run, write: Write, folder: Path) -> None:
    write("1_base.sql", BASE)
    for version, (sql, *_) in enumerate(MEASURED, start=2):
        write(f"{version}_next.sql", sql)
    outcome = run("plan", "--above", "1", "--folder", folder, "--json")
    assert (outcome.code, outcome.error) == (Exit.FINE, "")
    for each, (sql, locks, rewrites, scans) in zip(json.loads(outcome.out)["pending"], MEASURED, strict=True):
        statement = each["statements"][-1]
        found = {lock["name"]: lock["mode"] for lock in statement["locks"]}
        # Ignore the locks for reading other tables.
        assert {name: mode for name, mode in found.items() if mode != "ACCESS SHARE"} == locks, sql
        assert statement["rewrites"] == rewrites, sql
        if "-- no-transaction" not in sql:
            assert [name for name in statement["scans"] if name in locks] == scans, sql


def test_a_lock_on_a_row_is_not_taken_for_one_on_its_table(database: Database) -> None:
    url, update = database.url("migrator"), "UPDATE items SET id = id"
    with (
        ThreadPoolExecutor(1) as pool,
        psycopg.connect(url) as holder,
        psycopg.connect(url) as waiter,
        psycopg.connect(url) as observer,
    ):
        holder.execute("CREATE TABLE items (id int); INSERT INTO items VALUES (1)")
        holder.commit()
        (items,) = observer.execute("SELECT 'items'::regclass::oid").fetchall()[0]
        holder.execute(update)
        waiting = pool.submit(waiter.execute, update)
        modes: dict[int, str] = {}
        # While it waits for the row, it has an EXCLUSIVE lock on it.
        wait_until(lambda: _note(observer, waiter.info.backend_pid, modes))
        holder.rollback()
        waiting.result(60)
    # Analysing the statement may also lock catalogs for a moment.
    assert modes[items] == "ROW EXCLUSIVE"


@pytest.mark.parametrize(
    ("sql", "in_transaction", "scans"),
    [
        ("ALTER TABLE items ADD CONSTRAINT c CHECK (size > 0)", True, ["items"]),
        ("CREATE INDEX CONCURRENTLY i ON items (name)", False, []),
        ("VACUUM items", False, []),
    ],
)
def test_a_file_with_the_no_transaction_header_is_measured_as_the_migrator_runs_it(
    run: Run,
    write: Write,
    folder: Path,
    empty_database: Database,
    sql: str,
    in_transaction: bool,
    scans: list[str],
) -> None:
    write("1_base.sql", BASE)
    url = empty_database.url("migrator")
    apply_pending(url, read_source(folder))
    write("2_next.sql", f"-- no-transaction\n{sql}")
    options = ("--url", url, "--folder", folder)
    (planned,) = json.loads(run("plan", *options, "--json").out)["pending"]
    (statement,) = planned["statements"]
    assert (planned["in_transaction"], statement["scans"]) == (in_transaction, scans)
    where = "in one transaction" if in_transaction else "outside a transaction"
    assert f"2_next ({where}; strongest lock: " in run("plan", *options).out


def test_a_lock_is_named_with_the_statement_that_takes_it_first(planned: Planned) -> None:
    first, second, third = planned(
        "LOCK TABLE items IN SHARE MODE; ALTER TABLE items ADD a int; ALTER TABLE items ADD b int"
    )
    assert [[lock["mode"] for lock in each["locks"]] for each in (first, second, third)] == [  # type: ignore[attr-defined]
        ["SHARE"],
        ["ACCESS EXCLUSIVE"],
        [],
    ]


def test_partitions_go_by_the_name_of_their_table(planned: Planned) -> None:
    (statement,) = planned("ALTER TABLE parts ADD COLUMN more text")
    assert statement["locks"] == [{"name": "parts", "mode": ALL, "has_partitions": True}]


def test_only_what_is_pending_on_the_target_is_planned_with_its_rows(
    run: Run, write: Write, folder: Path, empty_database: Database, owner: Connection
) -> None:
    write("1_base.sql", BASE)
    url = empty_database.url("migrator")
    apply_pending(url, read_source(folder))
    owner.execute("INSERT INTO items (name) SELECT 'x' FROM generate_series(1, 500)")
    owner.execute("ANALYZE items")
    write(
        "2_more.sql", "ALTER TABLE items ADD a int; ALTER TABLE notes ADD a int; SELECT count(*) FROM parts"
    )
    plan = json.loads(run("plan", "--url", url, "--folder", folder, "--json").out)
    assert (plan["from_version"], [each["name"] for each in plan["pending"]]) == (1, ["2_more"])
    assert plan["estimated_rows"] == {"items": 500, "notes": None, "parts": None}
    assert owner.execute("SELECT count(*) FROM pg_attribute WHERE attname = 'a'").fetchone() == (0,)
    text = run("plan", "--url", url, "--folder", folder).out
    assert "ACCESS EXCLUSIVE on items (about 500 rows), blocks reads and writes" in text
    assert "ACCESS EXCLUSIVE on notes (never analyzed), blocks reads and writes" in text


@pytest.mark.parametrize(
    ("options", "names"),
    [
        (["--from-scratch"], ["-1_a", "0_b", "1_c"]),
        (["--above", "0"], ["1_c"]),
        (["--above", "-1"], ["0_b", "1_c"]),
        (["--applied", "0"], ["-1_a", "1_c"]),
        (["--applied", "-1", "--applied=1"], ["0_b"]),
    ],
)
def test_version_0_is_planned_like_any_other(
    run: Run, write: Write, folder: Path, options: list[str], names: list[str]
) -> None:
    for name in ("-1_a", "0_b", "1_c"):
        write(f"{name}.sql", "SELECT 1")
    plan = json.loads(run("plan", *options, "--folder", folder, "--json").out)
    assert [each["name"] for each in plan["pending"]] == names


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            ["--from-scratch", "--url", "postgresql://x@y/z"],
            "--from-scratch connects to no database; omit --url",
        ),
        (["--above", "0", "--stack", "dev"], "--above connects to no database; omit --url and --stack"),
        (["--from-scratch", "--applied", "1"], "--from-scratch plans all files; omit it, or --applied"),
        (["--applied", "7"], "there is no migration of version 7; the folder has no migrations"),
    ],
)
def test_invalid_options_are_refused(run: Run, folder: Path, options: list[str], said: str) -> None:
    outcome = run("plan", *options, "--folder", folder)
    assert outcome.code == Exit.USAGE
    assert said in outcome.error


@pytest.mark.parametrize("header", ["", "-- no-transaction\n"])
def test_a_file_that_ends_its_own_session_is_named(run: Run, write: Write, folder: Path, header: str) -> None:
    write("1_ends.sql", f"{header}SELECT pg_terminate_backend(pg_backend_pid())")
    outcome = run("plan", "--from-scratch", "--folder", folder)
    assert outcome.code == Exit.UNREACHABLE
    assert "1_ends.sql: the connection was lost while this file ran" in outcome.error
    assert "on a temporary server, and the database is unchanged" in outcome.error


def test_a_late_migration_is_planned_on_the_current_state_of_the_target(
    run: Run, write: Write, folder: Path, empty_database: Database
) -> None:
    write("3_base.sql", BASE)
    url = empty_database.url("migrator")
    apply_pending(url, read_source(folder))
    write("2_late.sql", "ALTER TABLE items ADD a int")
    assert (
        "2_late (in one transaction, older than the newest applied one; strongest lock: ACCESS EXCLUSIVE)"
        in (run("plan", "--url", url, "--folder", folder).out)
    )


def test_nothing_pending_is_reported(run: Run, folder: Path, empty_database: Database) -> None:
    outcome = run("plan", "--url", empty_database.url("migrator"), "--folder", folder)
    assert (outcome.code, outcome.out) == (Exit.FINE, "nothing is pending at an empty database\n")


def test_every_shipped_migration_can_be_planned_from_an_empty_database(run: Run) -> None:
    outcome = run("plan", "--from-scratch", "--markdown")
    assert outcome.code == Exit.FINE
    for migration in read_source():
        assert f"#### `{migration.name}` (" in outcome.out


def test_what_lint_finds_is_part_of_it(run: Run, write: Write, folder: Path) -> None:
    write("1_a.sql", "CREATE TABLE a (id int);\n\nALTER TABLE a ALTER id SET NOT NULL;")
    plan = json.loads(run("plan", "--from-scratch", "--folder", folder, "--json").out)
    (pending,) = plan["pending"]
    found = {(each["file"], each["line"], each["rule"]) for each in pending["findings"]}
    assert {("1_a.sql", 1, "missing-grant"), ("1_a.sql", 3, "adding-not-nullable-field")} <= found
    assert plan["squawk"] is True


def test_a_missing_squawk_is_reported(
    run: Run, write: Write, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(squawk, "is_installed", lambda: False)
    write("1_a.sql", "SELECT 1")
    assert "squawk is not installed" in run("plan", "--from-scratch", "--folder", folder).out


@pytest.mark.parametrize("sql", ["ALTER TABLE nowhere ADD a int", "-- no-transaction\nVACUUM nowhere"])
def test_a_migration_that_does_not_run_is_named_with_its_line(
    run: Run, write: Write, folder: Path, sql: str
) -> None:
    write("1_a.sql", sql)
    outcome = run("plan", "--from-scratch", "--folder", folder)
    assert outcome.code == Exit.ERROR
    assert 'relation "nowhere" does not exist (SQLSTATE 42P01)' in outcome.error


def test_an_edited_file_is_4(run: Run, write: Write, folder: Path, empty_database: Database) -> None:
    write("1_a.sql", "SELECT 1")
    url = empty_database.url("migrator")
    apply_pending(url, read_source(folder))
    write("1_a.sql", "SELECT 2")
    assert run("plan", "--url", url, "--folder", folder).code == Exit.MISMATCH
