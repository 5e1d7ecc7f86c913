"""Queries of an application for a rehearsal: the columns of their parameters, and the files that have them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from infra.spec.errors import UnreadableFile
from ops.errors import Exit, OpsError
from ops.migrations.rehearsal.query_sources import numbered_query, queries_of_folder
from tests.cases import in_case


def test_a_parameter_is_named_by_its_column() -> None:
    cases: list[tuple[str, str]] = [
        ("SELECT a FROM t WHERE id = $1", "SELECT a FROM t WHERE id = %(id)s"),
        ('SELECT 1 FROM t WHERE t."Id" = $1', 'SELECT 1 FROM t WHERE t."Id" = %(Id)s'),
        (
            "SELECT 1 FROM t WHERE id = ANY($1) AND b >= $2",
            "SELECT 1 FROM t WHERE id = ANY(%(id)s) AND b >= %(b)s",
        ),
        ("SELECT 1 FROM t WHERE n ILIKE $1 LIMIT $2", "SELECT 1 FROM t WHERE n ILIKE %(n)s LIMIT %(limit)s"),
        ("UPDATE t SET a = $2 WHERE b = $1", "UPDATE t SET a = %(a)s WHERE b = %(b)s"),
        ("INSERT INTO s.t (a, b) VALUES ($1, $2)", "INSERT INTO s.t (a, b) VALUES (%(a)s, %(b)s)"),
        ("INSERT INTO t (a, b) VALUES (f($1, 2), $2)", "INSERT INTO t (a, b) VALUES (f(%(p1)s, 2), %(b)s)"),
        ("SELECT '$1', a % 2 FROM t WHERE f($1)", "SELECT '$1', a %% 2 FROM t WHERE f(%(p1)s)"),
        ("SELECT $1::int, $1", "SELECT %(p1)s::int, %(p1)s"),
        ("SELECT $$ $1 $$", "SELECT $$ $1 $$"),
    ]
    for sql, named in cases:
        with in_case(sql, named):
            assert numbered_query("q", sql).sql.decode() == named


def test_only_a_plain_select_is_a_read() -> None:
    cases: list[tuple[str, bool]] = [
        ("SELECT 1", True),
        ("SELECT 1 FROM t FOR UPDATE", False),
        ("WITH a AS (DELETE FROM t RETURNING 1) SELECT 1", False),
        ("INSERT INTO t VALUES (1)", False),
    ]
    for sql, is_read in cases:
        with in_case(sql, is_read):
            assert numbered_query("q", sql).is_read is is_read


def test_queries_are_read_from_sql_files_and_from_sqlx(tmp_path: Path) -> None:
    (tmp_path / "one.sql").write_text("-- why\nSELECT 1;\n")
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "two.sql").write_text("SELECT 1; SELECT 2;\n")
    (tmp_path / "named.sql").write_text(
        "-- name: get :read\n-- Get it.\n-- takes: id int\n-- gives: int\nSELECT %(id)s::int;\n"
    )
    cached = {
        "db_name": "PostgreSQL",
        "query": "SELECT id\nFROM t WHERE id = $1",
        "describe": {},
        "hash": "a",
    }
    (tmp_path / "query-0123456789.json").write_text(json.dumps(cached))
    (tmp_path / "query-1.json").write_text(json.dumps(cached | {"db_name": "SQLite"}))
    (tmp_path / "package.json").write_text("[]")
    assert set(queries_of_folder(tmp_path)) == {
        "one", "deep/two.1", "deep/two.2", "named.get", "0123456789: SELECT id FROM t WHERE id = $1",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("readme.md", b"SELECT 1", "has no queries"),
        ("a.sql", b"-- nothing", "has no queries"),
        ("query-a.json", b"{", "is not valid JSON"),
        ("a.sql", b"-- name: a :read\nSELECT 1", "needs a description"),
    ],
)
def test_a_folder_without_readable_queries_is_refused(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(OpsError, match=message) as caught:
        queries_of_folder(tmp_path)
    assert caught.value.exit_code == Exit.USAGE


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.sql").write_text("SELECT 1")
    path = tmp_path / "b.sql"
    path.symlink_to("gone.sql")
    with pytest.raises(UnreadableFile, match=r"cannot read .*b\.sql: No such file"):
        queries_of_folder(tmp_path)
    path.unlink()
    path.write_bytes(b"\xff")
    with pytest.raises(UnreadableFile, match="is not UTF-8"):
        queries_of_folder(tmp_path)
