"""The lockfile: the problems that `make check` finds without a server."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import db.rows
from db.named_query import NamedQuery
from ops.errors import OpsError
from ops.sql_check.declared import all_queries
from ops.sql_check.lockfile import LOCKFILE, offline_problems
from tests.promises import promise

QUERIES = all_queries()
ONE = {"users.find_user": QUERIES["users.find_user"]}


def _locked(tmp_path: Path, change: Any) -> Path:
    content = json.loads(LOCKFILE.read_text())
    content["queries"] = {key: entry for key, entry in content["queries"].items() if key in ONE}
    change(content)
    file = tmp_path / "queries.lock.json"
    file.write_text(json.dumps(content))
    return file


def test_the_queries_of_this_checkout_agree_with_their_lockfile() -> None:
    assert offline_problems(QUERIES) == []


@promise("a stale lockfile is detected without a server")
def test_a_lockfile_of_other_migrations_is_stale(tmp_path: Path) -> None:
    file = _locked(tmp_path, lambda content: content.update(migrations="other"))
    (line,) = offline_problems(ONE, file)
    assert "the migrations have changed" in line
    assert "groundwork sql check --update" in line


@promise("a stale lockfile is detected without a server")
def test_a_query_that_was_changed_added_or_removed_is_named(tmp_path: Path) -> None:
    file = _locked(tmp_path, lambda content: None)
    assert offline_problems(ONE, file) == []
    changed = {"users.find_user": replace(ONE["users.find_user"], sql=b"SELECT 1")}
    assert "users.find_user: changed" in offline_problems(changed, file)[0]
    added = ONE | {"users.other": ONE["users.find_user"]}
    assert "users.other: new" in offline_problems(added, file)[0]
    assert "users.find_user: removed since the last check" in offline_problems({}, file)[0]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"takes": {"id": "str"}}, "parameter id is str in Python and int in Postgres"),
        ({"takes": {}}, "parameter id (int) is not in `takes`"),
        ({"takes": {"id": "int", "more": "int"}}, "`takes` has more, which the statement does not use"),
        ({"gives": "Organization"}, "Organization has the fields id, github_id, name"),
        ({"gives": "int"}, "int has the fields int, but the statement the columns id, github_id"),
    ],
)
def test_python_types_are_compared_with_the_lockfile(tmp_path: Path, change: Any, said: str) -> None:
    file = _locked(tmp_path, lambda content: None)
    query: NamedQuery = replace(ONE["users.find_user"], **change)
    lines = offline_problems({"users.find_user": query}, file)
    assert any(f"users.find_user: {said}" in line for line in lines), lines


def test_a_read_that_changes_rows_is_reported_without_a_server(tmp_path: Path) -> None:
    writes = {key: query for key, query in QUERIES.items() if not query.is_read}
    for key in ("users.update_user", "activities.copy_activities", "idempotency.claim_key"):
        marked = QUERIES | {key: replace(writes[key], is_read=True)}
        (line,) = offline_problems(marked)
        assert line.startswith(f"{key}: changes rows; mark it as `:write`"), line


def test_a_name_that_models_and_rows_both_define_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(db.rows, "User", db.rows.Position, raising=False)
    with pytest.raises(OpsError, match=r"query find_user: `gives` is 'User', which db\.models and db\.rows"):
        offline_problems(ONE, _locked(tmp_path, lambda content: None))


def test_an_invalid_lockfile_is_reported(tmp_path: Path) -> None:
    (line,) = offline_problems(ONE, tmp_path / "none.json")
    assert "cannot read" in line


@pytest.mark.parametrize("content", ["{}", "[]", '{"migrations": 1}', "null"])
def test_a_lockfile_in_another_format_is_reported(tmp_path: Path, content: str) -> None:
    file = tmp_path / "queries.lock.json"
    file.write_text(content)
    (line,) = offline_problems(ONE, file)
    assert "groundwork sql check --update" in line


def test_never_null_marks_are_part_of_the_lockfile(tmp_path: Path) -> None:
    file = _locked(tmp_path, lambda content: None)
    marked = {"users.find_user": replace(ONE["users.find_user"], never_null=frozenset({"email"}))}
    assert "users.find_user: changed" in offline_problems(marked, file)[0]
