"""The check that every entity is complete: each missing part is named with its place."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ops.entity.generate import generated, write_all
from ops.entity.specification import specify
from scripts import check
from scripts.check_entities import problems
from tests.promises import promise
from tests.unit.entity.conftest import EVERY_TYPE, ROOT

# The file of a part, what is removed from it as a pattern, and what the check reports.
PARTS = [
    ("db/entities.py", r'    Entity\("team", "teams"\),\n', "db/entities.py: no Entity(..., 'teams')"),
    ("db/entities.py", r'    Entity\("team", "teams"\),\n', "db/entities.py: no entity or feed 'team'"),
    ("db/models.py", r"(?<=class )Team\b", "db/models.py: no Team"),
    ("db/models.py", r"(?<=class )NewTeam\b", "db/models.py: no NewTeam"),
    ("db/models.py", r"TEAM_SCHEMA", "db/models.py: no TEAM_SCHEMA"),
    ("db/_async/access.py", r"        self.teams = .*\n", "db/_async/access.py: no line self.teams ="),
    ("db/_async/teams.py", r"(?s).*", "db/_async/teams.py: no KIND"),
    ("db/_async/teams.py", r"AsyncTeamRepository", "db/_async/teams.py: no class AsyncTeamRepository"),
    ("tests/entities/teams.py", r"CASE", "tests/entities/teams.py: no CASE"),
    *(
        ("db/queries/teams.sql", rf"-- name: {name} ", f"db/queries/teams.sql: no query {name}")
        for name in (
            *("find_team", "find_teams", "list_teams", "count_teams", "find_team_versions", "add_team"),
            *("update_team", "delete_team", "delete_teams", "find_team_by_slug", "upsert_team", "upsert_teams"),
        )
    ),
    *(
        ("db/migrations/*_teams.up.sql", pattern, f"db/migrations: no {said}")
        for pattern, said in (
            (r"(?s)CREATE TABLE.*?\n\);", "CREATE TABLE teams"),
            (r"(?s)CREATE TRIGGER teams_start_version.*?;", "trigger BEFORE INSERT ON teams that calls start_row"),
            (r"(?s)CREATE TRIGGER teams_row_version.*?;", "trigger BEFORE UPDATE ON teams that calls keep_row"),
            (r"(?s)CREATE TRIGGER teams_outbox_insert.*?;", "trigger AFTER INSERT ON teams that calls write_record"),
            (r"(?s)CREATE TRIGGER teams_outbox_update.*?;", "trigger AFTER UPDATE ON teams that calls write_record"),
            (r"(?s)CREATE TRIGGER teams_outbox_delete.*?;", "trigger AFTER DELETE ON teams that calls write_record"),
            (r"(?s)CREATE TRIGGER teams_outbox_truncate.*?;", "trigger BEFORE TRUNCATE ON teams that calls write_trun"),
            (r"GRANT .* TO app;", "the grants of teams to app"),
            (r"GRANT SELECT ON teams TO readonly;", "grant of SELECT on teams to readonly"),
            # A typing error in the entity's name.
            (r"record_outbox\('team'\)", "trigger AFTER DELETE ON teams that calls write_record_outbox('team')"),
        )
    ),
]  # fmt: skip


@promise("`make check` names each missing part of an entity")
def test_a_missing_part_is_named_with_its_place(checkout: Path) -> None:
    write_all(generated(checkout, specify(checkout, "team", None, EVERY_TYPE, "slug")))
    for path, pattern, expected in PARTS:
        (file,) = checkout.glob(path)
        text = file.read_text()
        replacement = "" if pattern.endswith((r"\n", ";", "*")) else "Removed"
        file.write_text(re.sub(pattern, replacement, text))
        assert file.read_text() != text
        assert expected in "\n".join(problems(checkout)), (path, pattern)
        file.write_text(text)
    for path in ("db/queries/teams.sql", "db/_async/teams.py", "tests/entities/teams.py"):
        moved = (checkout / path).rename(checkout / "moved")
        assert any(line.startswith(f"{path}: no ") for line in problems(checkout)), path
        moved.rename(checkout / path)


@promise("`make check` names each missing part of an entity", control=True)
@pytest.mark.parametrize("key", ["slug", None])
def test_a_complete_entity_has_no_problem(checkout: Path, key: str | None) -> None:
    write_all(generated(checkout, specify(checkout, "team", None, EVERY_TYPE, key)))
    assert list(problems(checkout)) == []


def test_this_checkout_is_complete_and_make_check_runs_the_check() -> None:
    assert list(problems(ROOT)) == []
    assert "scripts.check_entities" in check.STEPS["entities"]
