"""Comparison of the folder and the ledger, without a database."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from db.migrator import DirtyMigration, LedgerMismatch, LedgerRow, Migration, compare, read_source

CONCURRENTLY = "-- no-transaction\nCREATE INDEX CONCURRENTLY i ON t (a)"


@pytest.fixture
def migrations(tmp_path: Path) -> tuple[Migration, ...]:
    for version in (1, 2, 3):
        (tmp_path / f"{version}_m.sql").write_text(f"SELECT {version}")
    (tmp_path / "4_index.sql").write_text(CONCURRENTLY)
    return read_source(tmp_path)


def row(migration: Migration, *, success: bool = True, checksum: bytes | None = None) -> LedgerRow:
    return LedgerRow(
        migration.version,
        migration.description,
        datetime.now(UTC),
        success,
        checksum or migration.checksum,
        -1,
    )


def test_everything_is_pending_on_an_empty_database(migrations: tuple[Migration, ...]) -> None:
    state = compare([], migrations)
    assert state.pending == migrations
    assert state.version is None


def test_a_pending_migration_older_than_an_applied_one_is_out_of_order(
    migrations: tuple[Migration, ...],
) -> None:
    state = compare([row(migrations[0]), row(migrations[2])], migrations)
    assert [m.version for m in state.pending] == [2, 4]
    assert [m.version for m in state.out_of_order] == [2]
    assert state.version == 3


def test_an_edited_migration_is_a_problem_that_names_its_file(migrations: tuple[Migration, ...]) -> None:
    (problem,) = compare([row(migrations[0], checksum=b"x" * 48)], migrations).problems
    assert "1_m.sql was edited after it was applied" in str(problem)
    assert "`groundwork migrate repair`" in str(problem)


def test_an_applied_migration_without_a_file_is_a_problem(migrations: tuple[Migration, ...]) -> None:
    (problem,) = compare([row(migrations[0])], migrations[1:]).problems
    assert type(problem) is LedgerMismatch
    assert problem.version == 1
    # The row may be another program's, so the advice to delete a row does not name this one.
    assert "--ignore-missing" in str(problem)
    assert "`groundwork migrate repair --forget VERSION` deletes the ledger's row" in str(problem)
    assert "--forget 1" not in str(problem)


def test_advice_on_several_missing_files_is_given_once_with_their_number(
    migrations: tuple[Migration, ...],
) -> None:
    edited = row(migrations[3], checksum=b"x" * 48)
    state = compare([*map(row, migrations[:3]), edited], migrations[3:])
    lines = list(state.problem_lines())
    assert [version for version, _ in lines] == [1, 2, 3, None, 4]
    assert [text for _, text in lines[:3]] == [
        f"migration {n} (m) is applied but has no file" for n in (1, 2, 3)
    ]
    assert lines[3][1].startswith("for these 3 migrations: restore the file")
    assert "--forget" in lines[3][1]
    assert lines[4][1] == str(state.problems[3])
    # Each problem alone has the advice, because a command may report only one.
    assert all("--forget" in str(problem) for problem in state.problems[:3])
    (only,) = compare([row(migrations[0])], migrations[1:]).problem_lines()
    assert "--forget" in only[1]


def test_a_renumbered_file_is_recognised_by_its_text(migrations: tuple[Migration, ...]) -> None:
    moved = replace(migrations[0], version=9)
    (problem,) = compare([row(migrations[0])], [*migrations[1:], moved]).problems
    assert "rename that file back to number 1" in str(problem)
    assert "`groundwork migrate repair --moved 9`" in str(problem)
    # Or another program's migration has the same text.
    assert "pass --ignore-missing" in str(problem)
    # A file of the same text that is applied itself has not moved.
    (problem,) = compare([row(migrations[0]), row(moved)], [*migrations[1:], moved]).problems
    assert "--moved" not in str(problem)


def test_ignored_rows_are_neither_problems_nor_counted(migrations: tuple[Migration, ...]) -> None:
    theirs = [row(replace(migrations[0], version=version)) for version in (7, 8)]
    theirs[1] = replace(theirs[1], success=False)
    rows = [row(migrations[0]), *theirs]
    assert len(compare(rows, migrations).problems) == 2
    state = compare(rows, migrations, ignore_missing=True)
    assert (state.problems, state.version, state.interrupted, state.out_of_order) == ((), 1, (), ())
    assert [m.version for m in state.pending] == [2, 3, 4]


def test_a_dirty_migration_is_a_problem(migrations: tuple[Migration, ...]) -> None:
    (problem,) = compare([row(migrations[0], success=False)], migrations).problems
    assert isinstance(problem, DirtyMigration)
    for option in ("--mark-applied 1", "--forget 1"):
        assert f"`groundwork migrate repair {option}`" in str(problem)


def test_an_interrupted_concurrent_index_is_pending_and_not_a_problem(
    migrations: tuple[Migration, ...],
) -> None:
    state = compare([row(m) for m in migrations[:3]] + [row(migrations[3], success=False)], migrations)
    assert state.problems == ()
    assert [m.version for m in state.pending] == [4]
    assert [r.version for r in state.interrupted] == [4]
    assert state.version == 3


@pytest.mark.parametrize(
    ("up", "down", "is_resumable"),
    [
        (
            "CREATE TABLE t (); COMMIT; CREATE TABEL u ()",
            "-- no-transaction\nDROP INDEX CONCURRENTLY i",
            False,
        ),
        (CONCURRENTLY, "SELECT 1; COMMIT; DROP INDEX i", False),
        (CONCURRENTLY, "-- no-transaction\nCALL remove()", False),
        (CONCURRENTLY, "-- no-transaction\nDROP SUBSCRIPTION s", False),
        ("-- no-transaction\nCREATE INDEX i ON t (a)", "DROP INDEX i", False),
        (CONCURRENTLY, "-- no-transaction\nDROP INDEX IF EXISTS i", True),
        (CONCURRENTLY, "-- no-transaction\nDROP INDEX i; DROP TABLE t", True),
        (CONCURRENTLY, "BEGIN; DROP INDEX i; COMMIT", True),
        ("CREATE INDEX i ON t (a)", "-- no-transaction\nDROP INDEX CONCURRENTLY i", True),
        ("-- no-transaction\nDROP INDEX CONCURRENTLY -- c\nd.s.i/**/RESTRICT", "SELECT 1", True),
        ("-- no-transaction\nALTER TABLE ONLY (t) DETACH/**/PARTITION p CONCURRENTLY", "SELECT 1", True),
    ],
)
def test_a_dirty_row_is_resumed_only_if_each_script_that_may_have_left_it_can_be(
    tmp_path: Path, up: str, down: str, is_resumable: bool
) -> None:
    (tmp_path / "1_a.up.sql").write_text(up)
    (tmp_path / "1_a.down.sql").write_text(down)
    migrations = read_source(tmp_path)
    problems = compare([row(migrations[0], success=False)], migrations).problems
    assert [type(problem) for problem in problems] == ([] if is_resumable else [DirtyMigration])
