"""The boundaries of statements, by psql's rules."""

import random

import pytest

from db.migrator import script
from db.migrator.script import Statement, line_at, split_statements, unterminated_at
from tests.cases import in_case


def texts(sql: str) -> list[str]:
    return [statement.text for statement in split_statements(sql)]


def test_a_semicolon_inside_a_statement_does_not_end_it() -> None:
    cases: list[str] = [
        "SELECT ';'",
        "SELECT 'it''s; fine'",
        r"SELECT E'\';'",
        "SELECT E'a' \n '\\';b'",
        "SELECT E'a'--it's\n'\\';b'",
        "SELECT e'a'--\r--;\r\n\f\t'\\';b'\n'\\';c'",
        "SELECT E'a\\'' /* not continued */ , ';b\\'",
        "SELECT 'a'--;\n';b\\'",
        "SELECT U&'a'--;\n';b\\'",
        "PREPARE p AS SELECT $1E'\\';b'",
        "SELECT U&'\\0041;'",
        'SELECT 1 AS "a;""b;"',
        "SELECT $$;$$",
        "SELECT $fn$ ; $$ ; $other$ ; $fn$",
        "SELECT $ä$;$ä$",
        "SELECT a$b$c, 1",
        "SELECT 1 -- ; not here",
        "SELECT 1 /* ; /* ; */ ; */ + 2",
        "CREATE RULE r AS ON INSERT TO t DO (DELETE FROM a; DELETE FROM b)",
        "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1; SELECT CASE WHEN true THEN 1 END; END",
        "CREATE OR REPLACE PROCEDURE p() BEGIN ATOMIC SELECT 1; END",
        "SELECT 1 /* not closed ;",
        "SELECT 'not closed ;",
    ]
    for statement in cases:
        with in_case(statement):
            # An unclosed quote extends to the end of the text.
            follows = "" if "not closed" in statement else "\n; SELECT 'next'"
            expected = [statement.split(" -- ")[0]] + (["SELECT 'next'"] if follows else [])
            assert texts(statement + follows) == expected


def test_a_quote_or_comment_that_is_not_closed_is_found() -> None:
    parts = [
        "'a",
        r"E'a\'",
        "E'a'\n'b",
        "E'a\\",
        "E'a' -- c\n'\\'",
        '"a',
        "$$ a $",
        "$a$ $$",
        "/* /* */",
        "'a''",
    ]
    for part in parts:
        with in_case(part):
            assert unterminated_at(f"SELECT 1; {part}") == len("SELECT 1; ")
    closed = [
        r"'a\'",
        "'a''b'",
        r"E'a\''",
        "E'a'\n'\\'--'",
        '"a"""',
        "$$$$",
        "$a$ $$ $a$",
        "/* /* */ */",
        "$",
        "-- '",
    ]
    for part in closed:
        with in_case(part):
            assert unterminated_at(f"SELECT 1; {part}") is None


def test_a_script_without_a_statement_is_empty() -> None:
    cases: list[str] = ["", "  \n\t", "-- only this", "/* a /* b */ c */", ";;\n;", "-- no-transaction\n"]
    for sql in cases:
        with in_case(sql):
            assert texts(sql) == []


def test_an_unclosed_comment_is_left_to_the_server() -> None:
    assert texts("SELECT 1; /* open ; SELECT 2") == ["SELECT 1", "/* open ; SELECT 2"]


def test_a_dollar_inside_an_identifier_opens_no_quote() -> None:
    assert texts("SELECT a$b; SELECT c$d") == ["SELECT a$b", "SELECT c$d"]


def test_begin_outside_a_routine_is_a_separate_statement() -> None:
    assert texts("BEGIN; SELECT 1; END") == ["BEGIN", "SELECT 1", "END"]


def test_comments_before_a_statement_do_not_belong_to_it() -> None:
    (statement,) = split_statements("-- why\n/* and how */\n  SELECT 1 -- there\n;\n")
    assert statement.text == "SELECT 1"
    assert statement.offset == len("-- why\n/* and how */\n  ")


def test_a_statement_is_identified_by_its_first_words() -> None:
    (statement,) = split_statements('CREATE /* x */ UNIQUE\nINDEX Concurrently "name" ON t (a)')
    assert statement.head == "create unique index concurrently on"


def test_lines_are_counted_from_one() -> None:
    cases: list[tuple[int, int]] = [(0, 1), (1, 1), (2, 2), (4, 3), (5, 4)]
    for offset, line in cases:
        with in_case(offset, line):
            assert line_at("a\nb\n\nc", offset) == line


def test_no_character_of_a_statement_is_lost() -> None:
    sql = "SELECT 1;\r\nSELECT\t'ü';SELECT 3"
    for statement in split_statements(sql):
        assert sql[statement.offset :].startswith(statement.text)


PARTS = [
    *(
        "insert",
        "create",
        "function",
        "begin",
        "atomic",
        "end",
        "case",
        "e",
        "E",
        "x",
        "U&",
        "a$b",
        "\u00fc",
        "\ufeff",
    ),
    *(
        "'a'",
        "'a;b'",
        "'",
        '"',
        '"q;"',
        "$$",
        "$a$",
        "$",
        "E'\\';'",
        "E'a' -- '\n'\\';'",
        "''",
        "\\'",
        ";",
        ";",
        ";",
        "(",
        ")",
        "(1; 2)",
    ),
    *("--", "-- c ;\n", "/*", "*/", "/", "-", "1", "1e", "1.5", "\n", " ", "\r", "=", "::", ",", "((((1))))"),
]


def by_tokens(sql: str) -> list[Statement]:
    """Split without the pattern for plain statements."""
    found, position = [], len("\ufeff") if sql.startswith("\ufeff") else 0
    while position < len(sql):
        statement, position = script._next_statement(sql, position)
        found += [statement] if statement is not None else []
    return found


def test_plain_statements_have_the_same_boundaries_as_by_tokens() -> None:
    chosen = random.Random(7)
    for _ in range(5_000):
        count = chosen.randint(1, 20)
        sql = "".join(part + chosen.choice(["", " "]) for part in chosen.choices(PARTS, k=count))
        assert list(split_statements(sql)) == by_tokens(sql), sql


def test_most_statements_need_no_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(script, "_next_statement", None)
    assert texts("-- why\nINSERT INTO t VALUES (1, 'a;b', (-2), 3 / 4) ;\nUPDATE \"t\" SET a = 'it''s';") == [
        "INSERT INTO t VALUES (1, 'a;b', (-2), 3 / 4)",
        "UPDATE \"t\" SET a = 'it''s'",
    ]
