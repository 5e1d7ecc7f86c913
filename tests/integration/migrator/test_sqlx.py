"""Compatibility with sqlx-cli: with golden files always, with the real program if it is available."""

from __future__ import annotations

import random
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from db.migrator import MIGRATIONS_FOLDER, LedgerMismatch, apply_pending, read_source, revert, status
from ops.commands.migrate import migrate
from tests.conftest import Connection, Database
from tests.integration.migrator import golden
from tests.integration.migrator.conftest import Spawn, Write, applied_versions
from tests.integration.migrator.sqlx_cli import VERSIONS, Sqlx, sqlx_program
from tests.integration.migrator.sqlx_folders import FOLDERS
from tests.promises import promise
from tests.scale import scaled

# The first test may build sqlx-cli.
pytestmark = pytest.mark.timeout(3600)
# One version for each mix, in turns.
MIXES = [(VERSIONS[seed % len(VERSIONS)], seed) for seed in range(scaled(2, 50))]
STEPS = 8


def recorded(step: str) -> Any:
    """Return what every version of sqlx left after a step, which is the same."""
    first, *others = (golden.recorded(version)[step] for version in VERSIONS)
    assert all(other == first for other in others)
    return first


@promise("ledger and files are compatible with sqlx: any mix of runs by both tools has the same result")
def test_what_sqlx_left_after_a_run_is_what_we_leave(empty_database: Database) -> None:
    apply_pending(empty_database.url("migrator"), read_source(golden.FOLDER))
    assert golden.snapshot(empty_database) == recorded("run")


def test_what_sqlx_left_after_reverting_is_what_we_leave(empty_database: Database) -> None:
    url, migrations = empty_database.url("migrator"), read_source(golden.FOLDER)
    apply_pending(url, migrations)
    revert(url, migrations)
    assert golden.snapshot(empty_database) == recorded("revert")
    # sqlx skips a migration without a down file. groundwork raises an error, so stop above it.
    revert(url, migrations, target=1)
    assert golden.snapshot(empty_database) == recorded("revert to 0")


@pytest.mark.parametrize("step", ["run", "revert", "revert to 0"])
def test_rows_written_by_sqlx_are_interpreted_correctly(
    empty_database: Database, owner: Connection, step: str
) -> None:
    url, migrations = empty_database.url("migrator"), read_source(golden.FOLDER)
    apply_pending(url, ())
    for version, description, success, checksum in recorded(step)["rows"]:
        owner.execute(
            "INSERT INTO _sqlx_migrations VALUES (%s, %s, now(), %s, decode(%s, 'hex'), -1)",
            [int(version), description, success == "t", checksum],
        )
    state = status(url, migrations)
    assert state.problems == ()
    applied = {int(row[0]) for row in recorded(step)["rows"]}
    assert {m.version for m in state.pending} == {m.version for m in migrations} - applied


@pytest.fixture(params=VERSIONS)
def sqlx(request: pytest.FixtureRequest, empty_database: Database) -> Callable[[Path], Sqlx]:
    program = sqlx_program(request.param)
    return lambda folder: Sqlx(program, empty_database.url("migrator"), folder)


def test_the_golden_record_is_what_sqlx_leaves(
    sqlx: Callable[[Path], Sqlx], empty_database: Database
) -> None:
    tool = sqlx(golden.FOLDER)
    assert tool.run().returncode == 0
    assert golden.snapshot(empty_database) == recorded("run")
    assert tool.revert().returncode == 0
    assert golden.snapshot(empty_database) == recorded("revert")


def steps_of(seed: int, newest: int) -> list[tuple[str, bool, int]]:
    """Return random steps that end at the newest version: up or down, by sqlx or not, and to which version."""
    draw = random.Random(seed)
    walk, version = [], 0
    for _ in range(STEPS):
        target = draw.randint(0, newest)
        walk.append(("up" if target > version else "down", draw.random() < 0.5, target))
        version = target
    return [*walk, ("up", draw.random() < 0.5, newest)]


@promise("ledger and files are compatible with sqlx: any mix of runs by both tools has the same result")
@pytest.mark.parametrize(("sqlx", "seed"), MIXES, indirect=["sqlx"])
def test_any_mix_of_runs_by_either_tool_ends_the_same(
    sqlx: Callable[[Path], Sqlx], empty_database: Database, owner: Connection, seed: int
) -> None:
    url, migrations, tool = empty_database.url("migrator"), read_source(), sqlx(MIGRATIONS_FOLDER)
    apply_pending(url, migrations)
    goal = golden.snapshot(empty_database)
    revert(url, migrations, target=0)
    for direction, by_sqlx, target in steps_of(seed, migrations[-1].version):
        if by_sqlx:
            done = tool.run(target) if direction == "up" else tool.revert(target)
            assert done.returncode == 0, done.stdout
        elif direction == "up":
            apply_pending(url, migrations, target=target)
        else:
            revert(url, migrations, target=target)
        assert applied_versions(owner) == [m.version for m in migrations if m.version <= target]
    assert golden.snapshot(empty_database) == goal


def test_sqlx_sees_what_we_left_dirty_and_stops(
    sqlx: Callable[[Path], Sqlx], empty_database: Database, owner: Connection
) -> None:
    apply_pending(empty_database.url("migrator"), read_source(golden.FOLDER), target=4)
    owner.execute("UPDATE _sqlx_migrations SET success = FALSE WHERE version = 4")
    assert "migration 4 is partially applied" in sqlx(golden.FOLDER).run().stdout
    apply_pending(empty_database.url("migrator"), read_source(golden.FOLDER))
    assert sqlx(golden.FOLDER).run().returncode == 0


def test_an_edited_file_is_refused_by_both(
    sqlx: Callable[[Path], Sqlx], empty_database: Database, folder: Path, write: Write
) -> None:
    write("1_a.sql", "SELECT 1")
    apply_pending(empty_database.url("migrator"), read_source(folder))
    write("1_a.sql", "SELECT 2")
    assert "has been modified" in sqlx(folder).run().stdout


def test_both_ignore_rows_without_a_file_with_the_option(
    sqlx: Callable[[Path], Sqlx], empty_database: Database, folder: Path, write: Write, owner: Connection
) -> None:
    path = write("1_theirs.sql", "SELECT 1")
    url, tool = empty_database.url("migrator"), sqlx(folder)
    apply_pending(url, read_source(folder))
    path.unlink()
    for version, by_sqlx in ((2, True), (3, False)):
        write(f"{version}_ours.sql", "SELECT 2")
        assert tool.run().returncode != 0
        with pytest.raises(LedgerMismatch):
            apply_pending(url, read_source(folder))
        if by_sqlx:
            assert tool.run(None, "--ignore-missing").returncode == 0
        else:
            apply_pending(url, read_source(folder), ignore_missing=True)
    assert applied_versions(owner) == [1, 2, 3]


SQLX_TOML = """
[migrate]
create-schemas = ["shop", '"My Shop"']
table-name = '"My Shop".applied'
migrations-dir = "sql"
ignored-chars = ["\\r", " ", "\\uFEFF"]
"""


@promise("`migrate` reads sqlx.toml as sqlx-cli 0.9 does, and refuses other keys by name")
@pytest.mark.parametrize("sqlx_first", [True, False], ids=["sqlx first", "groundwork first"])
def test_sqlx_toml_has_the_same_effect_on_both(
    empty_database: Database,
    owner: Connection,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    sqlx_first: bool,
) -> None:
    """Each applies one migration and accepts the other's, in a ledger in a schema that the first one creates."""
    program = sqlx_program("0.9.0")
    empty_database.psql(f"GRANT CREATE ON DATABASE {empty_database.name} TO owner")
    (tmp_path / "sqlx.toml").write_text(SQLX_TOML)
    (tmp_path / "sql").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DATABASE_URL", empty_database.url("migrator"))
    for version, by_sqlx in ((1, sqlx_first), (2, not sqlx_first), (3, sqlx_first)):
        # A byte order mark would not be accepted by the server.
        path = tmp_path / "sql" / f"{version}_t.sql"
        path.write_text(f"CREATE TABLE\r shop.t{version} ();")
        if by_sqlx:
            done = subprocess.run(
                [program, "migrate", "run", "--no-dotenv"], capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, done.stdout + done.stderr
        else:
            result = CliRunner().invoke(migrate, ["up"])
            assert result.exit_code == 0, result.exception
        # Only ignored characters.
        path.write_text(f"\ufeffCREATETABLE\r\r  shop.t{version}();")
    assert CliRunner().invoke(migrate, ["status"]).exit_code == 0
    rows = owner.execute('SELECT version, success FROM "My Shop".applied ORDER BY 1').fetchall()
    assert rows == [(1, True), (2, True), (3, True)]


@promise("what sqlx-cli applies is applied, with a warning if it is risky")
@pytest.mark.parametrize("name", list(FOLDERS)[: scaled(2, len(FOLDERS))])
def test_an_unusual_folder_has_the_same_result_with_both(
    sqlx: Callable[[Path], Sqlx],
    empty_database: Database,
    folder: Path,
    write: Write,
    owner: Connection,
    name: str,
) -> None:
    files, expected = FOLDERS[name]
    for file, sql in files.items():
        write(file, sql)
    done = sqlx(folder).run()
    assert done.returncode == 0, done.stderr
    goal = golden.snapshot(empty_database)
    assert status(empty_database.url("migrator"), read_source(folder)).pending == ()
    owner.execute("DROP TYPE IF EXISTS e CASCADE")
    owner.execute(f"DROP TABLE _sqlx_migrations, {', '.join(expected)}")
    apply_pending(empty_database.url("migrator"), read_source(folder))
    assert golden.snapshot(empty_database) == goal


def test_running_beside_sqlx_without_a_lock_succeeds_with_the_same_result(
    sqlx: Callable[[Path], Sqlx],
    empty_database: Database,
    folder: Path,
    write: Write,
    owner: Connection,
    spawn: Spawn,
) -> None:
    for version in range(1, 9):
        write(f"{version}_t{version}.sql", f"CREATE TABLE t{version} (); SELECT pg_sleep(0.05);")
    url, migrations = empty_database.url("migrator"), read_source(folder)
    apply_pending(url, migrations)
    goal = golden.snapshot(empty_database)
    owner.execute("DROP TABLE _sqlx_migrations, " + ", ".join(f"t{n}" for n in range(1, 9)))
    ours: list[Any] = [spawn() for _ in range(3)]
    theirs = [sqlx(folder).start() for _ in range(2)]
    errors = [process.communicate(timeout=180)[1] for process in ours]
    for process in theirs:
        # Two migrators without a lock may make each other fail.
        process.communicate(timeout=180)
    assert errors == [""] * 3
    apply_pending(url, migrations)
    assert golden.snapshot(empty_database) == goal


def test_sqlx_runs_what_we_call_a_contraction_as_any_other_file(
    sqlx: Callable[[Path], Sqlx], empty_database: Database
) -> None:
    url, migrations = empty_database.url("migrator"), read_source(golden.FOLDER)
    apply_pending(url, migrations, phase="expand")
    assert [m.up.phase for m in status(url, migrations).pending] == ["contract"]
    assert sqlx(golden.FOLDER).run().returncode == 0
    assert golden.snapshot(empty_database) == recorded("run")
