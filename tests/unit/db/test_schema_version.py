"""The check whether this code can run with a database's schema."""

from __future__ import annotations

import pytest

from db.rows import AppliedMigration
from db.schema_version import expected_migrations, schema_problem

EXPECTED = expected_migrations()
APPLIED = [AppliedMigration(m.version, m.description, True, m.checksum) for m in EXPECTED]


def test_the_package_contains_migrations() -> None:
    assert EXPECTED


def test_a_fully_migrated_schema_is_accepted() -> None:
    assert schema_problem(APPLIED, EXPECTED) is None


def test_migrations_that_only_the_database_knows_are_accepted() -> None:
    assert schema_problem([*APPLIED, AppliedMigration(9999, "later", True, b"")], EXPECTED) is None


@pytest.mark.parametrize("count", [0, len(APPLIED) - 1])
def test_pending_migrations_are_named(count: int) -> None:
    problem = schema_problem(APPLIED[:count], EXPECTED)
    assert problem is not None
    assert problem.startswith(f"{len(APPLIED) - count} pending: ")
    assert EXPECTED[-1].up.path.name in problem


def test_an_unfinished_migration_is_named() -> None:
    dirty = AppliedMigration(9999, "half done", False, b"")
    assert "9999 (half done) started but did not finish" in str(schema_problem([*APPLIED, dirty], EXPECTED))


def test_a_migration_with_other_content_is_named() -> None:
    edited = AppliedMigration(APPLIED[0].version, "x", True, b"other")
    assert EXPECTED[0].up.path.name in str(schema_problem([edited, *APPLIED[1:]], EXPECTED))
