"""The findings of groundwork's own lint rules in migration files."""

from __future__ import annotations

from pathlib import Path

import pytest

from db.migrator import lint_migrations, read_source, script
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
        ("DROP ROUTINE f(int);", 1, "contract-in-expand"),
        ("ALTER ROUTINE f RENAME TO g;", 1, "contract-in-expand"),
        ("DROP AGGREGATE IF EXISTS n.total(int);", 1, "contract-in-expand"),
        ("ALTER AGGREGATE total(int) RENAME TO sums;", 1, "contract-in-expand"),
        ("DROP FOREIGN TABLE t;", 1, "contract-in-expand"),
        ("ALTER FOREIGN TABLE t DROP COLUMN a;", 1, "contract-in-expand"),
        ("ALTER FOREIGN TABLE t RENAME a TO b;", 1, "contract-in-expand"),
        ("ALTER TABLE t SET SCHEMA n;", 1, "contract-in-expand"),
        ("ALTER MATERIALIZED VIEW IF EXISTS v SET SCHEMA n;", 1, "contract-in-expand"),
        ("ALTER FUNCTION f(int) SET SCHEMA n;", 1, "contract-in-expand"),
        ("ALTER TYPE t DROP ATTRIBUTE IF EXISTS a;", 1, "contract-in-expand"),
        ("ALTER TYPE t ADD ATTRIBUTE a int, RENAME ATTRIBUTE b TO c;", 1, "contract-in-expand"),
        ("DROP EXTENSION citext;", 1, "contract-in-expand"),
        ("DROP COLLATION german;", 1, "contract-in-expand"),
        ("CREATE FOREIGN TABLE t () SERVER s;", 1, "missing-grant"),
        ("ALTER TABLE t RENAME TO u;", 1, "contract-in-expand"),
        ("ALTER TABLE t RENAME COLUMN a TO b;", 1, "contract-in-expand"),
        ("SELECT 1;\nCREATE INDEX i ON t (a);", 2, "blocking-index"),
        ("-- why\n-- no-transaction\nVACUUM;", 2, "no-transaction"),
        ("-- No Transaction\nVACUUM;", 1, "no-transaction"),
        ("--no-transaction\nVACUUM;", 1, "no-transaction"),
        ("-- no-transaction\nVACUUM;\nANALYZE;", 2, "no-transaction"),
        ("-- no-transaction\nANALYZE;\nANALYZE;", 3, "no-transaction"),
        ("COPY t TO stdout", 1, "copy-stdin"),
        ("-- no-transaction\nCREATE INDEX CONCURRENTLY ON t (a);", 2, "nameless-index"),
        ("-- no-transaction\nCREATE INDEX CONCURRENTLY /* big */ ON t (a);", 2, "nameless-index"),
        ("SELECT 1;\nCOMMIT;", 2, "transaction-control"),
        ("-- phase: sometime\nSELECT 1;", 1, "phase"),
        ("SELECT 1;\n-- phase: contract\nSELECT 2;", 2, "phase"),
        ("\ufeffSELECT 1;", 1, "byte-order-mark"),
        ("\\restrict aBc\nSELECT 1;", 1, "psql-command"),
        ("SELECT 1;\n  \\connect other\nSELECT 2;", 2, "psql-command"),
        ("SELECT 1;\nCOPY t (a) FROM stdin;\n1\nit's; DROP TABLE t;\n\\.\nSELECT 2;", 2, "copy-stdin"),
        ("COPY t FROM STDIN", 1, "copy-stdin"),
        ("SELECT 1;\nVACUUM t;", 2, "needs-no-transaction"),
        ("CREATE UNIQUE INDEX CONCURRENTLY i ON t (a);", 1, "needs-no-transaction"),
        ("DROP INDEX CONCURRENTLY i;", 1, "needs-no-transaction"),
        ("REINDEX (VERBOSE) TABLE CONCURRENTLY t;", 1, "needs-no-transaction"),
        ("ALTER TABLE t DETACH PARTITION p CONCURRENTLY;", 1, "needs-no-transaction"),
        ("REINDEX SCHEMA s;", 1, "needs-no-transaction"),
        ("REINDEX (VERBOSE, TABLESPACE x) SCHEMA s;", 1, "needs-no-transaction"),
        ("-- no-transaction\nREINDEX (VERBOSE) SCHEMA s;\nANALYZE;", 2, "no-transaction"),
        ("SELECT 1;\nCLUSTER VERBOSE;", 2, "needs-no-transaction"),
        ("ALTER DATABASE d SET TABLESPACE x;", 1, "needs-no-transaction"),
        ("DISCARD ALL;", 1, "needs-no-transaction"),
        ("ALTER TYPE k ADD VALUE 'new';\nUPDATE t SET a = 'new';", 2, "new-enum-value"),
        ("alter type s . \"k k\" ADD/**/VALUE 'new';\nUPDATE t SET a = 'new';", 2, "new-enum-value"),
        (
            "ALTER TYPE s.k ADD VALUE IF NOT EXISTS 'b' AFTER 'a';\nDO $$ BEGIN UPDATE t SET a = 'b'; END $$",
            2,
            "new-enum-value",
        ),
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
        "SELECT '\n\\restrict', $$\n\\connect$$, E'\\\\';\n/*\n\\. */",
        "COPY t TO '/tmp/stdout'; COPY t FROM '/tmp/stdin';",
        "-- no-transaction\nVACUUM t;",
        "REFRESH MATERIALIZED VIEW CONCURRENTLY v; REINDEX TABLE t;",
        'REINDEX (VERBOSE) TABLE t; REINDEX TABLE system; CLUSTER t; CLUSTER "t"; ALTER DATABASE d SET a = 1;',
        "COMMENT ON TABLE t IS 'concurrently'; ALTER TABLE t ALTER a SET DEFAULT 'concurrently';",
        "ALTER TYPE k ADD VALUE 'a'; ALTER TYPE k ADD VALUE 'b' AFTER 'a'; UPDATE t SET a = 'aa';",
        "CREATE TYPE k AS ENUM (); ALTER TYPE k ADD VALUE 'a'; CREATE VIEW v AS SELECT 'a'::k;",
        "ALTER TYPE k ADD VALUE 'a'; CREATE FUNCTION f() RETURNS text LANGUAGE sql AS $$ SELECT 'a' $$;",
        "CREATE TABLE t (); " + GRANT,
        "CREATE TABLE n.t (); GRANT SELECT (a), UPDATE ON n.t TO app;",
        "CREATE TABLE t (); GRANT SELECT ON ALL TABLES IN SCHEMA n TO app;",
        "CREATE TABLE p PARTITION OF t FOR VALUES IN (1);",
        "CREATE TEMP TABLE t AS SELECT 1 AS a; CREATE INDEX ON t (a); DROP TABLE t;",
        "CREATE LOCAL TEMPORARY TABLE IF NOT EXISTS t (a int); ALTER TABLE pg_temp.t DROP COLUMN a; DROP TABLE t;",
        "CREATE TABLE pg_temp.t (a int); CREATE INDEX ON t (a); ALTER TABLE t RENAME TO u; DROP TABLE pg_temp.u;",
        "SELECT 1 AS a INTO TEMP t; CREATE INDEX ON pg_temp.t (a); ALTER TABLE t RENAME a TO b; DROP TABLE t;",
        "CREATE OR REPLACE TEMP VIEW v AS SELECT 1; CREATE TEMP SEQUENCE s; DROP SEQUENCE s; DROP VIEW v;",
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
        f"CREATE TABLE u (); ALTER TABLE u RENAME TO t; {GRANT}",
        f"CREATE TABLE t (); ALTER TABLE t SET SCHEMA n; {GRANT.replace(' t ', ' n.t ')} DROP TABLE n.t;",
        "CREATE FUNCTION f(int) RETURNS int RETURN 1; DROP ROUTINE f(int);",
        "CREATE AGGREGATE f(int) (sfunc = int4pl, stype = int); ALTER AGGREGATE f(int) SET SCHEMA n;",
        "CREATE EXTENSION citext; ALTER EXTENSION citext SET SCHEMA n; DROP EXTENSION citext;",
        "ALTER FUNCTION f(int) SET search_path = n; ALTER TABLE t SET (fillfactor = 50), SET TABLESPACE x;",
        f"CREATE TABLE IF NOT EXISTS t (); CREATE TABLE IF NOT EXISTS t (); {GRANT}",
        "SELECT 1;\n-- Filled by hand.\n-- lint-ignore: missing-grant, blocking-index\nCREATE TABLE t ();",
    ],
)
def test_correct_and_silenced_statements_have_no_findings(tmp_path: Path, up: str) -> None:
    (tmp_path / "1_a.up.sql").write_text(up)
    (tmp_path / "1_a.down.sql").write_text("DROP TABLE t")
    assert found(tmp_path) == []


@promise("each lint rule finds its violations, with their line")
@pytest.mark.parametrize(
    ("up", "line", "rule"),
    [
        ("ALTER TABLE a ADD COLUMN x int;\nALTER TABLE b DROP COLUMN x;", 2, "contract-in-expand"),
        ("ALTER TABLE a ADD COLUMN x int;\nALTER TABLE b RENAME COLUMN x TO y;", 2, "contract-in-expand"),
        ("ALTER TABLE a ADD COLUMN b int;\nDROP TABLE b;", 2, "contract-in-expand"),
        (f"CREATE TABLE n.t (); {GRANT.replace(' t ', ' n.t ')}DROP TABLE o.t;", 2, "contract-in-expand"),
        ("CREATE FUNCTION t() RETURNS int RETURN 1;\nDROP TABLE t;", 2, "contract-in-expand"),
        ("CREATE FUNCTION f(text) RETURNS int RETURN 1;\nDROP FUNCTION f(int);", 2, "contract-in-expand"),
        (f"DROP TABLE t;\nCREATE TABLE t (); {GRANT}", 1, "contract-in-expand"),
        (f"CREATE TABLE IF NOT EXISTS t (); {GRANT}DROP TABLE t;", 2, "contract-in-expand"),
        ("CREATE OR REPLACE VIEW v AS SELECT 1;\nDROP VIEW v;", 2, "contract-in-expand"),
        ("CREATE VIEW t AS SELECT 1;\nCREATE INDEX i ON n.t (a);", 2, "blocking-index"),
        ("CREATE TABLE n.t ();\nGRANT SELECT ON o.t TO app;", 1, "missing-grant"),
        ("CREATE TABLE n.t ();\nGRANT SELECT ON ALL TABLES IN SCHEMA o TO app;", 1, "missing-grant"),
        ("-- phase: contract\nDROP TABLE IF EXISTS t;\nCREATE TABLE t ();", 3, "missing-grant"),
        ("GRANT SELECT ON t TO app;\nCREATE TABLE t ();", 2, "missing-grant"),
        ("GRANT SELECT ON ALL TABLES IN SCHEMA n TO app;\nCREATE TABLE n.t ();", 2, "missing-grant"),
        (
            f"-- phase: contract\nCREATE TABLE t (); {GRANT}DROP TABLE t;\nCREATE TABLE t ();",
            4,
            "missing-grant",
        ),
        (
            f"CREATE TABLE u ();\nALTER TABLE u RENAME TO v;\nCREATE TABLE u (); {GRANT.replace(' t ', ' u ')}",
            1,
            "missing-grant",
        ),
        ("CREATE TABLE t ();\nDROP TRIGGER t ON u;", 1, "missing-grant"),
        ("SELECT 1 AS a INTO t;\nSELECT 2;", 1, "missing-grant"),
        ("CREATE TEMP TABLE t ();\nDROP TABLE n.t;", 2, "contract-in-expand"),
        ("CREATE TEMP TABLE t ();\nDROP TABLE t;\nDROP TABLE t;", 3, "contract-in-expand"),
        ("CREATE FUNCTION pg_temp.f() RETURNS int RETURN 1;\nDROP FUNCTION f();", 2, "contract-in-expand"),
    ],
)
def test_another_object_of_the_same_name_hides_nothing(tmp_path: Path, up: str, line: int, rule: str) -> None:
    (tmp_path / "1_a.up.sql").write_text(up)
    (tmp_path / "1_a.down.sql").write_text("SELECT 1")
    assert found(tmp_path) == [("1_a.up.sql", line, rule)]


@pytest.mark.parametrize(
    "up",
    [
        f"CREATE TABLE t (); {GRANT}ALTER TABLE t ADD a int; ALTER TABLE t DROP a; ALTER TABLE t RENAME b TO c;",
        "ALTER TABLE t ADD a int; ALTER TABLE t RENAME a TO b; ALTER TABLE t DROP b;",
        f"CREATE TABLE n.u (); ALTER TABLE n.u RENAME TO t; {GRANT.replace(' t ', ' n.t ')}DROP TABLE n.t;",
        "CREATE FUNCTION f(a  int) RETURNS int RETURN 1; SELECT f(1); DROP FUNCTION f(A int);",
        "CREATE FUNCTION f() RETURNS int RETURN 1; DROP FUNCTION f;",
        "CREATE VIEW v AS SELECT 1; DROP VIEW v;",
    ],
)
def test_what_the_file_itself_made_may_be_dropped(tmp_path: Path, up: str) -> None:
    (tmp_path / "1_a.up.sql").write_text(up)
    (tmp_path / "1_a.down.sql").write_text("SELECT 1")
    assert [rule for _, _, rule in found(tmp_path) if rule == "contract-in-expand"] == []


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


@promise("the time of lint is proportional to the size of the files")
def test_twice_as_many_statements_have_twice_as_many_tokens_to_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = script._TOKEN
    counted: list[int] = []

    class Counting:
        def match(self, sql: str, position: int) -> object:
            counted[-1] += 1
            return token.match(sql, position)

    monkeypatch.setattr(script, "_TOKEN", Counting())
    for count in (50, 100):
        counted.append(0)
        inserts = "".join(f"-- lint-ignore: a\nINSERT INTO t VALUES ({n});\n" for n in range(count))
        (tmp_path / "1_a.up.sql").write_text(f"CREATE TABLE t ();\n{GRANT}{inserts}")
        assert [rule for _, _, rule in found(tmp_path)] == ["missing-down"]
    assert counted[1] < 2.5 * counted[0]


def test_a_line_for_psql_hides_no_statement(tmp_path: Path) -> None:
    (tmp_path / "1_a.up.sql").write_text(
        "\\restrict x\nDROP TABLE t;\n\\unrestrict x\nALTER TABLE u RENAME TO v;\n"
    )
    (tmp_path / "1_a.down.sql").write_text("SELECT 1")
    assert found(tmp_path) == [
        ("1_a.up.sql", 1, "psql-command"),
        ("1_a.up.sql", 2, "contract-in-expand"),
        ("1_a.up.sql", 3, "psql-command"),
        ("1_a.up.sql", 4, "contract-in-expand"),
    ]


def test_rows_of_a_copy_hide_nothing_after_them(tmp_path: Path) -> None:
    (tmp_path / "1_a.up.sql").write_text("COPY t FROM stdin;\n1\tit's\n2\n\\.\n\\echo\nDROP TABLE t;\n")
    (tmp_path / "1_a.down.sql").write_text("SELECT 1")
    assert found(tmp_path) == [
        ("1_a.up.sql", 1, "copy-stdin"),
        ("1_a.up.sql", 5, "psql-command"),
        ("1_a.up.sql", 6, "contract-in-expand"),
    ]


def test_only_the_given_rules_are_applied(tmp_path: Path) -> None:
    (tmp_path / "1_a.sql").write_text("CREATE TABLE t ();\nVACUUM;")
    migrations = read_source(tmp_path)
    assert {f.rule for f in lint_migrations(migrations)} == {
        "missing-down",
        "missing-grant",
        "needs-no-transaction",
    }
    assert {f.rule for f in lint_migrations(migrations, {"missing-down"})} == {"missing-down"}


@pytest.mark.parametrize(
    ("begin", "said"),
    [
        ("BEGIN", "has no effect"),
        ("START TRANSACTION", "has no effect"),
        ("BEGIN ISOLATION LEVEL SERIALIZABLE", "write `SET TRANSACTION ISOLATION LEVEL SERIALIZABLE`"),
        ("START TRANSACTION READ WRITE", "write `SET TRANSACTION READ WRITE`"),
    ],
)
def test_a_begin_that_sets_modes_is_not_said_to_have_no_effect(tmp_path: Path, begin: str, said: str) -> None:
    (tmp_path / "1_a.sql").write_text(f"SET statement_timeout = 0;\n{begin};\nSELECT 1;")
    (migration,) = read_source(tmp_path)
    (problem,) = migration.up.problems
    assert (problem.line, problem.rule) == (2, "transaction-control")
    assert said in problem.message
    assert ("has no effect" in problem.message) == (said == "has no effect")
