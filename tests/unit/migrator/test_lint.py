"""The findings of groundwork's own lint rules in migration files."""

from __future__ import annotations

from pathlib import Path

import pytest

from db.migrator import lint_migrations, read_source
from db.migrator.lint import RULES
from tests.promises import promise

GRANT = "GRANT SELECT ON t TO app;\n"


def found(folder: Path) -> list[tuple[str, int, str]]:
    return [(f.path.name, f.line, f.rule) for f in lint_migrations(read_source(folder))]


@promise("each lint rule finds its violations, with their line")
@pytest.mark.parametrize(
    ("up", "line", "rule"),
    [
        ("-- why\nCREATE TABLE t ();", 2, "missing-grant"),
        ("CREATE TABLE t (); GRANT SELECT ON other TO app;", 1, "missing-grant"),
        ("ALTER TABLE t\n  DROP COLUMN a;", 1, "contract-in-expand"),
        ("ALTER TABLE t ADD a int, DROP b;", 1, "contract-in-expand"),
        ("DROP TABLE t;", 1, "contract-in-expand"),
        ("DROP FUNCTION f();", 1, "contract-in-expand"),
        ("ALTER TABLE t RENAME TO u;", 1, "contract-in-expand"),
        ("ALTER TABLE t RENAME COLUMN a TO b;", 1, "contract-in-expand"),
        ("SELECT 1;\nCREATE INDEX i ON t (a);", 2, "blocking-index"),
        ("-- why\n-- no-transaction\nVACUUM;", 2, "no-transaction"),
        ("-- No Transaction\nVACUUM;", 1, "no-transaction"),
        ("--no-transaction\nVACUUM;", 1, "no-transaction"),
        ("-- no-transaction\nVACUUM;\nANALYZE;", 3, "no-transaction"),
        ("-- no-transaction\nCREATE INDEX CONCURRENTLY ON t (a);", 2, "nameless-index"),
        ("SELECT 1;\nCOMMIT;", 2, "transaction-control"),
        ("-- phase: sometime\nSELECT 1;", 1, "phase"),
        ("SELECT 1;\n-- phase: contract\nSELECT 2;", 2, "phase"),
        ("\ufeffSELECT 1;", 1, "byte-order-mark"),
    ],
)
def test_a_problem_is_found_with_its_line(tmp_path: Path, up: str, line: int, rule: str) -> None:
    (tmp_path / "1_a.up.sql").write_text(up)
    (tmp_path / "1_a.down.sql").write_text("SELECT 1")
    assert found(tmp_path) == [("1_a.up.sql", line, rule)]
    assert rule in RULES


@promise("each lint rule finds its violations, with their line", control=True)
@pytest.mark.parametrize(
    "up",
    [
        "CREATE TABLE t (); " + GRANT,
        "CREATE TABLE n.t (); GRANT SELECT (a), UPDATE ON n.t TO app;",
        "CREATE TABLE t (); GRANT SELECT ON ALL TABLES IN SCHEMA n TO app;",
        "CREATE TABLE p PARTITION OF t FOR VALUES IN (1);",
        "CREATE TEMP TABLE t ();",
        "CREATE TABLE t (); CREATE INDEX i ON t (a); " + GRANT,
        "CREATE TABLE old (); DROP TABLE old; CREATE TABLE t (); " + GRANT,
        "-- no-transaction\nCREATE INDEX CONCURRENTLY i ON t (a);",
        "-- phase: contract\nALTER TABLE t DROP COLUMN a;",
        "-- no-transaction\n-- phase: contract\nDROP INDEX CONCURRENTLY i;",
        "ALTER TABLE t DROP CONSTRAINT c;",
        "ALTER TABLE t ALTER COLUMN a DROP DEFAULT;",
        "DROP TRIGGER x ON t;",
        "CREATE OR REPLACE FUNCTION f() RETURNS int LANGUAGE sql AS $$ DROP TABLE t $$;",
        "-- lint-ignore: missing-grant\nCREATE TABLE t ();",
        "SELECT 1;\n-- Filled by hand.\n-- lint-ignore: missing-grant, blocking-index\nCREATE TABLE t ();",
    ],
)
def test_correct_and_silenced_statements_have_no_findings(tmp_path: Path, up: str) -> None:
    (tmp_path / "1_a.up.sql").write_text(up)
    (tmp_path / "1_a.down.sql").write_text("DROP TABLE t")
    assert found(tmp_path) == []


def test_a_rule_is_silenced_only_for_its_statement(tmp_path: Path) -> None:
    (tmp_path / "1_a.up.sql").write_text(
        "SELECT 1;\n-- lint-ignore: missing-grant\nCREATE TABLE t ();\nCREATE TABLE u ();\n"
    )
    (tmp_path / "1_a.down.sql").write_text("SELECT 1")
    assert found(tmp_path) == [("1_a.up.sql", 4, "missing-grant")]


@pytest.mark.parametrize("name", ["1_a.sql", "1_a.up.sql"])
def test_a_migration_without_a_down_file_is_found(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("SELECT 1")
    assert found(tmp_path) == [(name, 1, "missing-down")]


@pytest.mark.parametrize(
    ("down", "rule"),
    [
        ("-- phase: contract\nDROP TABLE t;", "phase"),
        ("-- why\n-- no-transaction\nVACUUM;", "no-transaction"),
        ("-- no-transaction\nVACUUM;\nANALYZE;", "no-transaction"),
        ("DROP TABLE t;", None),
    ],
)
def test_down_files_are_checked_too(tmp_path: Path, down: str, rule: str | None) -> None:
    (tmp_path / "1_a.up.sql").write_text("SELECT 1")
    (tmp_path / "1_a.down.sql").write_text(down)
    assert [found_rule for _, _, found_rule in found(tmp_path)] == ([] if rule is None else [rule])


def test_the_repositorys_migrations_are_clean() -> None:
    assert lint_migrations(read_source()) == ()
