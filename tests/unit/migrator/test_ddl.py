"""Classification of SQL statements."""

from __future__ import annotations

from db.migrator.ddl import Effect, effects
from db.migrator.script import split_statements
from tests.cases import in_case


def test_a_statement_is_classified() -> None:
    cases: list[tuple[str, list[Effect]]] = [
        (
            "CREATE TABLE groundwork.Users (a int, b int)",
            [Effect("create", "table", "users", schema="groundwork")],
        ),
        (
            'CREATE UNLOGGED TABLE IF NOT EXISTS "A ""b"" c" ()',
            [Effect("create", "table", 'A "b" c', is_conditional=True)],
        ),
        ("CREATE TEMP TABLE t ()", [Effect("create", "table", "t", is_temporary=True)]),
        (
            "CREATE GLOBAL TEMPORARY TABLE IF NOT EXISTS t ()",
            [Effect("create", "table", "t", is_temporary=True)],
        ),
        ("CREATE TABLE pg_temp.t ()", [Effect("create", "table", "t", schema="pg_temp", is_temporary=True)]),
        ("CREATE OR REPLACE TEMP VIEW v AS SELECT 1", [Effect("create", "view", "v", is_temporary=True)]),
        (
            "SELECT (SELECT 1) INTO LOCAL TEMP TABLE t FROM u",
            [Effect("create", "table", "t", is_temporary=True)],
        ),
        ("WITH w AS (SELECT 1) SELECT * INTO n.t FROM w", [Effect("create", "table", "t", schema="n")]),
        ("WITH w AS (SELECT 1) INSERT INTO t SELECT * FROM w", []),
        ("SELECT 'x into y', \"into\" FROM t", []),
        (
            "CREATE TABLE p PARTITION OF t FOR VALUES IN (1)",
            [Effect("create", "table", "p", is_partition=True)],
        ),
        ("CREATE UNIQUE INDEX i ON ONLY n.t (a)", [Effect("create", "index", "i", on="t", schema="n")]),
        ("CREATE INDEX ON t (a)", [Effect("create", "index", "", on="t")]),
        (
            "CREATE INDEX CONCURRENTLY IF NOT EXISTS i ON t (a)",
            [Effect("create", "index", "i", on="t", is_concurrent=True, is_conditional=True)],
        ),
        ("CREATE MATERIALIZED VIEW v AS SELECT 1", [Effect("create", "view", "v")]),
        (
            "CREATE OR REPLACE VIEW n.v AS SELECT 1",
            [Effect("create", "view", "v", schema="n", is_conditional=True)],
        ),
        (
            "CREATE OR REPLACE FUNCTION f(a int) RETURNS int AS $$ $$",
            [Effect("create", "function", "f", arguments="a int", is_conditional=True)],
        ),
        ("CREATE TYPE n.mood AS ENUM ('ok')", [Effect("create", "type", "mood", schema="n")]),
        (
            "CREATE OR REPLACE TRIGGER t BEFORE UPDATE OF a ON n.users EXECUTE FUNCTION f()",
            [Effect("create", "trigger", "t", on="users", schema="n", is_conditional=True)],
        ),
        (
            "CREATE CONSTRAINT TRIGGER t AFTER INSERT ON users EXECUTE FUNCTION f()",
            [Effect("create", "trigger", "t", on="users")],
        ),
        ("CREATE SCHEMA IF NOT EXISTS s", [Effect("create", "schema", "s", is_conditional=True)]),
        (
            "DROP TABLE IF EXISTS a, n.b CASCADE",
            [Effect("drop", "table", "a"), Effect("drop", "table", "b", schema="n")],
        ),
        (
            "DROP FUNCTION f(int, text), g()",
            [
                Effect("drop", "function", "f", arguments="int , text"),
                Effect("drop", "function", "g", arguments=""),
            ],
        ),
        ("DROP INDEX CONCURRENTLY n.i", [Effect("drop", "index", "i", is_concurrent=True, schema="n")]),
        ("DROP TRIGGER t ON n.users", [Effect("drop", "trigger", "t", on="users", schema="n")]),
        (
            "ALTER TABLE ONLY n.t ADD COLUMN IF NOT EXISTS a int DEFAULT f(1, 2), DROP b, ADD CHECK (a > 0)",
            [
                Effect("create", "column", "a", on="t", schema="n", is_conditional=True),
                Effect("drop", "column", "b", on="t", schema="n"),
            ],
        ),
        ("ALTER TABLE t ADD FOREIGN KEY (a) REFERENCES u, DROP CONSTRAINT IF EXISTS c", []),
        ("ALTER TABLE t ALTER COLUMN a DROP NOT NULL, ALTER b SET DEFAULT 1", []),
        ("ALTER TABLE t RENAME TO u", [Effect("rename", "table", "t", to="u")]),
        ("ALTER TABLE t RENAME COLUMN a TO b", [Effect("rename", "column", "a", on="t", to="b")]),
        ("ALTER TABLE t RENAME a TO b", [Effect("rename", "column", "a", on="t", to="b")]),
        ("ALTER TABLE t RENAME CONSTRAINT a TO b", []),
        ("ALTER INDEX i RENAME TO j", [Effect("rename", "index", "i", to="j")]),
        (
            "ALTER FUNCTION f(int, text) RENAME TO g",
            [Effect("rename", "function", "f", to="g", arguments="int , text")],
        ),
        (
            "GRANT SELECT (a, b), UPDATE ON TABLE n.t, u TO app",
            [Effect("grant", "table", "t", schema="n"), Effect("grant", "table", "u")],
        ),
        ("GRANT SELECT ON ALL TABLES IN SCHEMA n TO app", [Effect("grant", "table", "*", schema="n")]),
        ("GRANT EXECUTE ON FUNCTION f() TO app", []),
        ("SELECT 'DROP TABLE a'", []),
        ('CREATE "table" t', []),
        ("DROP", []),
        ("CREATE TABLE", []),
        ("ALTER TABLE", []),
    ]
    for sql, expected in cases:
        with in_case(sql, expected):
            (statement,) = split_statements(sql)
            assert list(effects(statement)) == expected
