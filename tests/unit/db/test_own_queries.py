"""Files of an application's own queries, and what is refused in them."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from uuid import UUID

import pytest

from db import load_queries, own_queries, validation
from db.errors import InvalidInput
from db.named_query import QUERIES_DIR, SCALARS, NamedQuery
from db.own_queries import checked_parameters
from tests.cases import in_case

ENTRY = "-- name: a_query :{mode}\n-- Do something.\n-- takes: {takes}\n-- gives: {gives}\n{sql};\n"


def _load(sql: str, takes: str = "nothing", gives: str = "int", mode: str = "write") -> NamedQuery:
    return load_queries(ENTRY.format(sql=sql, takes=takes, gives=gives, mode=mode))["a_query"]


def test_a_file_and_a_string_give_the_same_queries() -> None:
    path = QUERIES_DIR / "organizations.sql"
    assert load_queries(path) == load_queries(path.read_text())
    assert load_queries("") == {}


def test_a_file_that_does_not_exist_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load_queries(tmp_path / "missing.sql")


def test_statements_that_read_or_write_rows_are_accepted() -> None:
    cases: list[str] = [
        "SELECT 1",
        "(SELECT 1) UNION SELECT 2",
        "WITH a AS (SELECT 1) SELECT * FROM a",
        "values (1)",
        "DELETE FROM a RETURNING 1",
    ]
    for sql in cases:
        with in_case(sql):
            _load(sql)


def test_statements_that_change_the_session_or_the_transaction_are_refused() -> None:
    cases: list[str] = [
        "COMMIT",
        "rollback",
        "BEGIN",
        "SAVEPOINT a",
        "SET search_path = public",
        "COPY a FROM STDIN",
        "LISTEN a",
        "DISCARD ALL",
        "DEALLOCATE ALL",
        "SELECTED",
        "/* a */ COMMIT",
        "CALL a()",
        "DO $$ $$",
    ]
    for sql in cases:
        with in_case(sql):
            with pytest.raises(ValueError, match="a_query: begins with"):
                _load(sql)


def test_quoted_text_is_not_taken_for_sql() -> None:
    for sql in (
        "SELECT 'a; COMMIT', 'it''s; x', \"DELETE FROM\" -- ; x",
        "SELECT $$ ; $$, $a$ $$ ; UPDATE b SET $a$ /* ; */",
        "SELECT id FROM a FOR UPDATE OF a",
        "SELECT '%%(a)s' -- %%(b)s",
    ):
        _load(sql, mode="read")


def test_an_escaped_quote_does_not_end_its_text() -> None:
    _load(r"SELECT E'it\'s; %%', %(a)s, e'\\'", takes="a int")


def test_declarations_must_fit_the_statement() -> None:
    for arguments, why in (
        ({"sql": "SELECT %(a)s"}, "a must be both"),
        ({"sql": "SELECT 1", "takes": "a int"}, "a must be both"),
        ({"sql": "SELECT 1 -- %(a)s", "takes": "a int"}, r"a is only in a comment .* write %%\(a\)s"),
        ({"sql": "SELECT '%%%(a)s'"}, "a is only in a comment or in quotes"),
        ({"sql": "UPDATE a SET b = 1", "gives": "nothing", "mode": "read"}, "mark it as `:write`"),
        (
            {"sql": "WITH a AS (DELETE\nFROM b RETURNING c) SELECT c FROM a", "mode": "read"},
            "mark it as `:write`",
        ),
        ({"sql": "WITH a AS (DELETE/* */FROM b) SELECT 1", "mode": "read"}, "mark it as `:write`"),
        ({"sql": "WITH a AS (INSERT --\nINTO b VALUES (1)) SELECT 1", "mode": "read"}, "mark it as `:write`"),
        ({"sql": "UPDATE a SET b = 1"}, "no RETURNING clause"),
        ({"sql": "INSERT INTO a VALUES ('returning')"}, "no RETURNING clause"),
        ({"sql": "SELECT 1; COMMIT"}, "several statements"),
        ({"sql": "SELECT ';' -- it's\n; ROLLBACK"}, "several statements"),
        ({"sql": "SELECT 1", "takes": "a inet"}, "unknown type 'inet'"),
    ):
        with pytest.raises(ValueError, match=why):
            _load(**arguments)


def test_a_parameter_of_each_type_passes() -> None:
    cases: list[tuple[str, object]] = [
        ("date", date(2026, 11, 24)),
        ("Decimal", Decimal("1.50")),
        ("UUID", UUID(int=7)),
        ("float", 1.5),
        ("float", math.inf),
        ("float", -math.inf),
        ("bool", True),
        ("bytes", b"a"),
    ]
    for kind, value in cases:
        with in_case(kind, value):
            one, many = (_load("SELECT %(a)s", takes=f"a {each}") for each in (kind, f"list[{kind} | None]"))
            assert checked_parameters(one, {"a": value}) == {"a": value}
            assert checked_parameters(many, {"a": [value, None]}) == {"a": [value, None]}


def test_an_integer_for_a_float_is_converted_and_nan_passes() -> None:
    query = _load("SELECT %(a)s", takes="a float")
    for value, expected in (
        (2, "2.0"),
        (10**30, "1e+30"),
        (2**53 + 1, "9007199254740992.0"),
        (math.nan, "nan"),
    ):
        sent = checked_parameters(query, {"a": value})["a"]
        assert (type(sent), repr(sent)) == (float, expected)


def test_every_type_of_a_parameter_has_a_check() -> None:
    assert set(own_queries._CHECKS) == set(SCALARS)


def test_a_parameter_of_another_type_is_refused() -> None:
    cases: list[tuple[str, object, str]] = [
        ("date", datetime(2026, 11, 24), "datetime is not a date"),
        ("date", datetime(2026, 11, 24, tzinfo=UTC), "datetime is not a date"),
        ("date", "2026-11-24", "str is not a date"),
        ("Decimal", "a\0b", "str is not a Decimal"),
        ("Decimal", 1.5, "float is not a Decimal"),
        ("Decimal", Decimal("NaN"), "NaN is not a finite number"),
        ("UUID", object(), "object is not a UUID"),
        ("float", 10**400, "is out of range of a float"),
        ("float", -(10**400), "is out of range of a float"),
        ("float", True, "bool is not a float"),
        ("float", "1.5", "str is not a float"),
        ("float", Decimal("1.5"), "Decimal is not a float"),
        ("bool", 1, "int is not a bool"),
        ("bytes", "a", "str is not bytes"),
        ("UUID", str(UUID(int=7)), "str is not a UUID"),
    ]
    for kind, value, why in cases:
        with in_case(kind, value, why):
            for takes, given in ((kind, value), (f"{kind} | None", value), (f"list[{kind}]", [value])):
                with pytest.raises(InvalidInput, match=f"a: {why}"):
                    checked_parameters(_load("SELECT %(a)s", takes=f"a {takes}"), {"a": given})


def test_the_size_of_a_list_of_json_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(validation, "JSON_BYTES", 100)
    query = _load("SELECT %(a)s", takes="a list[dict | None]")
    items = [{"k": "x" * 60}, None, {"k": "x" * 16}]
    assert len(str(checked_parameters(query, {"a": items}))) > 100
    with pytest.raises(InvalidInput, match="a: 101 bytes of JSON are too many; use up to 100 at once"):
        checked_parameters(query, {"a": [*items[:2], {"k": "x" * 17}]})
