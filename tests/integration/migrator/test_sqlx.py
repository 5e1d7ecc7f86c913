"""Compatibility with sqlx-cli: with golden files always, with the real program if it is available."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from db.migrator import MIGRATIONS_FOLDER, apply_pending, read_source, revert, status
from tests.conftest import Connection, Database
from tests.integration.migrator import golden
from tests.integration.migrator.conftest import Spawn, Write, applied_versions
from tests.integration.migrator.sqlx_cli import Sqlx, sqlx_program
from tests.promises import promise
from tests.scale import scaled

MIXES = scaled(3, 25)
STEPS = 8


@promise("ledger and files are compatible with sqlx: any mix of runs by both tools has the same result")
def test_what_sqlx_left_after_a_run_is_what_we_leave(empty_database: Database) -> None:
    apply_pending(empty_database.url("migrator"), read_source(golden.FOLDER))
    assert golden.snapshot(empty_database) == golden.recorded()["run"]


def test_what_sqlx_left_after_reverting_is_what_we_leave(empty_database: Database) -> None:
    url, migrations = empty_database.url("migrator"), read_source(golden.FOLDER)
    apply_pending(url, migrations)
    revert(url, migrations)
    assert golden.snapshot(empty_database) == golden.recorded()["revert"]
    # sqlx skips a migration without a down file. groundwork raises an error, so stop above it.
    revert(url, migrations, target=1)
    assert golden.snapshot(empty_database) == golden.recorded()["revert to 0"]


@pytest.mark.parametrize("step", ["run", "revert", "revert to 0"])
def test_rows_written_by_sqlx_are_interpreted_correctly(
    empty_database: Database, owner: Connection, step: str
) -> None:
    url, migrations = empty_database.url("migrator"), read_source(golden.FOLDER)
    apply_pending(url, ())
    for version, description, success, checksum in golden.recorded()[step]["rows"]:
        owner.execute(
            "INSERT INTO _sqlx_migrations VALUES (%s, %s, now(), %s, decode(%s, 'hex'), -1)",
            [int(version), description, success == "t", checksum],
        )
    state = status(url, migrations)
    assert state.problems == ()
    applied = {int(row[0]) for row in golden.recorded()[step]["rows"]}
    assert {m.version for m in state.pending} == {m.version for m in migrations} - applied


@pytest.fixture
def sqlx(empty_database: Database) -> Callable[[Path], Sqlx]:
    program = sqlx_program()
    return lambda folder: Sqlx(program, empty_database.url("migrator"), folder)


@pytest.mark.timeout(3600)
def test_the_golden_record_is_what_sqlx_leaves(
    sqlx: Callable[[Path], Sqlx], empty_database: Database
) -> None:
    tool = sqlx(golden.FOLDER)
    assert tool.run().returncode == 0
    assert golden.snapshot(empty_database) == golden.recorded()["run"]
    assert tool.revert().returncode == 0
    assert golden.snapshot(empty_database) == golden.recorded()["revert"]


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
@pytest.mark.parametrize("seed", range(MIXES))
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
    assert golden.snapshot(empty_database) == golden.recorded()["run"]
