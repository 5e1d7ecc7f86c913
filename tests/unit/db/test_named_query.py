"""The format of db/queries/*.sql, and a check that every file follows it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from db.named_query import QUERIES_DIR, parse_queries, queries, read_queries
from tests.cases import in_case

GOOD = """-- About the file.

-- name: find_thing :read
-- A thing
-- by its id.
-- takes: id int, name str | None, ids list[int], day date | None, price Decimal, tags list[UUID | None]
-- gives: Thing
-- never null: one, two
SELECT 1;

-- name: add_thing :write
-- One more.
-- takes: nothing
-- gives: nothing
INSERT INTO things VALUES (1)
"""
NOTHING = "-- takes: nothing\n-- gives: nothing\n"


def test_only_a_line_end_ends_a_line() -> None:
    (found,) = parse_queries(
        f"-- name: a :read\n-- One\u2028thing.\n{NOTHING}SELECT '\x85\f\u2028'", "a.sql"
    ).values()
    assert (found.description, found.sql) == ("One\u2028thing.", "SELECT '\x85\f\u2028'".encode())


def test_entries_have_a_name_a_description_and_a_statement() -> None:
    found = parse_queries(GOOD, "things.sql")
    assert list(found) == ["find_thing", "add_thing"]
    assert found["find_thing"].description == "A thing by its id."
    assert found["find_thing"].sql == b"SELECT 1"
    assert found["find_thing"].takes == {
        "id": "int",
        "name": "str | None",
        "ids": "list[int]",
        "day": "date | None",
        "price": "Decimal",
        "tags": "list[UUID | None]",
    }
    assert (found["find_thing"].gives, found["add_thing"].gives) == ("Thing", None)
    assert found["find_thing"].never_null == {"one", "two"}
    assert found["add_thing"].takes == {}
    assert [query.is_read for query in found.values()] == [True, False]


def test_an_invalid_file_is_refused() -> None:
    cases: list[tuple[str, str]] = [
        ("-- name: find_thing\n-- It.\nSELECT 1", "should read"),
        ("-- name: Find :read\n-- It.\nSELECT 1", "should read"),
        ("-- name: find_thing :maybe\n-- It.\nSELECT 1", "should read"),
        ("-- name: find_thing :read\nSELECT 1", "needs a description"),
        ("-- name: find_thing :read\n-- It.", "needs a description and a statement"),
        (GOOD + f"-- name: add_thing :write\n-- Again.\n{NOTHING}SELECT 1", "add_thing is defined twice"),
        ("-- name: find_thing :read\n-- It.\n-- gives: int\nSELECT 1", "find_thing needs `-- takes: ...`"),
        (
            "-- name: find_thing :read\n-- It.\n-- takes: nothing\nSELECT 1",
            "find_thing needs `-- gives: ...`",
        ),
        (
            "-- name: find_thing :read\n-- It.\n-- takes: id\n-- gives: int\nSELECT 1",
            "'id' in `takes` should read",
        ),
        (
            "-- name: find_thing :read\n-- It.\n-- takes: id bigint\n-- gives: int\nSELECT 1",
            r"id in `takes` has the unknown type 'bigint'; write int, str, .*, UUID, or a list",
        ),
        (
            "-- name: find_thing :read\n-- It.\n-- takes: ids list[bigint]\n-- gives: int\nSELECT 1",
            r"ids in `takes` has the unknown type 'list\[bigint\]'; write int",
        ),
        (
            "-- name: find_thing :read\n-- It.\n-- takes: id int or None\n-- gives: int\nSELECT 1",
            r"unknown type 'int or None'; write .* ` \| None` if it may be null",
        ),
        (
            "-- name: find_thing :read\n-- It.\n-- takes: id int, id str\n-- gives: int\nSELECT 1",
            "`takes` lists id twice",
        ),
    ]
    for text, message in cases:
        with in_case(text, message):
            with pytest.raises(ValueError, match=rf"things.sql:\d+: .*{message}"):
                parse_queries(text, "things.sql")


def test_an_invalid_entry_is_reported_with_its_line() -> None:
    with pytest.raises(ValueError, match=r"^things.sql:11: query add_thing needs `-- gives: ...`"):
        parse_queries(
            GOOD.replace("-- takes: nothing\n-- gives: nothing\n", "-- takes: nothing\n"), "things.sql"
        )


def test_a_first_entry_is_never_ignored(tmp_path: Path) -> None:
    path = tmp_path / "things.sql"
    path.write_text("\ufeff" + GOOD.removeprefix("-- About the file.\n\n"), encoding="utf-8")
    assert list(read_queries(path)) == ["find_thing", "add_thing"]
    path.write_text("/* About\n the file. */\n" + GOOD.replace("-- name: find_thing :read", "find_thing", 1))
    with pytest.raises(ValueError, match=r"^things.sql:5: no line `-- name: a_name :read`"):
        read_queries(path)


def test_a_misspelled_header_is_not_part_of_the_entry_above() -> None:
    for name, line in (("find_thing", 3), ("add_thing", 11)):
        for header in ("--name: {}", " -- name: {}", "-- Name: {}", "--  NAME : {}", "-- name:{}"):
            with in_case(name, header):
                text = GOOD.replace(f"-- name: {name}", header.format(name), 1)
                with pytest.raises(ValueError, match=rf"^things.sql:{line}: .*should read `-- name: a_name"):
                    parse_queries(text, "things.sql")


def test_a_file_that_is_not_utf_8_is_named(tmp_path: Path) -> None:
    path = tmp_path / "things.sql"
    path.write_bytes(GOOD.encode() + b"\xff")
    with pytest.raises(ValueError, match=r"^things.sql is not UTF-8 \(byte \d+\)"):
        read_queries(path)


def test_a_nul_byte_is_refused_with_its_line() -> None:
    text = GOOD.replace("SELECT 1", "SELECT 1\nFROM things \0WHERE id = 1", 1)
    line = text.partition("\0")[0].count("\n") + 1
    with pytest.raises(ValueError, match=rf"^things.sql:{line}: a NUL byte would cut the statement off"):
        parse_queries(text, "things.sql")


def test_every_file_is_valid_and_has_descriptions() -> None:
    files = sorted(QUERIES_DIR.glob("*.sql"))
    assert len(files) > 5
    for path in files:
        with in_case(path):
            found = queries(path.stem)
            assert found
            for query in found.values():
                # A statement that may be sent twice must not change anything.
                first_word = query.sql.split()[0].upper()
                assert query.is_read <= (first_word in (b"SELECT", b"WITH")), query.name


def test_names_are_unique_across_files() -> None:
    names = [name for path in QUERIES_DIR.glob("*.sql") for name in queries(path.stem)]
    assert sorted(names) == sorted(set(names))


def test_the_repositories_contain_no_sql() -> None:
    for path in (QUERIES_DIR.parent / "_async").glob("*.py"):
        assert not re.search(r"\b(SELECT|INSERT INTO|UPDATE \w+ SET|DELETE FROM)\b", path.read_text()), path
